"""A queue of keys that need a look, and the workers that take it.

A key is in the queue at most once and in the hands of at most one worker; what is added while a worker has it is
looked at again afterwards. So a reconciler is never run twice at once for one object, and a storm of events costs one
look. A look that fails is repeated with growing delays; nothing a reconciler raises ends the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from kubesim import clock
from kubewire.errors import Conflict, KubeError, NotFound

log = logging.getLogger(__name__)

FIRST_RETRY = 0.005
LAST_RETRY = 60.0
_FAIR_SLICE = 20  # looks before a worker lets everybody else of the event loop have a turn


class WorkQueue:
    """Keys, each once. Not for use from several threads."""

    def __init__(self) -> None:
        self._ready: deque[str] = deque()
        self._waiting: set[str] = set()  # in _ready
        self._held: set[str] = set()  # in a worker's hands
        self._again: set[str] = set()  # added while held
        self._failures: dict[str, int] = {}
        self._timers: dict[str, clock.Timer] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being looked at; delayed keys do not count."""
        return not self._ready and not self._held

    def add(self, key: str) -> None:
        """The key needs a look, now."""
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        if key in self._held:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(key)
            self._wake.set()

    def add_after(self, key: str, seconds: float) -> None:
        """The key needs a look in a while; the earlier of two such wishes counts."""
        if seconds <= 0:
            self.add(key)
            return
        timer = self._timers.get(key)
        if timer:
            if timer.when() <= clock.monotonic() + seconds:
                return
            timer.cancel()
        self._timers[key] = clock.call_later(seconds, self._due, key)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def get(self) -> str:
        """Take the next key in hand; give it back with `done`."""
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._held.add(key)
        return key

    def done(self, key: str) -> None:
        """The look has ended, well or not."""
        self._held.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def forget(self, key: str) -> None:
        """The last look went well: the next failure starts with a short delay again."""
        self._failures.pop(key, None)

    def retry(self, key: str) -> float:
        """The look failed: look again after a delay that doubles each time. Returns the delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = float(min(LAST_RETRY, FIRST_RETRY * 2 ** min(failures, 30)))
        self.add_after(key, delay)
        return delay

    def close(self) -> None:
        """Cancel what is delayed."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


Reconcile = Callable[[str], Awaitable[float | None]]
"""Make the world of one key as it should be; seconds after which to look again in any case, or None."""


async def work(name: str, queue: WorkQueue, reconcile: Reconcile, *, workers: int = 1) -> None:
    """Run `workers` workers until cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(_worker(name, queue, reconcile), name=f"{name} worker {number}")
    finally:
        queue.close()


async def _worker(name: str, queue: WorkQueue, reconcile: Reconcile) -> None:
    count = 0
    while True:
        key = await queue.get()
        try:
            again = await reconcile(key)
        except (Conflict, NotFound):  # the mirror was behind; what has changed arrives in a moment
            queue.retry(key)
        except KubeError as error:
            delay = queue.retry(key)
            log.warning("%s: %s: %s; next look in %.1f s", name, key, error, delay)
        except Exception:
            delay = queue.retry(key)
            log.exception("%s: %s: next look in %.1f s", name, key, delay)
        else:
            queue.forget(key)
            if again is not None:
                queue.add_after(key, again)
        finally:
            queue.done(key)
        count += 1
        if count % _FAIR_SLICE == 0:
            await asyncio.sleep(0)
