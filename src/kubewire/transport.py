"""What carries a request: the port behind which HTTP, the in-process API server and test doubles stand.

A transport sends one request once. It knows credentials and connections; it does not retry a change, does not
follow pages, and does not know what a Pod is. All it raises is a `KubeError`: `Unreachable`, `CredentialError`,
`ConfigError`, `StreamBroken`, and from `channel` also the `ApiError` with which the server refused the upgrade.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from kubewire.requests import Request, Response


class ByteStream(Protocol):
    """An answer whose body is still on its way. An error status is not raised: its body is the Status."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Header names are in lower case."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises `StreamBroken` when it breaks off or falls silent for the idle bound."""


class Channel(Protocol):
    """A bidirectional stream of messages (a WebSocket)."""

    @property
    def protocol(self) -> str:
        """The subprotocol that was negotiated."""

    async def send(self, data: bytes) -> None:
        """Send one message; raises `StreamBroken` when the peer takes nothing for the idle bound."""

    async def receive(self) -> bytes | None:
        """The next message; None when the peer has closed in order. Raises `StreamBroken` when it broke, or when
        nothing at all, not even an answer to a ping, has come for the idle bound."""

    async def close(self) -> None:
        """Close from our side; bounded, never raises, may be called twice."""


class Transport(Protocol):
    """The road to one API server, as one user."""

    async def send(self, request: Request, *, timeout: float) -> Response:
        """The complete answer, whatever its status. `timeout` bounds everything: credentials, DNS, TLS, body."""

    def stream(
        self, request: Request, *, connect: float, idle: float
    ) -> AbstractAsyncContextManager[ByteStream]:
        """An open answer. `connect` bounds everything up to its head, `idle` each silence after it."""

    def channel(
        self, request: Request, *, protocols: Sequence[str], connect: float, idle: float
    ) -> AbstractAsyncContextManager[Channel]:
        """A WebSocket that speaks one of the protocols, the first ones preferred."""

    async def aclose(self) -> None:
        """Give everything back: connections, plugin processes, tasks."""
