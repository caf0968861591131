"""A world of fake infrastructure on disk: contexts are directories, nodes are homes in which real shells run.

Because it is on disk, it outlives a server that is killed, like a Kubernetes does. Faults are files that a
test writes: `fault` in a context ("silent", "refused"), `hold` (nodes are created, but do not run as long as
it is there), `sticky` (nothing is deleted), `stuck` (a thread hangs for 30 s). `made.log` has a line for each
node that was created. `unlabelled` has the names of nodes that lost their labels.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from whimbrel.infra.base import (
    NO_PROVISION,
    Check,
    ClusterSpec,
    Infra,
    Inventory,
    NodeShape,
    NodeState,
    Observation,
    Offer,
    Progress,
    Thing,
    moved,
)
from whimbrel.infra.guard import GuardView
from whimbrel.infra.provision import Provision
from whimbrel.model.config import Config
from whimbrel.model.errors import ContextNotFound, NodeLost, OutOfCapacity, Unreachable
from whimbrel.model.names import node_name
from whimbrel.operations.tools import Local, Paths

SILENCE = 1.0
"""Seconds after which whoever asks a silent context gives up."""


class World:
    """The Places of a test server."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, context: str, *, identity: str = "") -> Path:
        directory = self.root / context
        (directory / "nodes").mkdir(parents=True, exist_ok=True)
        (directory / "identity").write_text(identity or context)
        return directory

    def names(self) -> list[str]:
        found = [entry.name for entry in self.root.iterdir() if (entry / "identity").exists()]
        return sorted(f"k8s/{name}" for name in found)

    async def get(self, infra: str, kubeconfig: Paths) -> Infra:
        if infra not in self.names():
            raise ContextNotFound(
                f"There is no context {infra}; there are: {', '.join(self.names())}.", remedy="whim check"
            )
        return FakeInfra(infra, self.root / infra.removeprefix("k8s/"))

    async def candidates(self, wanted: str | None, kubeconfig: Paths, config: Config) -> Sequence[str]:
        if wanted in (None, "k8s"):
            return self.names()
        if wanted == "local":
            return ["k8s/kubesim-local"]
        return [(await self.get(wanted or "", kubeconfig)).name]

    async def known(self, kubeconfig: Paths, config: Config) -> Sequence[str]:
        return self.names()

    def views(self) -> Mapping[str, GuardView]:
        return {}

    def warnings(self, kubeconfig: Paths) -> Sequence[dict[str, Any]]:
        return []

    def view(self, infra: str, kubeconfig: Paths) -> GuardView | None:
        return None

    async def aclose(self) -> None:
        return

    def local(self, kubeconfig: Paths) -> Local:
        return FakeLocal(self)

    def default_shape(self, infra: str) -> NodeShape:
        return NodeShape(cpus=2)

    def end(self) -> None:
        """Kill every process that runs in one of the nodes, until there is none that could still write."""
        homes = list(self.root.glob("*/nodes/*"))
        while any(kill_processes(home) for home in homes):
            time.sleep(0.005)


class FakeLocal:
    """The embedded Kubernetes of the world."""

    name = "k8s/kubesim-local"

    def __init__(self, world: World) -> None:
        self._world = world

    async def running(self) -> bool:
        return self.name in self._world.names()

    async def up(self, progress: Progress) -> None:
        progress("starting it")
        self._world.add("kubesim-local")

    async def down(self, progress: Progress) -> None:
        context = self._world.root / "kubesim-local"
        for home in context.glob("nodes/*"):
            kill_processes(home)
            _remove(home)
        (context / "identity").unlink(missing_ok=True)


class FakeInfra:
    """One context of the world."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory

    def trouble(self) -> str:
        return ""

    async def _answer(self) -> None:
        try:
            fault = (self._directory / "fault").read_text()
        except FileNotFoundError:
            return
        if fault == "silent":
            await asyncio.sleep(SILENCE)
            raise Unreachable(
                f"{self.name} accepted the connection and was silent for {SILENCE:g} s.", remedy="whim check"
            )
        raise Unreachable(f"{self.name} refused the connection.", remedy="whim check")

    async def check(self) -> Check:
        try:
            await self._answer()
        except Unreachable as error:
            return Check(infra=self.name, usable=False, reason=error.message, remedy=error.remedy or "")
        return Check(infra=self.name, usable=True, identity=await self.identity(), nodes=1, cpus=8)

    async def offer(self, num_nodes: int, shape: NodeShape, provision: Provision = NO_PROVISION) -> Offer:
        await self._answer()
        if shape.cpus > 8:
            reason = f"no node has {shape.cpus:g} CPUs; the largest has 8"
            return Offer(infra=self.name, feasible=False, reason=reason, shape=shape)
        return Offer(infra=self.name, feasible=True, shape=shape)

    async def accelerators(self, patience: float) -> Inventory:
        return Inventory(infra=self.name)

    async def identity(self, like: str = "") -> str:
        await self._answer()
        return (self._directory / "identity").read_text()

    def things(self, spec: ClusterSpec) -> Sequence[Thing]:
        names = [node_name(spec.name, spec.uid, rank) for rank in range(spec.num_nodes)]
        return [
            Thing(
                token=f"{self.name}/Pod/default/{name}/{spec.uid}", kind="Pod", name=name, namespace="default"
            )
            for name in names
        ]

    async def ensure(self, spec: ClusterSpec, progress: Progress, timeout: float) -> Observation:
        if (self._directory / "full").exists():
            patience = spec.provision.patience or timeout
            raise OutOfCapacity(f"{self.name}: no machine took its nodes within {patience:g} s.")
        for rank in range(spec.num_nodes):
            await self._answer()
            if (self._directory / "stuck").exists():
                progress("stuck in a thread")
                await asyncio.to_thread(time.sleep, 30)
            home = self._home(spec, rank)
            if not home.exists():
                home.mkdir()
                _append(self._directory / "made.log", home.name)
            if rank == 0 and (self._directory / "hold").exists():
                progress("waiting for the nodes")
            while (self._directory / "hold").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # a file is what another process can change
        return await self.observe(spec)

    async def observe(self, spec: ClusterSpec) -> Observation:
        await self._answer()
        mark = self._directory / "identity"
        if spec.identity and mark.exists() and spec.identity != mark.read_text():
            raise moved(self.name, spec.name)
        nodes = [
            NodeState(
                rank=rank,
                name=self._home(spec, rank).name,
                phase="running" if self._ours(spec, rank) else "absent",
                ip=f"127.0.0.{rank + 1}",
                message="nobody may delete it" if (self._directory / "sticky").exists() else "",
            )
            for rank in range(spec.num_nodes)
        ]
        return Observation(nodes=nodes, at=time.time())

    async def remove(self, spec: ClusterSpec, progress: Progress, timeout: float) -> Observation:
        await self._answer()
        if not (self._directory / "sticky").exists():
            for rank in range(spec.num_nodes):
                if not self._ours(spec, rank):
                    continue
                home = self._home(spec, rank)
                kill_processes(home)
                _remove(home)
        return await self.observe(spec)

    async def named(self, things: Sequence[Thing]) -> Sequence[Thing]:
        await self._answer()
        return [thing for thing in things if (self._directory / "nodes" / thing.name).exists()]

    def _ours(self, spec: ClusterSpec, rank: int) -> bool:
        home = self._home(spec, rank)
        marks = self._directory / "unlabelled"
        return home.exists() and not (marks.exists() and home.name in marks.read_text())

    def node(self, spec: ClusterSpec, rank: int) -> FakeNode:
        return FakeNode(self._home(spec, rank), self._directory)

    def _home(self, spec: ClusterSpec, rank: int) -> Path:
        return self._directory / "nodes" / node_name(spec.name, spec.uid, rank)


class FakeNode:
    """A node: local processes with a HOME of their own."""

    def __init__(self, home: Path, context: Path) -> None:
        self.name = home.name
        self._home = home
        self._context = context

    @contextlib.asynccontextmanager
    async def exec(
        self, argv: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> AsyncIterator[FakeStream]:
        if not self._home.exists() or (self._context / "fault").exists():
            raise NodeLost(f"node {self.name} cannot be reached")
        # Not asyncio's subprocess: uvloop's leaves its ends of the pipes open in what it starts, jobs included.
        process = subprocess.Popen(  # noqa: ASYNC220
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._home,
            env={"HOME": str(self._home), "PATH": os.environ["PATH"]},
            start_new_session=True,
            bufsize=0,
        )
        try:
            yield FakeStream(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.wait)
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()


class FakeStream:
    """The streams of a local process as an exec stream."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            view = memoryview(data)
            while view:
                view = view[await asyncio.to_thread(self._process.stdin.write, view[:65536]) or 0 :]
        except (BrokenPipeError, ValueError) as error:
            raise NodeLost("the command does not read") from error

    async def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        pieces: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        pipes = {1: self._process.stdout, 2: self._process.stderr}
        for kind, pipe in pipes.items():
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)

            def read(kind: int = kind, number: int = pipe.fileno()) -> None:
                piece = os.read(number, 65536)
                if not piece:
                    loop.remove_reader(number)
                pieces.put_nowait((kind, piece))

            loop.add_reader(pipe.fileno(), read)
        open_ = len(pipes)
        try:
            while open_:
                kind, piece = await pieces.get()
                if piece:
                    yield kind, piece
                else:
                    open_ -= 1
        finally:
            for pipe in pipes.values():
                if pipe is not None and not pipe.closed:
                    loop.remove_reader(pipe.fileno())

    async def exit_code(self) -> int:
        return await asyncio.to_thread(self._process.wait)


def processes_in(home: Path) -> Iterator[tuple[int, str, list[bytes]]]:
    """The processes that have this home: pid, command line, environment."""
    mark = f"HOME={home}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        if mark in environment:
            yield int(entry.name), command, environment


def commands_in(home: Path) -> str:
    """The command lines of what runs in a node."""
    return "\n".join(command for _, command, _ in processes_in(home))


def kill_processes(home: Path) -> int:
    """End everything that has this home; how many that were."""
    pids = [pid for pid, _, _ in processes_in(home)]
    for pid in pids:
        _kill(pid)
    return len(pids)


def kill_streams(home: Path) -> None:
    """Break the exec streams to a node; the jobs that run on it are in sessions of their own and go on."""
    for pid, command, environment in processes_in(home):
        if "/runner-" not in command and not any(
            item.startswith(b"WHIMBREL_JOB_DIR=") for item in environment
        ):
            _kill(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _append(path: Path, line: str) -> None:
    with open(path, "a") as file:
        file.write(f"{line}\n")


def _remove(home: Path) -> None:
    """Delete the node at once for everybody who looks; its files may still be written by what is being
    killed."""
    graves = home.parent.parent / "graves"
    graves.mkdir(exist_ok=True)
    if home.exists():
        home.rename(graves / home.name)
