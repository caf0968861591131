"""Which contexts there are and where each leads, as the kubeconfig says now: it is read again when a file changes.

A file that is broken, missing or incomplete gives its error to those who name it, at each use, until it is mended.
No call is made here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kubewire.connection import Connection
from kubewire.errors import ConfigError
from kubewire.kubeconfig import Kubeconfig, load

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Contexts:
    """The merged kubeconfig of one list of files."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = tuple(Path(path) for path in paths)
        self._stamp: _Stamp | None = None
        self._config: Kubeconfig | None = None
        self._error: ConfigError | None = None

    def names(self) -> list[str]:
        """All contexts. Raises a `ConfigError` when a file cannot be used."""
        return self._read().contexts()

    def current(self) -> str | None:
        """The current context, if there is one and it exists."""
        config = self._read()
        return config.current if config.current in config.contexts() else None

    def connection(self, context: str) -> Connection:
        """Where a context leads. Raises a `ConfigError`."""
        return self._read().connection(context)

    def _read(self) -> Kubeconfig:
        stamp = tuple(_stamp_of(path) for path in self.paths)
        if stamp != self._stamp:
            self._config = self._error = None
            try:
                self._config = load(self.paths)
            except ConfigError as error:
                self._error = error
            self._stamp = stamp
        if self._error is not None:
            raise self._error
        assert self._config is not None
        return self._config


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
