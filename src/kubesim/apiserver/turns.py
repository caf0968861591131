"""Long work in short turns, so that one client's big list does not keep another's small request waiting.

Everything runs in one event loop. What looks at each of many objects (selectors, tables, metadata, YAML) is done here a
few milliseconds at a time, and of all such work in the server only one turn is taken between two rounds of the loop:
ten big lists make each other slower, and nobody else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

TURN = 0.003
"""Seconds."""
_LOOK = 8
"""Items between two looks at the clock."""


class Turns:
    """One per API server; it belongs to the event loop in which it is first waited for."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def each(self, items: Sequence[_T], work: Callable[[_T], _R]) -> list[_R]:
        """What `work` makes of each item."""
        made: list[_R] = []
        position = 0
        while position < len(items):
            async with self._lock:
                until = time.perf_counter() + TURN
                while position < len(items) and time.perf_counter() < until:
                    made.extend(map(work, items[position : position + _LOOK]))
                    position += _LOOK
            if position < len(items):
                await asyncio.sleep(0)
        return made

    async def judged(
        self, accept: Callable[[_T], bool], items: Iterable[_T], enough: int = 0
    ) -> Callable[[_T], bool]:
        """A test that knows its answers for these items already; with `enough`, until so many are accepted."""
        verdicts: dict[_T, bool] = {}
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
