"""Secret values of requests that have not ended, each request's in a file of its own that only the user can
read.

They are kept out of the database on purpose: a deleted row stays readable in free pages and in the
write-ahead log, and a database is what people copy around. Rows hold the names of secrets; whoever runs a job
opens the vault with the key that the row names, and `wipe` ends it when the job has. A value is never part of
an error, an event or a log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


class Vault:
    """Secrets below one directory, by request id."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, key: str, values: Mapping[str, str]) -> None:
        """Keep the values, on the disk when this returns. What is already kept under the key stays as it
        is."""
        if values:
            await asyncio.to_thread(self._put, self._path(key), json.dumps(dict(values)).encode())

    async def get(self, key: str) -> dict[str, str]:
        """The values; empty when there are none, or none any more."""
        return await asyncio.to_thread(self._get, self._path(key))

    async def wipe(self, *keys: str) -> None:
        """Forget the values of these requests."""
        for path in [self._path(key) for key in keys]:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    def keys(self, *, older_than: float = 0.0) -> list[str]:
        """The requests that have secrets here, for at least so many seconds."""
        before = time.time() - older_than
        try:
            found = [entry for entry in os.scandir(self._root) if _KEY.fullmatch(entry.name)]
            return sorted(entry.name for entry in found if entry.stat().st_mtime <= before)
        except FileNotFoundError:
            return []

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError("a vault key is a request id")
        return self._root / key

    @staticmethod
    def _get(path: Path) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:  # its text must not get into any log
            logger.error(
                "the secrets of request %s are spoiled", path.name, extra={"action": "vault-spoiled"}
            )
            return {}
        return found

    def _put(self, path: Path, content: bytes) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}.{id(content):x}")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(file, "wb") as output:
            output.write(content)
            output.flush()
            os.fsync(output.fileno())
        try:
            os.link(fresh, path)  # unlike a rename, it does not replace what is there
        except FileExistsError:
            pass  # the same request, sent twice
        finally:
            fresh.unlink()
        directory = os.open(self._root, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
