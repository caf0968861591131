"""The guard of one infrastructure: the only way to it (laws 1 and 2).

Every call gets a deadline, a slot of a limited number, and passes a circuit breaker. When a call learns that the
infrastructure does not answer, the breaker opens: who comes after that is told at once what the first one has
waited for. It stays open about as long as the failed call took, twice as long each time, then lets one call through
to see; the others wait a moment for what that one learns. What is asked often is kept with its age, and an older
answer serves while a newer one is fetched. What a caller may see of all this is `view`. Guards share nothing with each
other, so that a dead infrastructure costs only those who name it.

The guard knows no protocol: `translate` makes an `InfraError` of whatever the infrastructure's client raises.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
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
    follow: float = 1.0  # seconds that others wait for what the one call learns that tries again


State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardView:
    """The breaker as `whim check` shows it."""

    state: State
    error: InfraError | None = None
    since: float | None = None  # seconds ago that it opened
    retry_in: float | None = None
    calls: int = 0  # at present
    streams: int = 0
    answered: int = 0  # calls since the start, also those that were answered with an error
    failed: int = 0  # calls that were not answered
    spared: int = 0  # calls that the breaker kept from waiting

    def to_wire(self) -> dict[str, Any]:
        """For clients."""
        told = self.error is not None and self.state != "closed"
        return {
            "breaker": self.state,
            "reason": self.error.message if told and self.error else "",
            "since": self.since,
            "retry_in": self.retry_in,
        }


@dataclass(frozen=True, slots=True)
class Aged(Generic[T]):
    """An answer, how many seconds ago it was true, and why it is no newer one."""

    value: T
    age: float
    error: InfraError | None = None


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
        self._probe: asyncio.Event | None = (
            None  # set when the one call that tries again has learned something
        )
        self._begun_anew = float("-inf")
        self._known: dict[Hashable, tuple[Any, float]] = {}
        self._asking: dict[Hashable, asyncio.Task[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._counts: Counter[str] = Counter()

    @property
    def view(self) -> GuardView:
        """How the breaker stands."""
        counts = self._counts
        now = self._clock()
        left = self._until - now
        told: State = "closed" if self._error is None else "open" if left > 0 else "half-open"
        return GuardView(
            state=told,
            error=self._error,
            since=None if self._error is None else now - self._opened,
            retry_in=None if self._error is None else max(0.0, left),
            calls=counts["calls"],
            streams=counts["streams"],
            answered=counts["answered"],
            failed=counts["failed"],
            spared=counts["spared"],
        )

    def reset(self) -> None:
        """Forget what was learned: the way to the infrastructure is another one now. What is still on its way over the
        old one counts no more."""
        self._error, self._failures = None, 0
        self._begun_anew = self._clock()
        self._known.clear()
        self._asking.clear()

    async def call(self, what: str, action: Callable[[], Awaitable[T]], *, timeout: float) -> T:
        """Do it within `timeout` seconds, the wait for a slot included. Raises an `InfraError` and nothing else
        of the client's."""
        begun = self._clock()
        slot = False
        try:
            async with asyncio.timeout(timeout):
                await self._learn()
                async with self._calls:
                    slot = True
                    with self._counted("calls"):
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
            with self._counted("streams"):
                yield

    @asynccontextmanager
    async def opening(self, what: str) -> AsyncIterator[None]:
        """The beginning of a stream: passes the breaker, counts for it, and translates what is raised."""
        await self._learn()
        async with self._passage(what):
            yield

    @asynccontextmanager
    async def following(self, what: str) -> AsyncIterator[None]:
        """A watch from its beginning to its end: what it learns counts, but it is never what others wait for."""
        await self._learn()
        async with self._outcome(what):
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
        patience: float | None = None,
    ) -> Aged[T]:
        """An answer that is at most `fresh` seconds old; or an older one, up to `stale`, while it is asked for anew
        behind it. One question at a time, however many ask. Who has `patience` waits that long for a newer answer and
        then takes one of any age, with the reason."""
        known = self._known.get(key)
        age = self._clock() - known[1] if known else float("inf")
        if known and age <= fresh:
            return Aged(known[0], age)
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(
                self._ask(key, what, action, timeout), name=f"{self.name}: {what}, for the cache"
            )
            self._asking[key] = task
            self._tasks.add(task)
            task.add_done_callback(self._asked)
        if known and age <= stale:
            return Aged(known[0], age, self._error)
        try:
            async with asyncio.timeout(patience):
                return Aged(await asyncio.shield(task), 0.0)
        except TimeoutError:
            error: InfraError = Unreachable(
                f"{self.name} did not answer within {patience:g} s ({what}).",
                remedy=f"whim check {self.name}   # says what is wrong with it",
            )
        except InfraError as raised:
            if patience is None:
                raise
            error = raised
        if known is None:
            raise error
        return Aged(known[0], age, error)

    async def aclose(self) -> None:
        """End what is being asked for the cache."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: Hashable, what: str, action: Callable[[], Awaitable[T]], timeout: float) -> T:
        begun = self._clock()
        try:
            value = await self.call(what, action, timeout=timeout)
            if begun >= self._begun_anew:
                self._known[key] = (value, self._clock())
            return value
        finally:
            if self._asking.get(key) is asyncio.current_task():
                del self._asking[key]

    def _asked(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to those who waited for it, if anybody did

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        self._counts[name] += 1
        try:
            yield
        finally:
            self._counts[name] -= 1

    @asynccontextmanager
    async def _passage(self, what: str) -> AsyncIterator[None]:
        """Past the breaker, and the outcome back to it."""
        probe = self._admit()
        try:
            async with self._outcome(what):
                yield
        finally:
            if probe is not None:
                probe.set()
                self._probe = None if self._probe is probe else self._probe

    @asynccontextmanager
    async def _outcome(self, what: str) -> AsyncIterator[None]:
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
            self._close(begun)

    async def _learn(self) -> None:
        """Raise what is known while the breaker is open, before anything is waited for. While one call tries again,
        wait a moment for what it learns: calls that go out side by side shall not fail for being several."""
        if self._error is not None and self._probe is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.follow):
                    await self._probe.wait()
        if self._error is not None and (self._clock() < self._until or self._probe is not None):
            raise self._known_trouble(self._error)

    def _admit(self) -> asyncio.Event | None:
        """What to set when this caller is the one that tries again. Raises what was learned while it waited."""
        if self._error is None:
            return None
        if self._clock() < self._until or self._probe is not None:
            raise self._known_trouble(self._error)
        self._probe = asyncio.Event()
        return self._probe

    def _known_trouble(self, error: InfraError) -> InfraError:
        self._counts["spared"] += 1
        now = self._clock()
        wait = max(0.0, self._until - now)
        when = f"will be tried again in {wait:.0f} s" if wait >= 1 else "is being tried again now"
        return type(error)(
            f"{error.message} (seen {now - self._learned:.0f} s ago; it {when})",
            remedy=error.remedy,
            details={**error.details, "breaker": "open", "retry_in": round(wait, 1)},
        )

    def _answered(self, error: InfraError, begun: float) -> None:
        slow = self._clock() - begun > _SLOW
        if isinstance(error, Unreachable) or (isinstance(error, Unauthorized) and slow):
            self._failed(error, begun)
        else:
            self._close(begun)

    def _close(self, begun: float) -> None:
        self._counts["answered"] += 1
        if begun >= self._begun_anew:
            self._error, self._failures = None, 0

    def _failed(self, error: InfraError, begun: float) -> None:
        """Open, or stay open for longer. Calls that were on their way together have learned one thing, not many."""
        self._counts["failed"] += 1
        now = self._clock()
        if begun < self._begun_anew or (self._error is not None and begun < self._learned):
            return
        settings = self._settings
        if self._error is None:
            self._opened = now
        pause = max(settings.shortest_break, now - begun) * 2.0 ** min(self._failures, 10)
        pause = min(settings.longest_break, pause) * (1 + settings.jitter * (2 * self._chance.random() - 1))
        self._error, self._failures = error, self._failures + 1
        self._learned, self._until = now, now + pause
