"""Keeping a watch going: lists, connects, waits, and knows when to give up.

What to ask for next and what the bytes mean is `watch`'s business; this is the loop around it that spends time. A
connection that ends or falls silent is resumed; only what never worked for the whole of the caller's patience is an
error, and what will not mend itself is one at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Protocol

from kubewire.errors import Gone, KubeError, StreamBroken, transient
from kubewire.paging import ObjectList
from kubewire.requests import Request
from kubewire.transport import ByteStream
from kubewire.watch import Backoff, Watch, WatchEvent

_SHORT = 1.0  # a watch that ends sooner, and with nothing, did not work: it must not spin


class Source(Protocol):
    """What `follow` needs of a client."""

    async def list_for(self, watch: Watch) -> ObjectList:
        """The complete collection that is watched."""

    def open_watch(self, request: Request) -> AbstractAsyncContextManager[ByteStream]:
        """The stream of one watch request; an error answer is raised."""


class _Health:
    """When something last worked."""

    def __init__(self, clock: Callable[[], float], patience: float | None) -> None:
        self._clock = clock
        self._patience = patience
        self._last_good = clock()
        self._opened: float | None = None
        self._delivered = False

    def opened(self) -> None:
        """The server has begun to answer a watch."""
        self._opened = self._clock()
        self._delivered = False

    def good(self) -> None:
        """Something was delivered."""
        self._last_good = self._clock()
        self._delivered = True

    def ended(self) -> bool:
        """The round is over, one way or the other. Whether it had worked."""
        lasted = self._opened is not None and self._clock() - self._opened >= _SHORT
        worked = self._delivered or lasted
        if worked:
            self._last_good = self._clock()
        self._opened = None
        self._delivered = False
        return worked

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self._patience is not None and self._clock() - self._last_good >= self._patience

    def bounded(self, delay: float) -> float:
        """The delay, but no longer than patience lasts."""
        if self._patience is None:
            return delay
        return max(0.0, min(delay, self._last_good + self._patience - self._clock()))


async def follow(
    source: Source, watch: Watch, *, patience: float | None, chance: random.Random
) -> AsyncGenerator[WatchEvent, None]:
    """The events of a watch over as many connections as it takes."""
    backoff = Backoff(chance=chance)
    health = _Health(asyncio.get_running_loop().time, patience)
    while True:
        error: KubeError | None = None
        try:
            if watch.needs_list:
                for event in watch.listed(await source.list_for(watch)):
                    yield event
                health.good()
            async with aclosing(_one_connection(source, watch, health)) as events:
                async for event in events:
                    yield event
        except KubeError as failure:
            if isinstance(failure, Gone):
                watch.expired()
            elif not transient(failure):
                raise
            error = failure
        if health.ended():
            backoff.reset()
            if error is None:
                continue  # the server ended the watch when its time was over
        error = error or StreamBroken(f"the server ends each watch of {watch.resource} at once")
        if health.exhausted:
            raise error
        await asyncio.sleep(health.bounded(backoff.delay(error)))


async def _one_connection(source: Source, watch: Watch, health: _Health) -> AsyncGenerator[WatchEvent, None]:
    async with source.open_watch(watch.next_request()) as stream, closed_after(stream.chunks()) as chunks:
        health.opened()
        async for chunk in chunks:
            for event in watch.feed(chunk):
                health.good()
                yield event


@asynccontextmanager
async def closed_after(iterator: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """An iterator that is closed now, and not when the garbage collector finds it."""
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()
