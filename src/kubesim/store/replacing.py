"""Other content for a durable store that nobody has open: all of it or, should this be interrupted, none.

The new database is made beside the old one and takes its place in one step. Revisions go on from the higher of both,
and everything before counts as compacted: whoever watched the old content learns that it is to be read anew.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kubesim.store.database import DATABASE, MARKER, connect
from kubesim.store.errors import CorruptStore
from kubesim.store.journal import Journal, Row
from kubesim.store.records import ChangeType, Stored


def replace_store(directory: Path, states: Sequence[Stored], revision: int) -> int:
    """Make these objects, as they were at this revision, the content of the store; returns its revision now.

    Raises StoreInUse. What is damaged is replaced as well.
    """
    newest = max(revision, _settled(directory) + 1)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=directory.parent) as beside:
        made = Path(beside)
        connection = connect(made)
        try:
            connection.execute("BEGIN IMMEDIATE")
            rows = (
                Row(s.revision, ChangeType.ADDED, s.resource, s.name, s.created, s.data)
                for s in sorted(states, key=lambda state: state.revision)
            )
            connection.executemany(
                "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((r.revision, r.type, r.resource, r.name, r.created, r.data, r.checksum()) for r in rows),
            )
            connection.execute("UPDATE meta SET value = ?", (newest,))
            connection.execute("COMMIT")
        finally:
            connection.close()  # writes the log back: the database is one file, and synced
        os.replace(made / DATABASE, directory / DATABASE)
        os.replace(made / MARKER, directory / MARKER)
        _sync(directory)
    return newest


def _settled(directory: Path) -> int:
    """The newest revision of what is there; afterwards it has no log that could be taken for the new database's."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        journal = Journal(directory)
        journal.close()
        newest = journal.revision
    except CorruptStore:
        newest = 0
    for suffix in ("-wal", "-shm"):
        (directory / f"{DATABASE}{suffix}").unlink(missing_ok=True)
    _sync(directory)
    return newest


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
