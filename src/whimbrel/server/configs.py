"""The configuration files of clients, as they stand when a request needs one: read beside the event loop, within a
bound, and parsed anew only when the file has changed. Requests that need none do not care about a broken one.
"""

from __future__ import annotations

import os
from pathlib import Path

from kubewire.aside import Aside, StillReading
from whimbrel.model.config import Config
from whimbrel.model.configreader import load_config
from whimbrel.model.errors import InvalidConfig

_Stamp = tuple[int, int, int] | None


class Configs:
    """One reader per file."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    async def read(self, path: str) -> Config:
        """What the file says; without a path, nothing.

        Raises:
            InvalidConfig: with each problem and its place.
        """
        if not path:
            return Config()
        if path not in self._files:
            self._files[path] = _File(Path(path))
        return await self._files[path].read()


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = Aside()
        self._known: tuple[_Stamp, Config] | None = None

    async def read(self) -> Config:
        try:
            return await self._aside.run(self._look)
        except StillReading as error:
            raise InvalidConfig(
                f"{self._path}: {error}",
                remedy="check the file system that it lies on, or set WHIMBREL_CONFIG to another file",
            ) from None

    def _look(self) -> Config:
        """In a thread; two at once do the same work twice, no more."""
        stamp = _stamp_of(self._path)
        known = self._known
        if known is not None and known[0] == stamp:
            return known[1]
        config = load_config(self._path)
        self._known = (stamp, config)
        return config


def _stamp_of(path: Path) -> _Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
