"""How long the event loop was kept from turning: one stall is everybody's stall.

A tick that comes late measures it. The processor time that this thread used meanwhile tells a stall that the server
made itself (something that blocks or computes) from a machine that had no processor for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

TICK = 0.05
WINDOW = 60.0
"""Seconds that count as recent: the longest stall is kept for one to two of these."""
LOUD = 0.25
"""A stall of so many seconds of our own making is worth a line in the log."""


@dataclass(frozen=True, slots=True)
class Stall:
    """One time in which the loop did not turn."""

    seconds: float = 0.0
    cpu: float = 0.0  # seconds that this thread computed meanwhile


class Watchdog:
    """Measures the loop that it runs in."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self._cpu = cpu
        self._window = clock()
        self.last = Stall()
        self.longest = Stall()
        self._recent = Stall()
        self._before = Stall()

    @property
    def recent(self) -> Stall:
        """The longest of the last minute or two."""
        return max(self._recent, self._before, key=lambda stall: stall.seconds)

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            due, used = self._clock() + TICK, self._cpu()
            await asyncio.sleep(TICK)
            self.note(Stall(max(0.0, self._clock() - due), self._cpu() - used))

    def note(self, stall: Stall) -> None:
        """Keep what was measured."""
        now = self._clock()
        if now - self._window > WINDOW:
            self._window, self._before, self._recent = now, self._recent, Stall()
        self.last = stall
        self.longest = max(self.longest, stall, key=lambda one: one.seconds)
        self._recent = max(self._recent, stall, key=lambda one: one.seconds)
        if min(stall.seconds, stall.cpu) > LOUD:
            logger.warning(
                "the event loop did not turn for %.2f s, %.2f s of which it computed",
                stall.seconds,
                stall.cpu,
                extra={"action": "loop-stalled"},
            )

    def to_wire(self) -> dict[str, Any]:
        """For `whim api info`."""
        return {
            "lag": round(self.last.seconds, 4),
            "longest_stall": round(self.longest.seconds, 4),
            "longest_stall_cpu": round(self.longest.cpu, 4),
            "longest_stall_recent": round(self.recent.seconds, 4),
        }
