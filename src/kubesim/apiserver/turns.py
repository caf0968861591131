"""Turns, so that one client's big list, or five hundred requests, do not keep another's small request waiting.

Everything runs in one event loop. Requests begin a few per round of the loop, in turn among those who ask. What looks
at each of many objects (selectors, tables, metadata, YAML), and each piece of a large answer, is one turn of a few
milliseconds, and of those only one is taken per round: ten big lists make each other slower, and nobody else. Nobody
holds a turn while waiting for something, so that slow requests (webhooks, injected delays) never fill the house.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

TURN = 0.002
"""Seconds."""
_LONG = 0.0003
"""Seconds: shorter work is not worth a round of the loop."""
STARTS = 8
"""Requests that begin in one round of the event loop."""
_LOOK = 8
"""Items between two looks at the clock."""


class Turns:
    """One per API server; it belongs to the event loop in which it is first waited for."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()
        self._started = 0
        self._ticking = False

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """One piece of long work; what took long lets everybody else go first. Nothing is to be waited for in it."""
        async with self._one:
            began = time.perf_counter()
            yield
            if time.perf_counter() - began > _LONG:
                await asyncio.sleep(0)

    async def begin(self, who: Hashable) -> None:
        """Wait until it is this client's turn to begin a request."""
        loop = asyncio.get_running_loop()
        if not self._waiting and self._started < STARTS:
            self._started += 1
            self._tick(loop)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(who, deque()).append(turn)
        self._tick(loop)
        await turn

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._ticking:
            self._ticking = True
            loop.call_soon(self._next_round, loop)

    def _next_round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ticking = False
        self._started = 0
        while self._waiting and self._started < STARTS:
            who, queue = self._waiting.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._waiting[who] = queue  # behind the others
            if not turn.done():
                turn.set_result(None)
                self._started += 1
        if self._started:
            self._tick(loop)

    async def each(self, items: Sequence[_T], work: Callable[[_T], _R]) -> list[_R]:
        """What `work` makes of each item."""
        made: list[_R] = []
        position = 0
        while position < len(items):
            async with self.one():
                until = time.perf_counter() + TURN
                while position < len(items) and time.perf_counter() < until:
                    made.extend(map(work, items[position : position + _LOOK]))
                    position += _LOOK
        return made

    async def judged(
        self, accept: Callable[[_T], bool], items: Iterable[_T], enough: int = 0
    ) -> Callable[[_T], bool]:
        """A test that knows its answers for these items already; with `enough`, until so many are accepted."""
        verdicts: dict[_T, bool] = {}
        async with self.one():
            candidates = list(items)
        accepted = 0
        for start in range(0, len(candidates), _BATCH):
            batch = candidates[start : start + _BATCH]
            found = await self.each(batch, accept)
            verdicts.update(zip(batch, found, strict=True))
            accepted += sum(found)
            if enough and accepted >= enough:
                break

        def known(item: _T) -> bool:
            verdict = verdicts.get(item)
            return accept(item) if verdict is None else verdict

        return known


_BATCH = 2000
