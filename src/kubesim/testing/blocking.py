"""kubewire without async: each verb of `kubewire.Client` as a call that returns when it is done.

The calls run in an event loop of another thread, so they work in tests that have no event loop and in those that have
one (which they block meanwhile: use `Cluster.connect` there).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Concatenate, ParamSpec, TypeVar

from kubesim.testing.loopthread import LoopThread
from kubewire.client import Client
from kubewire.requests import JsonObject
from kubewire.resources import Resource
from kubewire.watch import ADDED, DELETED, MODIFIED, RELISTED

P = ParamSpec("P")
R = TypeVar("R")

_OUTER_BOUND = 60.0  # every call has its own, shorter deadline; this one is for what nobody thought of


class NotInTime(AssertionError):
    """What a test waited for has not happened."""


def _blocking(
    verb: Callable[Concatenate[Client, P], Awaitable[R]],
) -> Callable[Concatenate[BlockingClient, P], R]:
    def call(self: BlockingClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        async def work() -> R:
            return await verb(self.client, *args, **kwargs)

        return self.loop.run(work(), _OUTER_BOUND)

    call.__doc__ = verb.__doc__
    return call


class BlockingClient:
    """One API server, as one user."""

    def __init__(self, loop: LoopThread, client: Client) -> None:
        self.loop = loop
        self.client = client

    version = _blocking(Client.version)
    raw = _blocking(Client.raw)
    get = _blocking(Client.get)
    list = _blocking(Client.list)
    create = _blocking(Client.create)
    replace = _blocking(Client.replace)
    patch = _blocking(Client.patch)
    apply = _blocking(Client.apply)
    delete = _blocking(Client.delete)
    delete_collection = _blocking(Client.delete_collection)

    def wait_for(
        self,
        resource: Resource,
        namespace: str | None,
        test: Callable[[JsonObject], object],
        *,
        timeout: float = 10.0,
    ) -> JsonObject:
        """The first object of the collection that passes the test; raises NotInTime."""

        async def look() -> JsonObject:
            async with aclosing(self.client.watch(resource, namespace)) as events:
                async for event in events:
                    for one in _objects(event.type, event.object):
                        if test(one):
                            return one
            raise NotInTime("the watch ended")  # it never does

        return self._bounded(look(), f"no {resource.kind} passed the test", timeout)

    def wait_gone(
        self, resource: Resource, name: str, namespace: str | None = None, *, timeout: float = 10.0
    ) -> None:
        """Until there is no such object; raises NotInTime."""
        selector = f"metadata.name={name}"

        async def look() -> None:
            present = False
            async with aclosing(self.client.watch(resource, namespace, field_selector=selector)) as events:
                async for event in events:
                    if event.type in (ADDED, MODIFIED):
                        present = True
                        continue
                    if event.type == RELISTED:
                        present = bool(event.object["items"])
                    if event.type == DELETED or not present:
                        return

        self._bounded(look(), f"{resource.kind} {name} was still there", timeout)

    def _bounded(self, work: Coroutine[Any, Any, R], what: str, timeout: float) -> R:
        try:
            return self.loop.run(work, timeout)
        except TimeoutError:
            raise NotInTime(f"{what} within {timeout:g} s") from None


def _objects(kind: str, body: JsonObject) -> list[JsonObject]:
    if kind == RELISTED:
        return list(body["items"])
    return [body] if kind in (ADDED, MODIFIED) else []
