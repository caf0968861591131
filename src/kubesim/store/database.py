"""The database file of a journal: how it is made, opened and found damaged.

SQLite in WAL mode with full synchronisation, held by one connection. A marker file beside the database says that there
has to be one, so that a store that has vanished is not taken for a new one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from kubesim.store.errors import CorruptStore, StoreInUse

DATABASE = "objects.db"
MARKER = "store.format"
FORMAT = "kubesim-store 1\n"

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


@contextlib.contextmanager
def damage_of(directory: Path) -> Iterator[None]:
    """What SQLite says while it reads means damage, unless it says that somebody else is there."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreInUse(directory) from error
        raise CorruptStore(directory, str(error)) from error
    except sqlite3.DatabaseError as error:
        raise CorruptStore(directory, str(error)) from error


def connect(directory: Path, *, check: bool = True) -> sqlite3.Connection:
    """Open the database, make it if there is none; `check` looks through all of its pages. Raises CorruptStore,
    StoreInUse."""
    database, marker = directory / DATABASE, directory / MARKER
    _check_marker(directory, database, marker)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    expected = marker.exists()
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False, timeout=1.0)
    try:
        with damage_of(directory):
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
            damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if check else "ok"
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
