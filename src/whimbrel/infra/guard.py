"""The guard of one infrastructure: the only way to it (laws 1 and 2).

Every call gets a deadline, a slot of a limited number, and passes a circuit breaker. When a call learns that the
infrastructure does not answer, the breaker opens: who comes after that is told at once what the first one has
waited for. It stays open about as long as the failed call took, twice as long each time, then lets one call through
to see. What a caller may see of it is `view`. Guards share nothing with each other, so that a dead infrastructure
costs only those who name it.

The guard knows no protocol: `translate` makes an `InfraError` of whatever the infrastructure's client raises.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from whimbrel.model.errors import InfraError, Unauthorized, Unreachable

T = TypeVar("T")
Translate = Callable[[str, Exception], InfraError]
"""(what was being done, what was raised) -> the error for the user."""

_SLOW = 1.0  # an error that took longer than this was no quick answer


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """What one guard allows."""

    calls: int = 16  # at the same time
    streams: int = 4096  # exec, logs and watches at the same time: one per node of each job that runs
    shortest_break: float = 0.5  # seconds that the breaker stays open at least
    longest_break: float = 60.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardView:
    """The breaker as `whim check` shows it."""

    state: Literal["closed", "open", "half-open"]
    error: InfraError | None = None
    since: float | None = None  # seconds ago that it opened
    retry_in: float | None = None


@dataclass(frozen=True, slots=True)
class Aged(Generic[T]):
    """An answer, and how many seconds ago it was true."""

    value: T
    age: float


class Guard:
    """One infrastructure's breaker, limits and cache."""

    def __init__(
        self,
        name: str,
        translate: Translate,
        settings: GuardSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self.name = name
        self._translate = translate
        self._settings = settings or GuardSettings()
        self._clock = clock
        self._chance = chance or random.Random()
        self._calls = asyncio.Semaphore(self._settings.calls)
        self._streams = asyncio.Semaphore(self._settings.streams)
        self._error: InfraError | None = None
        self._opened = 0.0
        self._learned = 0.0
        self._until = 0.0
        self._failures = 0
        self._probing = False
        self._known: dict[Hashable, tuple[Any, float]] = {}
        self._asking: dict[Hashable, asyncio.Task[Any]] = {}

    @property
    def view(self) -> GuardView:
        """How the breaker stands."""
        if self._error is None:
            return GuardView(state="closed")
        now = self._clock()
        left = self._until - now
        state: Literal["open", "half-open"] = "open" if left > 0 else "half-open"
        return GuardView(state=state, error=self._error, since=now - self._opened, retry_in=max(0.0, left))

    def reset(self) -> None:
        """Forget what was learned: the way to the infrastructure is another one now."""
        self._error, self._failures, self._probing = None, 0, False
        self._known.clear()

    async def call(self, what: str, action: Callable[[], Awaitable[T]], *, timeout: float) -> T:
        """Do it within `timeout` seconds, the wait for a slot included. Raises an `InfraError` and nothing else
        of the client's."""
        begun = self._clock()
        slot = False
        try:
            async with asyncio.timeout(timeout), self._calls:
                slot = True
                async with self._passage(what):
                    return await action()
        except TimeoutError:
            if slot:
                error: InfraError = Unreachable(
                    f"{self.name} did not answer within {timeout:g} s ({what}).",
                    remedy="check that it is running, and the network or VPN to it",
                )
                self._failed(error, begun)
            else:
                error = Unreachable(
                    f"{self.name} is busy: {self._settings.calls} other calls are waiting for its answers ({what}).",
                    remedy="try again in a moment",
                )
            raise error from None

    @asynccontextmanager
    async def stream(self, what: str) -> AsyncIterator[None]:
        """A slot for something long, which has no deadline: its idle bound is the client's. What opens it belongs
        inside of `opening`."""
        if self._streams.locked():
            raise Unreachable(
                f"{self.name} has {self._settings.streams} open streams already ({what}).",
                remedy="try again in a moment",
            )
        async with self._streams:
            yield

    @asynccontextmanager
    async def opening(self, what: str) -> AsyncIterator[None]:
        """The beginning of a stream: passes the breaker, counts for it, and translates what is raised."""
        async with self._passage(what):
            yield

    async def cached(
        self,
        key: Hashable,
        what: str,
        action: Callable[[], Awaitable[T]],
        *,
        timeout: float,
        fresh: float,
        stale: float,
    ) -> Aged[T]:
        """An answer that is at most `fresh` seconds old; or an older one, up to `stale`, while it is asked for anew
        behind it. One question at a time, however many ask."""
        known = self._known.get(key)
        age = self._clock() - known[1] if known else float("inf")
        if known and age <= fresh:
            return Aged(known[0], age)
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(
                self._ask(key, what, action, timeout), name=f"{self.name}: {what}, for the cache"
            )
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asking[key] = task
        if known and age <= stale:
            return Aged(known[0], age)
        return Aged(await asyncio.shield(task), 0.0)

    async def aclose(self) -> None:
        """End what is being asked for the cache."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: Hashable, what: str, action: Callable[[], Awaitable[T]], timeout: float) -> T:
        try:
            value = await self.call(what, action, timeout=timeout)
            self._known[key] = (value, self._clock())
            return value
        finally:
            self._asking.pop(key, None)

    @asynccontextmanager
    async def _passage(self, what: str) -> AsyncIterator[None]:
        """Past the breaker, and the outcome back to it."""
        probe = self._admit()
        begun = self._clock()
        try:
            yield
        except InfraError as error:
            self._answered(error, begun)
            raise
        except Exception as error:
            if isinstance(error, TimeoutError):
                raise
            known = self._translate(what, error)
            self._answered(known, begun)
            raise known from error
        else:
            self._error, self._failures = None, 0
        finally:
            if probe:
                self._probing = False

    def _admit(self) -> bool:
        """Whether this caller is the one that tries again. Raises what was learned while the breaker is open."""
        if self._error is None:
            return False
        now = self._clock()
        if now >= self._until and not self._probing:
            self._probing = True
            return True
        wait = max(0.0, self._until - now)
        when = f"will be tried again in {wait:.0f} s" if wait >= 1 else "is being tried again now"
        raise type(self._error)(
            f"{self._error.message} (seen {now - self._learned:.0f} s ago; it {when})",
            remedy=self._error.remedy,
            details={**self._error.details, "breaker": "open", "retry_in": round(wait, 1)},
        )

    def _answered(self, error: InfraError, begun: float) -> None:
        slow = self._clock() - begun > _SLOW
        if isinstance(error, Unreachable) or (isinstance(error, Unauthorized) and slow):
            self._failed(error, begun)
        else:
            self._error, self._failures = None, 0

    def _failed(self, error: InfraError, begun: float) -> None:
        """Open, or stay open for longer. Calls that were on their way together have learned one thing, not many."""
        now = self._clock()
        if self._error is not None and begun < self._learned:
            return
        settings = self._settings
        if self._error is None:
            self._opened = now
        pause = max(settings.shortest_break, now - begun) * 2.0 ** min(self._failures, 10)
        pause = min(settings.longest_break, pause) * (1 + settings.jitter * (2 * self._chance.random() - 1))
        self._error, self._failures = error, self._failures + 1
        self._learned, self._until = now, now + pause
