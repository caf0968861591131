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
    Compacted,
    KeyExists,
    KeyMissing,
    RevisionMismatch,
    RevisionTooLarge,
    StorageFailed,
    StoreClosed,
)
from kubesim.store.history import History, HistoryLimits
from kubesim.store.journal import Journal, Row
from kubesim.store.records import Change, ChangeType, Stored
from kubesim.store.table import Table

Encode = Callable[[int], bytes]
"""Makes the bytes of an object, given the revision that it will have."""

COMPACT_BATCH = 1000
AGING = 0.1
"""How often old history is looked for, as a part of the age that it may reach."""


@dataclass(slots=True, eq=False)
class _Write:
    change: Change
    done: asyncio.Future[Stored]


class Store:
    """Use it from one event loop. Between `head` and the write that relies on it there must be no await."""

    def __init__(self, journal: Journal | None = None, limits: HistoryLimits | None = None) -> None:
        self.revision = 0
        """The newest revision that readers can see."""
        self._tables: dict[str, Table] = {}
        self._history = History(
            limits or HistoryLimits(), self._forgotten, journal.compacted if journal is not None else 0
        )
        self._aging: asyncio.TimerHandle | None = None
        self._last_assigned = 0
        self._heads: dict[tuple[str, str], Change] = {}
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
            table = self._tables[resource] = Table(resource, self.compacted)
        return table

    @property
    def compacted(self) -> int:
        """The history up to this revision is no longer whole."""
        return self._history.compacted

    def kept(self, revision: int) -> None:
        """Raises Compacted when the state of the whole store at this revision is no longer known."""
        if revision < self.compacted:
            raise Compacted(revision, self.compacted)

    def tables(self) -> list[Table]:
        return list(self._tables.values())

    def get(self, resource: str, name: str) -> Stored | None:
        """The object as readers see it."""
        table = self._tables.get(resource)
        return table.get(name) if table is not None else None

    def head(self, resource: str, name: str) -> Stored | None:
        """The newest state, on disk or not: the one that a write is checked against."""
        if self._heads:
            change = self._heads.get((resource, name))
            if change is not None:
                return change.stored if change.type is not ChangeType.DELETED else None
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
        if self._aging is not None:
            self._aging.cancel()
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
            self._moved(asyncio.get_running_loop())
            return stored
        loop = self._attach(self._journal)
        write = _Write(change, loop.create_future())
        self._writes.append(write)
        self._heads[stored.resource, stored.name] = change
        row = Row(stored.revision, change.type, stored.resource, stored.name, stored.created, stored.data)
        self._journal.append(row, self._epoch)
        return await write.done

    def _attach(self, journal: Journal) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = self._loop = asyncio.get_running_loop()
            journal.start(
                lambda revision: _from_thread(loop, self._durable, loop, revision),
                lambda epoch, error: _from_thread(loop, self._failed, epoch, error),
            )
        return self._loop

    # What the journal reports

    def _durable(self, loop: asyncio.AbstractEventLoop, revision: int) -> None:
        while self._writes and self._writes[0].change.revision <= revision:
            write = self._writes.popleft()
            stored = write.change.stored
            key = (stored.resource, stored.name)
            if self._heads.get(key) is write.change:
                del self._heads[key]
            self._apply(write.change)
            if not write.done.done():
                write.done.set_result(stored)
        self._moved(loop)

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
        self._history.add(change)
        self._compact(COMPACT_BATCH)
        if self._revision_waiters:
            for waiter in self._revision_waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _forgotten(self, change: Change) -> None:
        self._tables[change.stored.resource].forget(change)

    def _moved(self, loop: asyncio.AbstractEventLoop) -> None:
        """Changes were applied: note when, and see to it that they grow old also if nothing follows."""
        self._history.passed(loop.time(), self.revision)
        if self._aging is None:
            self._aging = loop.call_later(self._history.limits.age * AGING, self._age, loop)

    def _age(self, loop: asyncio.AbstractEventLoop) -> None:
        self._aging = None
        self._history.passed(loop.time(), self.revision)
        self._history.expire(loop.time())
        self._compact(batch=1)
        if len(self._history):
            self._moved(loop)

    def _compact(self, batch: int) -> None:
        if self._journal is not None and (rows := self._history.removable(batch)):
            self._journal.compact(rows, self.compacted)

    def _load(self, journal: Journal) -> None:
        """Replay the log: rows up to the compacted revision are states, the others are changes as well."""
        states: dict[str, dict[str, Stored]] = {}
        changes: list[Change] = []
        for row in journal.rows():
            type_ = ChangeType(row.type)
            stored = Stored(row.resource, row.name, row.revision, row.created, row.data)
            if row.revision > journal.compacted:
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
