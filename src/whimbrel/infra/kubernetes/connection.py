"""One context as one guard, one client and the errors of `whimbrel.model`: what everything else here calls through.

The client is made again when the kubeconfig leads elsewhere. No call is made around the guard.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from kubewire.client import Client
from kubewire.connection import Connection
from kubewire.errors import ConfigError
from kubewire.http import HttpTransport
from whimbrel.infra.guard import Guard
from whimbrel.infra.kubernetes.contexts import Contexts
from whimbrel.infra.kubernetes.failures import translate
from whimbrel.infra.kubernetes.settings import KubernetesSettings

T = TypeVar("T")
_MARGIN = 0.5
RETIREMENT = 600.0
"""Seconds after which a client that leads elsewhere is closed: longer than any call; its streams are waited for."""
_GOODBYE = 1.0
OpenClient = Callable[[Connection, KubernetesSettings], Client]


def open_client(connection: Connection, settings: KubernetesSettings) -> Client:
    """A client over the network."""
    return Client(HttpTransport(connection, settings.deadlines), settings.deadlines)


class Link:
    """The way to one context."""

    def __init__(
        self,
        name: str,
        context: str,
        contexts: Contexts,
        settings: KubernetesSettings,
        *,
        opener: OpenClient = open_client,
    ) -> None:
        self.name = name
        self.settings = settings
        self.guard = Guard(name, lambda what, error: translate(name, what, error), settings.guard)
        self._context = context
        self._contexts = contexts
        self._opener = opener
        self._connection: Connection | None = None
        self._deadlines = settings.deadlines
        self._namespace: str | None = None
        self._client: Client | None = None
        self._retired: list[tuple[Client, float]] = []
        self._streams: Counter[Client] = Counter()

    async def connection(self) -> Connection:
        """Where the context leads now. Raises `ContextNotFound` or `KubeconfigInvalid`."""
        try:
            found = await self._contexts.connection(self._context)
        except ConfigError as error:
            raise translate(self.name, "reading the kubeconfig", error) from error
        self._namespace = found.namespace
        return found

    @property
    def namespace(self) -> str:
        """Where new objects go, as the kubeconfig said when it was last looked at."""
        if self.settings.namespace:
            return self.settings.namespace
        if self._namespace is None:
            raise RuntimeError(f"{self.name}: nothing was asked yet, so that its namespace is not known")
        return self._namespace

    async def client(self) -> Client:
        """The client; a new one when the kubeconfig leads elsewhere or the deadlines are others. Streams of the
        old one go on."""
        connection = await self.connection()
        elsewhere = connection != self._connection
        if self._client is None or elsewhere or self.settings.deadlines != self._deadlines:
            if self._client is not None:
                self._retired.append((self._client, time.monotonic()))
                if elsewhere:
                    self.guard.reset()
            self._connection, self._deadlines = connection, self.settings.deadlines
            self._client = self._opener(connection, self.settings)
        return self._client

    async def call(self, what: str, action: Callable[[Client], Awaitable[T]], *, timeout: float) -> T:
        """One call, guarded. The client's own deadline is a little shorter: it can say more."""
        client = await self.client()
        await self._close_retired()
        return await self.guard.call(what, lambda: action(client), timeout=timeout + _MARGIN)

    @asynccontextmanager
    async def stream(self, what: str) -> AsyncIterator[Client]:
        """A client for something long; what opens it belongs inside of `guard.opening`."""
        client = await self.client()
        async with self.guard.stream(what):
            self._streams[client] += 1
            try:
                yield client
            finally:
                self._streams[client] -= 1
                self._streams += Counter()  # without what is 0

    async def aclose(self) -> None:
        """Close every client."""
        await self.guard.aclose()
        clients = [*(client for client, _ in self._retired), *([self._client] if self._client else [])]
        self._retired, self._client = [], None
        for client in clients:
            await client.aclose()

    async def _close_retired(self) -> None:
        """A kubeconfig that is written anew each day must not cost a client each day."""
        before = time.monotonic() - RETIREMENT
        done = [client for client, at in self._retired if at <= before and not self._streams[client]]
        if done:
            self._retired = [entry for entry in self._retired if entry[0] not in done]
            with suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE):
                    await asyncio.gather(*(client.aclose() for client in done))
