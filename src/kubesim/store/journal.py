"""The log on disk: every change is one row, appended and synced before it is seen by anybody.

SQLite in WAL mode with full synchronisation, one connection, one writer thread. While the thread waits for
the disk further changes gather, and the next transaction takes them all: group commit. The rows are the whole
truth: the newest row of a name is the object, older ones are history until compaction removes them. Each row
carries a checksum, and a marker file beside the database says that there has to be one, so that damage is
found when the store is opened and not when a client reads nonsense. Nothing here knows what the bytes mean.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubesim.store.errors import CorruptStore, StorageFailed, StoreInUse

DATABASE = "objects.db"
MARKER = "store.format"
FORMAT = "kubesim-store 1\n"
MAX_BATCH = 512

_SCHEMA = """
CREATE TABLE log (
    revision INTEGER PRIMARY KEY,  -- of the store: grows by one with each write
    type INTEGER NOT NULL,         -- ChangeType; a deletion's row holds the last state
    resource TEXT NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,      -- revision of the creation of this object
    data BLOB NOT NULL,
    checksum INTEGER NOT NULL      -- crc32 over all the other columns
) STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO meta VALUES ('compacted', 0), ('revision', 0);
"""


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
        self._connection = _open(directory)
        self._queue: queue.SimpleQueue[_Append | _Compact | None] = queue.SimpleQueue()
        self._failed_epoch = -1
        self._owed: list[_Compact] = []
        self._thread: threading.Thread | None = None
        try:
            self.compacted, self.revision = self._read_meta()
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
            with _damage(self._directory):
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
        self._connection.close()

    def _read_meta(self) -> tuple[int, int]:
        with _damage(self._directory):
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
                self._commit(rows, compactions)
            except sqlite3.Error as error:
                self._owed = compactions
                with contextlib.suppress(sqlite3.Error):
                    self._connection.rollback()
                epochs = [item.epoch for item in batch if isinstance(item, _Append)]
                if epochs:
                    self._failed_epoch = max(epochs)
                    on_failed(self._failed_epoch, StorageFailed(f"the disk refused the write: {error}"))
            else:
                if rows:
                    on_durable(rows[-1].revision)

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


@contextlib.contextmanager
def _damage(directory: Path) -> Iterator[None]:
    """What SQLite says while it reads means damage, unless it says that somebody else is there."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreInUse(directory) from error
        raise CorruptStore(directory, str(error)) from error
    except sqlite3.DatabaseError as error:
        raise CorruptStore(directory, str(error)) from error


def _open(directory: Path) -> sqlite3.Connection:
    database, marker = directory / DATABASE, directory / MARKER
    _check_marker(directory, database, marker)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    expected = marker.exists()
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False, timeout=1.0)
    try:
        with _damage(directory):
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN IMMEDIATE")
            tables = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            connection.execute("ROLLBACK")
            if not {"log", "meta"} <= tables:
                if expected or tables:
                    raise CorruptStore(directory, f"{DATABASE} has lost its tables")
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise CorruptStore(directory, f"the database cannot be put into WAL mode, it stays in {mode}")
            connection.execute("PRAGMA synchronous = FULL")
            damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise CorruptStore(directory, str(damage))
        if not expected:
            _write_marker(directory, marker)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_marker(directory: Path, database: Path, marker: Path) -> None:
    if not marker.exists():
        return
    try:
        text = marker.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptStore(directory, f"{MARKER} cannot be read ({error})") from error
    if text != FORMAT:
        raise CorruptStore(directory, f"{MARKER} names a format that this version does not know")
    if not database.exists():
        raise CorruptStore(directory, f"{DATABASE} is missing")


def _write_marker(directory: Path, marker: Path) -> None:
    handle = os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, FORMAT.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    parent = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
