"""Which contexts there are and where each leads, as the kubeconfig says now: it is read again when a file changes.

A file that is broken, missing or incomplete gives its error to those who name it, at each use, until it is mended; so
does one that cannot be read within a bound, because its file system hangs. No call is made here.

In a pod with a service account there is one context more, `in-cluster`, and it is the current one where the kubeconfig
has none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kubewire.aside import Aside, StillReading
from kubewire.connection import Connection
from kubewire.errors import ConfigError, KubeconfigInvalid
from kubewire.kubeconfig import Kubeconfig, in_cluster, load
from whimbrel.model import errors

IN_CLUSTER = "in-cluster"
"""The context of the pod that this process runs in."""

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Contexts:
    """The merged kubeconfig of one list of files."""

    def __init__(self, paths: Sequence[str | Path], *, pod: Callable[[], Connection] = in_cluster) -> None:
        self._pod = pod
        self.paths = tuple(Path(path) for path in paths)
        self._aside = Aside()
        self._known: tuple[_Stamp, Kubeconfig | ConfigError] | None = None
        self._looking: asyncio.Task[Kubeconfig | ConfigError] | None = None

    async def names(self) -> list[str]:
        """All contexts. Raises a `ConfigError` when a file cannot be used."""
        config = await self._read()
        return [*config.contexts(), *([IN_CLUSTER] if await self._only_pod(config) else [])]

    async def current(self) -> str | None:
        """The current context, if there is one and it exists."""
        config = await self._read()
        if config.current in config.contexts():
            return config.current
        return IN_CLUSTER if await self._only_pod(config) else None

    async def connection(self, context: str) -> Connection:
        """Where a context leads. Raises a `ConfigError`."""
        config = await self._read()
        if context == IN_CLUSTER and (found := await self._only_pod(config)):
            return found
        return config.connection(context)

    async def _only_pod(self, config: Kubeconfig) -> Connection | None:
        """Where this pod's service account leads, unless a context of the kubeconfig has that name."""
        if IN_CLUSTER in config.contexts():
            return None
        try:
            return await self._aside.run(self._pod)
        except (ConfigError, StillReading):
            return None

    def warnings(self) -> list[errors.KubeconfigInvalid]:
        """What the files hide or lack, though they can be used; as they were last read."""
        found = self._known[1] if self._known else None
        if not isinstance(found, Kubeconfig):
            return []
        said = [
            errors.KubeconfigInvalid(
                f"The context {name!r} of {hidden} is hidden by the one of the same name in {used}.",
                remedy=f"kubectl config rename-context {name} OTHER --kubeconfig {hidden}",
            )
            for name, used, hidden in found.hidden
        ]
        if len(self.paths) > 1 or found.contexts():
            said += [
                errors.KubeconfigInvalid(
                    f"{path} is named in KUBECONFIG and does not exist.", remedy="check KUBECONFIG for a slip"
                )
                for path in found.missing
            ]
        return said

    async def _read(self) -> Kubeconfig:
        try:
            found = await self._look_together()
        except StillReading as error:
            where = os.pathsep.join(map(str, self.paths))
            raise KubeconfigInvalid(
                where,
                str(error),
                remedy="Check the file system that it lies on, or set KUBECONFIG to another file.",
            ) from None
        if isinstance(found, ConfigError):
            raise found
        return found

    async def _look_together(self) -> Kubeconfig | ConfigError:
        """One look for all who ask meanwhile: hundreds must not wait for each other until their bound is over."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._aside.run(self._look), name="reading a kubeconfig")
            self._looking.add_done_callback(_told)
        return await asyncio.shield(self._looking)

    def _look(self) -> Kubeconfig | ConfigError:
        """In a thread."""
        stamp = tuple(_stamp_of(path) for path in self.paths)
        known = self._known
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            found: Kubeconfig | ConfigError = load(self.paths)
        except ConfigError as error:
            found = error
        self._known = (stamp, found)
        return found


def _told(look: asyncio.Task[Kubeconfig | ConfigError]) -> None:
    if not look.cancelled():
        look.exception()  # told to those who waited, if anybody still did


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
