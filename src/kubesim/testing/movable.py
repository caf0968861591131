"""A clock that goes as all clocks do, and can be moved forward.

Moving it is not a jump: it stops at each moment at which somebody wanted to be woken, so that an hour has sixty
minutes for whoever looks once in a minute. Between two stops the caller's `settled` waits until the cluster has done
what there was to do.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from kubesim.clock import Clock


class _Timer:
    __slots__ = ("args", "callback", "cancelled", "due")

    def __init__(self, due: float, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.due = due
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def when(self) -> float:
        return self.due


class MovableClock(Clock):
    """For one event loop. With `start` it begins at that moment (which needs a time zone) instead of at the present."""

    def __init__(self, start: datetime | None = None) -> None:
        self._moved = 0.0
        self._shift = timedelta() if start is None else start - super().now()
        self._order = itertools.count()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._alarm: asyncio.TimerHandle | None = None

    def now(self) -> datetime:
        return super().now() + self._shift + timedelta(seconds=self._moved)

    def monotonic(self) -> float:
        return super().monotonic() + self._moved

    def call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> _Timer:
        timer = _Timer(self.monotonic() + seconds, callback, args)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        if self._timers[0][2] is timer:
            self._set_alarm()
        return timer

    async def advance(self, seconds: float, settled: Callable[[], Awaitable[None]]) -> None:
        """Live through so many seconds."""
        if seconds < 0:
            raise ValueError("time does not go back")
        target = self.monotonic() + seconds
        await settled()
        while (due := self._next()) is not None and due <= target:
            self._move_to(due)
            self._ring()
            await settled()
        self._move_to(target)
        self._ring()
        await settled()

    def close(self) -> None:
        """Call nobody any more."""
        self._timers.clear()
        self._set_alarm()

    def _move_to(self, moment: float) -> None:
        self._moved += max(0.0, moment - self.monotonic())

    def _next(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _ring(self) -> None:
        """Call all whose time has come."""
        now = self.monotonic()
        while (due := self._next()) is not None and due <= now:
            timer = heapq.heappop(self._timers)[2]
            timer.callback(*timer.args)
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Real time goes on as well: wake us when it reaches the next timer."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due = self._next()
        if due is not None:
            pause = max(0.0, due - self.monotonic())
            self._alarm = asyncio.get_running_loop().call_later(pause, self._ring)
