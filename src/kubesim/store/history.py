"""How much of the past is kept, in memory and on disk, and what becomes of the rest.

A watch that resumes and a page that is still being read need the recent changes. They are kept for a time, as etcd
keeps them between two compactions, and within bounds of number and size, because a store must not grow by being
written to. What is forgotten here is removed from the tables at once and from the journal later, in batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kubesim.store.records import Change, ChangeType

_GRAINS = 300
"""The age that changes may reach is measured in so many steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLimits:
    """How much of the past is kept for watches that resume and pages that are still being read."""

    age: float = 300.0
    """Seconds; kube-apiserver has etcd compacted every five minutes."""
    changes: int = 50_000
    retained: int = 32 * 1024 * 1024
    """Bytes of states that nothing but history needs."""


class History:
    """The recent changes of all tables, oldest first. `forgotten` is called for each change that goes."""

    def __init__(
        self, limits: HistoryLimits, forgotten: Callable[[Change], None], compacted: int = 0
    ) -> None:
        self.compacted = compacted
        """Changes up to this revision are gone, in one table or another."""
        self.limits = limits
        self._forgotten = forgotten
        self._changes: deque[Change] = deque()
        self._retained = 0
        self._marks: deque[tuple[float, int]] = deque()
        self._removable: list[int] = []

    def __len__(self) -> int:
        return len(self._changes)

    def add(self, change: Change) -> None:
        """Keep a change, and forget the oldest ones if there are too many."""
        self._changes.append(change)
        self._retained += change.retained
        while len(self._changes) > self.limits.changes or self._retained > self.limits.retained:
            self._forget()

    def passed(self, now: float, revision: int) -> None:
        """Note that everything up to this revision had happened at this time."""
        if not self._marks or now - self._marks[-1][0] >= self.limits.age / _GRAINS:
            self._marks.append((now, revision))

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        floor = self.compacted
        while self._marks and self._marks[0][0] <= now - self.limits.age:
            floor = self._marks.popleft()[1]
        while self._changes and self._changes[0].revision <= floor:
            self._forget()

    def removable(self, batch: int) -> list[int]:
        """The rows of the journal that nobody needs any more, when there are as many as `batch`."""
        if len(self._removable) < batch:
            return []
        removable, self._removable = self._removable, []
        return removable

    def _forget(self) -> None:
        change = self._changes.popleft()
        self._retained -= change.retained
        self.compacted = change.revision
        self._forgotten(change)
        if change.previous is not None:
            self._removable.append(change.previous.revision)
        if change.type is ChangeType.DELETED:
            self._removable.append(change.revision)
