"""How a store comes to be: empty in memory, or read back from its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kubesim.store.database import DATABASE, MARKER
from kubesim.store.errors import CorruptStore, StoreError
from kubesim.store.history import HistoryLimits
from kubesim.store.journal import Journal
from kubesim.store.store import Store

StoreMode = Literal["memory", "durable"]


def open_store(
    mode: StoreMode, directory: Path | None = None, *, limits: HistoryLimits | None = None
) -> Store:
    """Open a store; `directory` is needed for, and only for, a durable one.

    Raises CorruptStore when the data on disk is damaged (and leaves it as it is), StoreInUse when another
    process has it open. Reads the whole log, so it takes time in proportion to it: call it before serving.
    """
    if mode == "memory":
        return Store(None, limits)
    if directory is None:
        raise ValueError("a durable store needs a directory")
    journal = Journal(directory)
    try:
        return Store(journal, limits)
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        journal.close()
        raise CorruptStore(directory, f"its log contradicts itself ({error!r})") from error
    except BaseException:
        journal.close()
        raise


def verify(directory: Path) -> str | None:
    """Why the durable store in this directory cannot be used, or None when it can. Changes nothing, serves
    nobody."""
    if not (directory / MARKER).exists() and not (directory / DATABASE).exists():
        return f"there is no store in {directory}"
    try:
        journal = Journal(directory)
    except (StoreError, OSError) as error:
        return str(error)
    try:
        for _ in journal.rows():
            pass
    except StoreError as error:
        return str(error)
    finally:
        journal.close()
    return None
