"""The objects of one resource, sorted by name, and the recent changes to them.

A table answers reads: one object, a page of a list now or as it was at an earlier revision, the changes after
a revision. It never waits and never writes to disk; the Store applies changes to it in order of their
revisions. Watchers keep no queue: each remembers the revision that it has seen and reads on from the shared
history, so that a slow one costs nothing and learns by Compacted that it has fallen too far behind.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge

from kubesim.store.errors import Compacted
from kubesim.store.records import Change, ChangeType, Stored

_FEW_WAITERS = 32
"""So many are woken at once by every change."""
_SERVING = 20e-6
"""Seconds that it takes to serve one watcher, about."""
_LONGEST_GATHERING = 0.02
"""Seconds that a change waits at most before a crowd is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Part of a list: all of it comes from one revision."""

    items: list[Stored]
    last: str | None
    """Name of the last item when more follow, else None: the next page starts after it."""
    remaining: int
    """How many names follow, whether or not a filter would take them."""


class Table:
    """One resource. Readers may hold on to the Stored objects that it hands out."""

    def __init__(self, resource: str, forgotten: int = 0) -> None:
        self.resource = resource
        self.forgotten = forgotten
        """Changes up to this revision may be missing from the history."""
        self.last_change = forgotten
        self.memo: dict[object, bytes] = {}
        """Encodings shared by watchers; cleared by the next change."""
        self._objects: dict[str, Stored] = {}
        self._names: list[str] = []
        self._history: deque[Change] = deque()
        self._waiters: set[asyncio.Future[None]] = set()
        self._waking: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, name: str) -> Stored | None:
        return self._objects.get(name)

    def state(self, name: str, at: int) -> Stored | None:
        """The object as of revision `at`. Raises Compacted."""
        if at < self.forgotten:
            raise Compacted(at, self.forgotten)
        # The oldest of the changes since then knows what was there before it; the newest comes first.
        found = self._objects.get(name)
        for change in self._newer(at):
            if change.stored.name == name:
                found = change.previous
        return found

    def all(self, namespace: str | None = None, after: str = "") -> Iterator[Stored]:
        """Objects in order of their names, of one namespace or of all, after the name `after`, as they are now."""
        low, high = self._range(namespace)
        if after:
            low = max(low, bisect_left(self._names, after + "\0", low, high))
        return (self._objects[name] for name in self._names[low:high])

    # Pages

    def page(
        self,
        *,
        namespace: str | None = None,
        after: str = "",
        limit: int = 0,
        at: int | None = None,
        accept: Callable[[Stored], bool] | None = None,
    ) -> Page:
        """Items after the name `after`, at most `limit` (0: all) that `accept` takes, as of revision `at`
        (None: now).

        Raises Compacted when the history does not reach back to `at`.
        """
        overrides = self._undone(at) if at is not None and at < self.last_change else {}
        low, high = self._range(namespace)
        if after:
            low = max(low, bisect_left(self._names, after + "\0", low, high))
        if not overrides and not limit:
            items = [self._objects[name] for name in self._names[low:high]]
            return Page(items=[i for i in items if accept(i)] if accept else items, last=None, remaining=0)
        items = []
        for state in self._states(low, high, namespace, after, overrides):
            if limit and len(items) == limit:
                last = items[-1].name
                return Page(items=items, last=last, remaining=self._count(last, high, namespace, overrides))
            if accept is None or accept(state):
                items.append(state)
        return Page(items=items, last=None, remaining=0)

    def _range(self, namespace: str | None) -> tuple[int, int]:
        if namespace is None:
            return 0, len(self._names)
        low = bisect_left(self._names, namespace + "/")
        return low, bisect_left(self._names, namespace + "0", low)  # "0" follows "/"

    def _undone(self, at: int) -> dict[str, Stored | None]:
        """The states at revision `at` of all objects that have changed since."""
        if at < self.forgotten:
            raise Compacted(at, self.forgotten)
        return {change.stored.name: change.previous for change in self._newer(at)}

    def _states(
        self, low: int, high: int, namespace: str | None, after: str, overrides: dict[str, Stored | None]
    ) -> Iterator[Stored]:
        objects, names = self._objects, self._names
        if not overrides:
            for position in range(low, high):
                yield objects[names[position]]
            return
        gone = sorted(
            name
            for name, state in overrides.items()
            if state is not None and name not in objects and name > after and _inside(name, namespace)
        )
        for name in merge(names[low:high], gone):
            state = overrides[name] if name in overrides else objects[name]
            if state is not None:
                yield state

    def _count(self, last: str, high: int, namespace: str | None, overrides: dict[str, Stored | None]) -> int:
        count = high - bisect_left(self._names, last + "\0")
        for name, state in overrides.items():
            if name > last and _inside(name, namespace):
                count += (state is not None) - (name in self._objects)
        return count

    # History

    def changes(self, after: int) -> list[Change]:
        """All changes with a revision greater than `after`, oldest first; Compacted when some are
        forgotten."""
        if after >= self.last_change:
            return []
        if after < self.forgotten:
            raise Compacted(after, self.forgotten)
        newest_first = list(self._newer(after))
        newest_first.reverse()
        return newest_first

    def _newer(self, revision: int) -> Iterator[Change]:
        for change in reversed(self._history):
            if change.revision <= revision:
                return
            yield change

    def changed(self) -> asyncio.Future[None]:
        """A future that is done with the next change. Give it back with `ignore` when it is no longer
        wanted."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        return waiter

    def ignore(self, waiter: asyncio.Future[None]) -> None:
        self._waiters.discard(waiter)
        waiter.cancel()

    # Only for the Store

    def apply(self, change: Change) -> None:
        stored = change.stored
        if change.type is ChangeType.DELETED:
            del self._objects[stored.name]
            del self._names[bisect_left(self._names, stored.name)]
        else:
            if change.previous is None:
                insort(self._names, stored.name)
            self._objects[stored.name] = stored
        self._history.append(change)
        self.last_change = stored.revision
        if self.memo:
            self.memo.clear()
        if len(self._waiters) > _FEW_WAITERS:
            self._wake_soon()
        elif self._waiters:
            self.wake()

    def load(self, states: list[Stored]) -> None:
        """Take over the states of objects without history."""
        self._objects = {state.name: state for state in states}
        self._names = sorted(self._objects)

    def forget(self, change: Change) -> None:
        """Drop the oldest change of this table."""
        if self._history.popleft() is not change:
            raise AssertionError("history is forgotten in order")
        self.forgotten = change.revision

    def begin(self, revision: int) -> None:
        """Declare that there is no history before this revision, for a resource that came into being with
        it."""
        self.forgotten = max(self.forgotten, revision)
        self.last_change = max(self.last_change, revision)

    def _wake_soon(self) -> None:
        """Let changes gather for about as long as it takes to serve one to everybody: a crowd gets them together."""
        if self._waking is None:
            delay = min(len(self._waiters) * _SERVING, _LONGEST_GATHERING)
            self._waking = asyncio.get_running_loop().call_later(delay, self.wake)

    def wake(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _inside(name: str, namespace: str | None) -> bool:
    return namespace is None or name.startswith(namespace + "/")
