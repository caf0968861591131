"""The log on disk: every change is one row, appended and synced before it is seen by anybody.

SQLite in WAL mode with full synchronisation, one connection, one writer thread. While the thread waits for
the disk further changes gather, and the next transaction takes them all: group commit. The rows are the whole
truth: the newest row of a name is the object, older ones are history until compaction removes them. Each row
carries a checksum, and a marker file beside the database says that there has to be one, so that damage is
found when the store is opened and not when a client reads nonsense. Nothing here knows what the bytes mean.

When the disk fails (not when it is merely full) nobody can know what of the last transaction is on it: pages that
could not be synced count as clean afterwards. Then nothing more is written until the database has been closed, opened
again, written through to the disk, and brought back to the last revision that was reported as durable.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubesim.store.database import connect, damage_of
from kubesim.store.errors import CorruptStore, DiskFull, StorageFailed, StoreError

MAX_BATCH = 512


@dataclass(frozen=True, slots=True)
class Row:
    revision: int
    type: int
    resource: str
    name: str
    created: int
    data: bytes

    def checksum(self) -> int:
        head = f"{self.revision},{self.type},{self.resource},{self.name},{self.created}"
        return zlib.crc32(self.data, zlib.crc32(head.encode()))


@dataclass(frozen=True, slots=True)
class _Append:
    row: Row
    epoch: int


@dataclass(frozen=True, slots=True)
class _Compact:
    revisions: Sequence[int]
    compacted: int


class Journal:
    """An open log. `append` and `compact` return at once; `on_durable` and `on_failed` are called in the
    thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connection = connect(directory)
        self._queue: queue.SimpleQueue[_Append | _Compact | None] = queue.SimpleQueue()
        self._failed_epoch = -1
        self._owed: list[_Compact] = []
        self._doubtful = False
        self._thread: threading.Thread | None = None
        try:
            self.compacted, self.revision = self._read_meta()
            self._durable = self.revision
        except BaseException:
            self._connection.close()
            raise

    def rows(self) -> Iterator[Row]:
        """All rows in order, checked. Raises CorruptStore."""
        last = 0
        cursor = self._connection.execute(
            "SELECT revision, type, resource, name, created, data, checksum FROM log ORDER BY revision"
        )
        while True:
            with damage_of(self._directory):
                batch = cursor.fetchmany(500)
            if not batch:
                break
            for *values, checksum in batch:
                row = Row(*values)
                if row.checksum() != checksum:
                    raise CorruptStore(
                        self._directory, f"revision {row.revision} does not match its checksum"
                    )
                last = row.revision
                yield row
        if last > self.revision:
            raise CorruptStore(self._directory, f"revision {last} is beyond the last one, {self.revision}")

    def start(
        self, on_durable: Callable[[int], None], on_failed: Callable[[int, StorageFailed], None]
    ) -> None:
        """Start the writer thread: rows become durable from here on."""
        self._thread = threading.Thread(
            target=self._write, args=(on_durable, on_failed), name="kubesim-journal", daemon=True
        )
        self._thread.start()

    def append(self, row: Row, epoch: int) -> None:
        """Queue a row. After a failure everything of the same epoch is dropped: it was based on what is not
        there."""
        self._queue.put(_Append(row, epoch))

    def compact(self, revisions: Sequence[int], compacted: int) -> None:
        """Remove these rows, and note that the history up to `compacted` is no longer whole."""
        self._queue.put(_Compact(revisions, compacted))

    def close(self) -> None:
        """Write what is queued, then close the database. Blocks for as long as the disk does."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        if self._doubtful:
            with contextlib.suppress(sqlite3.Error, StoreError):
                self._reopen()
        self._connection.close()

    def _read_meta(self) -> tuple[int, int]:
        with damage_of(self._directory):
            meta = dict(self._connection.execute("SELECT name, value FROM meta").fetchall())
        if not {"compacted", "revision"} <= meta.keys():
            raise CorruptStore(self._directory, "its own description is incomplete")
        return meta["compacted"], meta["revision"]

    # In the writer thread

    def _write(
        self, on_durable: Callable[[int], None], on_failed: Callable[[int, StorageFailed], None]
    ) -> None:
        while (batch := self._next_batch()) is not None:
            rows = [
                item.row for item in batch if isinstance(item, _Append) and item.epoch > self._failed_epoch
            ]
            # A compaction that failed is repeated first: a deletion's row must not go before the state's own.
            compactions = self._owed + [item for item in batch if isinstance(item, _Compact)]
            if not rows and not compactions:
                continue
            self._owed = []
            try:
                if self._doubtful:
                    self._reopen()
                self._commit(rows, compactions)
            except (sqlite3.Error, StoreError) as error:
                self._owed = compactions
                failure = self._failure(error)
                epochs = [item.epoch for item in batch if isinstance(item, _Append)]
                if epochs:
                    self._failed_epoch = max(epochs)
                    on_failed(self._failed_epoch, failure)
            else:
                if rows:
                    self._durable = rows[-1].revision
                    on_durable(self._durable)

    def _failure(self, error: sqlite3.Error | StoreError) -> StorageFailed:
        """Undo the transaction; what to tell those who wait for it."""
        code = getattr(error, "sqlite_errorcode", None)
        try:
            self._connection.rollback()
        except sqlite3.Error:
            self._doubtful = True
        if code == sqlite3.SQLITE_FULL:
            return DiskFull(f"the disk refused the write: {error}")
        self._doubtful = True
        if (
            code == sqlite3.SQLITE_IOERR_WRITE
        ):  # a quota, or a limit on the size of files: the kernel has no room for it
            return DiskFull(f"the disk refused the write: {error}")
        return StorageFailed(f"the disk failed: {error}")

    def _reopen(self) -> None:
        """Find out what is on disk after a failure, and go back to what was reported."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._connection = connect(self._directory, check=False)
        busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        _, revision = self._read_meta()
        if busy or revision < self._durable:
            raise CorruptStore(
                self._directory, f"it has lost revision {self._durable}, which was acknowledged"
            )
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("DELETE FROM log WHERE revision > ?", (self._durable,))
        self._connection.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (self._durable,))
        self._connection.execute("COMMIT")
        self._doubtful = False

    def _next_batch(self) -> list[_Append | _Compact] | None:
        batch: list[_Append | _Compact] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) >= MAX_BATCH:
                return batch
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch
        if batch:
            self._queue.put(None)  # the end is for the next round
            return batch
        return None

    def _commit(self, rows: list[Row], compactions: list[_Compact]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(r.revision, r.type, r.resource, r.name, r.created, r.data, r.checksum()) for r in rows],
        )
        if rows:
            connection.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (rows[-1].revision,))
        for item in compactions:
            connection.executemany("DELETE FROM log WHERE revision = ?", [(r,) for r in item.revisions])
            connection.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (item.compacted,))
        connection.execute("COMMIT")
