"""What a kubelet offers to the API server: logs, exec, attach and connections into pods.

The log, exec, attach and portforward subresources of a pod are served by the machine that the pod runs on. A
real API server dials the kubelet; here a kubelet in the same process registers itself in the NodeDirectory
under the name of its node, and the subresources find it by the pod's `spec.nodeName`. This module holds the
protocol between the two and nothing else: framing for clients is in `streaming.py`, processes are the
kubelet's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """The query of `pods/NAME/log`, already checked: at most one of `since_seconds` and `since_time` is
    set."""

    follow: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since_time: datetime | None = None
    timestamps: bool = False
    limit_bytes: int | None = None
    previous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOptions:
    """The query of `pods/NAME/exec` and `attach`; `command` is empty for attach."""

    command: tuple[str, ...] = ()
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


class NodeError(Exception):
    """The kubelet refuses: the message is shown to the user as the kubelet's own answer."""

    def __init__(self, message: str, *, code: int = 400) -> None:
        super().__init__(message)
        self.code = code
        """HTTP status of the answer: 400 for a container that is not running, 404 for one that is not
        known."""


class ProcessStream(Protocol):
    """A running command inside a container, seen from outside."""

    async def write_stdin(self, data: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Pairs of (1 for stdout or 2 for stderr, bytes), until both have ended."""
        ...

    async def exit_code(self) -> int:
        """Wait for the end of the command; a signal N is 128 + N."""
        ...

    async def aclose(self) -> None:
        """The client is gone: release everything; whether the command ends is the kubelet's policy."""
        ...


class NodeApi(Protocol):
    """The kubelet's own API. Each method may raise NodeError before it has given its first byte."""

    def logs(self, namespace: str, pod: str, container: str, options: LogOptions) -> AsyncIterator[bytes]: ...

    async def exec(self, namespace: str, pod: str, container: str, options: ExecOptions) -> ProcessStream: ...

    async def attach(
        self, namespace: str, pod: str, container: str, options: ExecOptions
    ) -> ProcessStream: ...

    async def dial(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUsage:
    """CPU in billionths of a core, memory in bytes."""

    cpu: int
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUsage:
    """What a node and its containers used in the `window` (seconds) that ended `at` (seconds since 1970)."""

    at: float
    window: float
    machine: ContainerUsage
    containers: Mapping[tuple[str, str], ContainerUsage]  # by the pod's uid and the container's name


class Meter(Protocol):
    def usage(self) -> NodeUsage | None:
        """The newest figures; None until there are some."""
        ...


class NodeDirectory:
    """Which nodes have a kubelet that can be reached from this process."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeApi] = {}
        self._meters: dict[str, Meter] = {}
        self.when_metered: Callable[[], None] = lambda: None

    def add(self, node_name: str, node: NodeApi, meter: Meter | None = None) -> None:
        self._nodes[node_name] = node
        if meter is not None:
            self._meters[node_name] = meter
            self.when_metered()

    def remove(self, node_name: str) -> None:
        self._nodes.pop(node_name, None)
        self._meters.pop(node_name, None)

    def meters(self) -> Mapping[str, Meter]:
        """The meters of all nodes that have one."""
        return self._meters

    def find(self, node_name: str) -> NodeApi | None:
        return self._nodes.get(node_name)
