"""The one clock of a cluster: what time it is, and when to look again.

Whatever belongs to the world that a cluster simulates asks here: the times that objects carry, the schedules, delays
and grace periods of controllers, scheduler and kubelet. What belongs to the wire (deadlines of calls, idle streams,
kept-alive connections) does not: clients live in real time, whatever time it is in the cluster.

A cluster's clock is carried by the context (`contextvars`), as the precision of `decimal` is: every task of a cluster
inherits it, so that several clusters in one process each have their own, and nobody has to hand it on. Where none was
set it is the machine's. `kubesim.testing` has one that can be moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """Something that was asked for with `call_later`."""

    def cancel(self) -> None:
        """Do not call."""

    def when(self) -> float:
        """The time of the call, as `monotonic` counts."""


class Clock:
    """The machine's own."""

    def now(self) -> datetime:
        """What time it is, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment; they never go back."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call when so many seconds have passed, from the running event loop."""
        return asyncio.get_running_loop().call_later(seconds, callback, *args)


_current: ContextVar[Clock] = ContextVar("kubesim_clock", default=Clock())  # noqa: B039 - it has no state


@contextlib.contextmanager
def use(clock: Clock) -> Iterator[None]:
    """Make it the clock of all that is started inside."""
    token = _current.set(clock)
    try:
        yield
    finally:
        _current.reset(token)


def now() -> datetime:
    """What time it is in this cluster, in UTC."""
    return _current.get().now()


def timestamp() -> float:
    """The same, in seconds since 1970."""
    return now().timestamp()


def monotonic() -> float:
    """Seconds since some moment, for durations."""
    return _current.get().monotonic()


def call_later(seconds: float, callback: Callable[..., object], *args: object) -> Timer:
    """Call when so many seconds of this cluster have passed."""
    return _current.get().call_later(seconds, callback, *args)


async def sleep(seconds: float) -> None:
    """Until so many seconds of this cluster have passed."""
    over = asyncio.get_running_loop().create_future()
    timer = call_later(seconds, _end, over)
    try:
        await over
    finally:
        timer.cancel()


async def wait(event: asyncio.Event, seconds: float | None) -> bool:
    """Until the event is set, or so many seconds of this cluster have passed; whether it is set."""
    if seconds is None:
        return await event.wait()
    over = asyncio.get_running_loop().create_future()
    timer = call_later(seconds, _end, over)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((waiting, over), return_when=asyncio.FIRST_COMPLETED)
        return event.is_set()
    finally:
        timer.cancel()
        waiting.cancel()


def _end(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
