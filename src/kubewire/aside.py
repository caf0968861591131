"""Files read beside the event loop, within a bound: a kubeconfig or token may lie on a file system that hangs.

A thread that is stuck in the kernel cannot be ended. It is left alone, as a daemon that holds up nobody's exit, and
as long as it is stuck, who asks for the same files learns at once what the first one has waited for. Nothing is
shared between different `Aside`s, so that a file that hangs costs only those who name it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

TIMEOUT = 2.0
"""Seconds; a local file takes a millisecond."""
_AT_ONCE = 4


class StillReading(Exception):
    """The files did not come within the bound; its text says so, for people."""


class Aside:
    """The way to one set of files."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._began: dict[object, float] = {}  # of each read that has not ended

    async def run(self, action: Callable[[], T]) -> T:
        """Do it in a thread of its own, and give its result or raise what it raised.

        Raises:
            StillReading: it takes too long, or another one does that began before.
        """
        self._check()
        try:
            async with asyncio.timeout(self._timeout) as limit, self._turns:
                self._check()
                return await self._in_thread(action)
        except TimeoutError:
            if not limit.expired():
                raise  # the action's own
            raise StillReading(
                f"reading it takes longer than {self._timeout:g} s (a file system that hangs?)"
            ) from None

    def _check(self) -> None:
        now = time.monotonic()
        stuck = now - min(self._began.values(), default=now)
        if stuck > self._timeout:
            raise StillReading(f"reading it has been stuck for {stuck:.0f} s (a file system that hangs?)")

    def _in_thread(self, action: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        mark = object()
        self._began[mark] = time.monotonic()

        def settle(value: Any, error: BaseException | None) -> None:
            self._began.pop(mark, None)
            if result.done():
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(value)

        def work() -> None:
            value, problem = None, None
            try:
                value = action()
            except BaseException as error:
                problem = error
            try:
                loop.call_soon_threadsafe(settle, value, problem)
            except RuntimeError:
                self._began.pop(mark, None)  # the loop has ended meanwhile

        threading.Thread(target=work, name="kubewire file", daemon=True).start()
        return result
