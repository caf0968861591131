"""What is damaged in a cluster's data: looked at without changing a byte of it.

`shallow` looks at what costs nothing: are the files there, and are they what their names say. `deep` reads every
object of the durable store and its checksum, on a copy, because opening a database is itself a change (its log is
rolled in); it is for commands that are about to delete or start. A store that a living daemon holds is never opened.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from kubesim.cluster.home import ClusterPaths
from kubesim.cluster.pki import PkiFiles
from kubesim.cluster.record import ClusterRecord, Phase, StoreKind

_DATABASE = "objects.db"
_SQLITE = b"SQLite format 3\0"


def shallow(paths: ClusterPaths, record: ClusterRecord) -> list[str]:
    """What is missing or obviously not what it should be; nothing is expected of a half-created cluster."""
    if record.name != paths.name:
        return [f"{paths.record} belongs to a cluster named {record.name!r}"]
    if record.phase in (Phase.CREATING, Phase.DELETING):
        return []
    damage = [f"{path} is missing or damaged" for path in PkiFiles(paths.pki).missing()]
    if record.store is StoreKind.DURABLE:
        database = paths.store / _DATABASE
        try:
            with database.open("rb") as file:
                if file.read(len(_SQLITE)) != _SQLITE:
                    damage.append(f"{database} is not a database")
        except OSError as error:
            damage.append(f"{database} cannot be read: {error.strerror}")
    return damage


def deep(paths: ClusterPaths, record: ClusterRecord) -> list[str]:
    """What `shallow` finds, and what reading the whole store finds; only while no daemon lives."""
    damage = shallow(paths, record)
    if damage or record.store is not StoreKind.DURABLE or record.phase in (Phase.CREATING, Phase.DELETING):
        return damage
    # the store brings asyncio along, which commands that only list clusters do not need
    from kubesim.store import StoreError
    from kubesim.store.journal import Journal

    with tempfile.TemporaryDirectory(prefix="kubesim-check-") as directory:
        copy = Path(directory) / "store"
        try:
            shutil.copytree(paths.store, copy)
            journal = Journal(copy)
            try:
                for _ in journal.rows():
                    pass
            finally:
                journal.close()
        except StoreError as error:
            return [str(error).replace(str(copy), str(paths.store))]
        except OSError as error:
            return [f"{paths.store} cannot be read: {error}"]
    return []
