"""The revision counter, the order of writes, and what becomes visible when.

A write is checked against the newest state (also when that is not on disk yet), gets the next revision, and
is encoded with it. In memory mode it is applied at once. In durable mode it waits for the journal, and
becomes visible, to readers and watchers alike, only when it is on disk: nobody ever sees what a crash could
take back. If the disk refuses, that write and all that were queued after it fail, and the newest state is the
last durable one again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kubesim.store.errors import (
    KeyExists,
    KeyMissing,
    RevisionMismatch,
    RevisionTooLarge,
    StorageFailed,
    StoreClosed,
)
from kubesim.store.journal import Journal, Row
from kubesim.store.records import Change, ChangeType, Stored
from kubesim.store.table import Table

Encode = Callable[[int], bytes]
"""Makes the bytes of an object, given the revision that it will have."""

COMPACT_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLimits:
    """How much of the past is kept for watches that resume and pages that are still being read."""

    changes: int = 50_000
    retained: int = 32 * 1024 * 1024
    """Bytes of states that nothing but history needs."""


@dataclass(slots=True, eq=False)
class _Write:
    change: Change
    done: asyncio.Future[Stored]


class Store:
    """Use it from one event loop. Between `head` and the write that relies on it there must be no await."""

    def __init__(self, journal: Journal | None = None, limits: HistoryLimits | None = None) -> None:
        self.revision = 0
        """The newest revision that readers can see."""
        self._limits = limits or HistoryLimits()
        self._tables: dict[str, Table] = {}
        self._history: deque[Change] = deque()
        self._retained = 0
        self._compacted = 0
        self._compactable: list[int] = []
        self._last_assigned = 0
        self._heads: dict[tuple[str, str], Stored | None] = {}
        self._writes: deque[_Write] = deque()
        self._epoch = 0
        self._journal = journal
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._revision_waiters: set[asyncio.Future[None]] = set()
        if journal is not None:
            self._load(journal)

    # Reads

    def table(self, resource: str) -> Table:
        """The table of a resource; it is there as soon as it is asked for."""
        table = self._tables.get(resource)
        if table is None:
            table = self._tables[resource] = Table(resource, self._compacted)
        return table

    def tables(self) -> list[Table]:
        return list(self._tables.values())

    def get(self, resource: str, name: str) -> Stored | None:
        """The object as readers see it."""
        table = self._tables.get(resource)
        return table.get(name) if table is not None else None

    def head(self, resource: str, name: str) -> Stored | None:
        """The newest state, on disk or not: the one that a write is checked against."""
        if self._heads:
            key = (resource, name)
            if key in self._heads:
                return self._heads[key]
        return self.get(resource, name)

    async def reach(self, revision: int, timeout: float) -> None:
        """Wait until readers see this revision; RevisionTooLarge if that takes longer than `timeout`."""
        try:
            async with asyncio.timeout(timeout):
                while self.revision < revision:
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._revision_waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._revision_waiters.discard(waiter)
        except TimeoutError:
            raise RevisionTooLarge(revision, self.revision) from None

    # Writes

    async def create(self, resource: str, name: str, encode: Encode) -> Stored:
        """Raises KeyExists."""
        if self.head(resource, name) is not None:
            raise KeyExists(name)
        revision = self._assign()
        stored = Stored(resource, name, revision, revision, encode(revision))
        return await self._commit(Change(ChangeType.ADDED, stored))

    async def update(self, resource: str, name: str, expected: int, encode: Encode) -> Stored:
        """Raises KeyMissing, or RevisionMismatch when the newest state is not the expected one."""
        previous = self._expect(resource, name, expected)
        revision = self._assign()
        stored = Stored(resource, name, revision, previous.created, encode(revision))
        return await self._commit(Change(ChangeType.MODIFIED, stored, previous))

    async def delete(self, resource: str, name: str, expected: int, encode: Encode) -> Stored:
        """Remove the object; `encode` makes its last state. Raises as `update` does."""
        previous = self._expect(resource, name, expected)
        revision = self._assign()
        stored = Stored(resource, name, revision, previous.created, encode(revision))
        return await self._commit(Change(ChangeType.DELETED, stored, previous))

    async def written(self) -> None:
        """Wait until the writes that are under way now are on disk, or have failed."""
        if self._writes:
            await asyncio.wait({self._writes[-1].done})

    async def close(self) -> None:
        """Wait for the writes that are under way, then let go of the disk."""
        if self._closed:
            return
        self._closed = True
        if self._journal is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._journal.close)
            await asyncio.sleep(0)  # what the writer thread has reported last is applied before this returns
        for write in self._writes:
            if not write.done.done():
                write.done.set_exception(StoreClosed("the store was closed before the write was done"))
        self._writes.clear()

    def _expect(self, resource: str, name: str, expected: int) -> Stored:
        previous = self.head(resource, name)
        if previous is None:
            raise KeyMissing(name)
        if previous.revision != expected:
            raise RevisionMismatch(expected, previous.revision)
        return previous

    def _assign(self) -> int:
        if self._closed:
            raise StoreClosed("the store is closed")
        return self._last_assigned + 1

    async def _commit(self, change: Change) -> Stored:
        stored = change.stored
        self._last_assigned = stored.revision
        if self._journal is None:
            self._apply(change)
            return stored
        loop = self._attach(self._journal)
        write = _Write(change, loop.create_future())
        self._writes.append(write)
        self._heads[stored.resource, stored.name] = stored if change.type is not ChangeType.DELETED else None
        row = Row(stored.revision, change.type, stored.resource, stored.name, stored.created, stored.data)
        self._journal.append(row, self._epoch)
        return await write.done

    def _attach(self, journal: Journal) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = self._loop = asyncio.get_running_loop()
            journal.start(
                lambda revision: _from_thread(loop, self._durable, revision),
                lambda epoch, error: _from_thread(loop, self._failed, epoch, error),
            )
        return self._loop

    # What the journal reports

    def _durable(self, revision: int) -> None:
        while self._writes and self._writes[0].change.revision <= revision:
            write = self._writes.popleft()
            stored = write.change.stored
            key = (stored.resource, stored.name)
            head = self._heads.get(key)
            if head is stored or (head is None and write.change.type is ChangeType.DELETED):
                self._heads.pop(key, None)
            self._apply(write.change)
            if not write.done.done():
                write.done.set_result(stored)

    def _failed(self, epoch: int, error: StorageFailed) -> None:
        if epoch < self._epoch:
            return
        self._epoch = epoch + 1
        self._heads.clear()
        writes, self._writes = self._writes, deque()
        for write in writes:
            if not write.done.done():
                write.done.set_exception(error)

    # History

    def _apply(self, change: Change) -> None:
        stored = change.stored
        self.revision = stored.revision
        self.table(stored.resource).apply(change)
        self._remember(change)
        if self._revision_waiters:
            for waiter in self._revision_waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _remember(self, change: Change) -> None:
        self._history.append(change)
        self._retained += change.retained
        limits = self._limits
        while len(self._history) > limits.changes or self._retained > limits.retained:
            self._forget(self._history.popleft())
        if self._journal is not None and len(self._compactable) >= COMPACT_BATCH:
            self._journal.compact(self._compactable, self._compacted)
            self._compactable = []

    def _forget(self, change: Change) -> None:
        self._retained -= change.retained
        self._compacted = change.revision
        self._tables[change.stored.resource].forget(change)
        if change.previous is not None:
            self._compactable.append(change.previous.revision)
        if change.type is ChangeType.DELETED:
            self._compactable.append(change.revision)

    def _load(self, journal: Journal) -> None:
        """Replay the log: rows up to the compacted revision are states, the others are changes as well."""
        self._compacted = journal.compacted
        states: dict[str, dict[str, Stored]] = {}
        changes: list[Change] = []
        for row in journal.rows():
            type_ = ChangeType(row.type)
            stored = Stored(row.resource, row.name, row.revision, row.created, row.data)
            if row.revision > self._compacted:
                changes.append(Change(type_, stored))
            elif type_ is not ChangeType.DELETED:
                states.setdefault(row.resource, {})[row.name] = stored
            else:
                states.setdefault(row.resource, {}).pop(row.name, None)
        for resource, named in states.items():
            self.table(resource).load(list(named.values()))
        for change in changes:
            stored = change.stored
            change.previous = self.get(stored.resource, stored.name)
            self._apply(change)
        self.revision = self._last_assigned = journal.revision


def _from_thread(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        # The loop is closed: nobody waits for an answer any more, and the rows are on disk.
        return
