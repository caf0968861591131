"""Small files that are whole or not there: written beside, synced, renamed. And the lock of a command."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kubesim.cluster.errors import ClusterBusy
from kubesim.cluster.home import ClusterPaths

_LOCK_LOOK = 0.05  # seconds between two looks at a lock that somebody holds


def write_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace the file so that a reader, or a crash at any moment, finds the old content or the new."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """The value as a JSON file of its user."""
    write_whole(path, json.dumps(value, indent=2).encode() + b"\n")


@contextlib.contextmanager
def command_lock(paths: ClusterPaths, *, patience: float = 10.0) -> Iterator[None]:
    """Be the only command that works on the cluster; waits for another one, but not for long.

    The lock belongs to the open file, so that it is free again when its holder dies, however it dies. Its file goes
    when there is no cluster any more.
    """
    path = paths.command_lock
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(file.fileno(), path):
                break
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise ClusterBusy(
                    f"Another kubesim command has been working on cluster {paths.name!r} for {patience:.0f} s.",
                    remedy="Wait until it has ended, then repeat this command.",
                ) from None
            time.sleep(_LOCK_LOOK)
        file.close()
    try:
        yield
    finally:
        if not paths.root.exists():
            path.unlink(missing_ok=True)
        file.close()


def _is_same(handle: int, path: Path) -> bool:
    """Whether the open file still is the one of that name: its last holder may have removed it."""
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(handle)
    return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)


def try_lock(path: Path) -> int | None:
    """Take the lock for the life of this process; None when another process has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
