"""A whole cluster in a thread of this process, with its own event loop and its own clock.

It costs some twenty milliseconds once the modules are loaded, because no process starts and the certificates are those
that the caller has made (`kubesim.cluster.pki.make`): clusters that share them trust each other's users, which is
what a test run wants and a user does not.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from kubesim import clock
from kubesim.apiserver.environment import Environment
from kubesim.apiserver.serve import Serving
from kubesim.cluster.contexts import document
from kubesim.cluster.controlplane import ControlPlane, Wanted, running
from kubesim.cluster.pki import PkiFiles
from kubesim.faults import Ask, Faults
from kubesim.kubelet.teardown import stop_all
from kubesim.store import Store, open_store
from kubesim.testing.cluster import Cluster
from kubesim.testing.loopthread import LoopThread
from kubesim.testing.movable import MovableClock

_START = 10.0
_NODE_START = 60.0
_END = 10.0
_QUIET_TURNS = 60
"""Turns of the event loop without a change after which nothing more is on its way: a change reaches the controllers,
and what they do about it the store, within about ten."""
_MOST_TURNS = 20_000
_ADVANCE = 120.0
_ASK = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What kind of cluster."""

    store: Literal["memory", "durable"] = "memory"
    process_node: bool = False  # this machine as a node that runs pods as processes
    seed: int | None = None  # names and uids that are the same each time
    start: datetime | None = None  # what time it is in the cluster when it begins; the present otherwise


class ClusterClock:
    """The time of one cluster, from outside."""

    def __init__(self, loop: LoopThread, moving: MovableClock, store: Store) -> None:
        self._loop = loop
        self._moving = moving
        self._store = store

    def now(self) -> datetime:
        """What time it is in the cluster, in UTC."""
        return self._moving.now()

    def advance(self, seconds: float) -> None:
        """Let the cluster live through so many seconds: schedules come due, times to live and grace periods end,
        leases that nobody renews expire. It returns when the controllers have done what there was to do."""
        self._loop.run(self._advance(seconds), _ADVANCE)

    async def _advance(self, seconds: float) -> None:
        with clock.use(self._moving):
            await self._moving.advance(seconds, self._settled)

    async def _settled(self) -> None:
        """Until the cluster has been quiet for a while."""
        quiet, seen = 0, self._store.revision
        for _ in range(_MOST_TURNS):
            await self._store.written()
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._store.revision == seen else 0
            seen = self._store.revision
            if quiet == _QUIET_TURNS:
                return


def _faults_of(loop: LoopThread, serving: Serving) -> Ask:
    """The road to the faults of an API server in another thread; no fault can block it."""

    def ask(command: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        async def do() -> Mapping[str, Any]:
            return serving.faults.command(command, arguments)

        return loop.run(do(), _ASK)

    return ask


class EmbeddedCluster(Cluster):
    """A cluster that lives until it is closed."""

    def __init__(self, pki: PkiFiles, options: Options | None = None, *, name: str = "test") -> None:
        self._options = options or Options()
        self._pki = pki
        self._moving = MovableClock(self._options.start)
        self._opened: concurrent.futures.Future[ControlPlane] = concurrent.futures.Future()
        self._ending = asyncio.Event()
        with ExitStack() as undo:
            # short, because the sockets of a node live below it, and a socket's name has at most 108 bytes
            self._root = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
            undo.callback(shutil.rmtree, self._root, ignore_errors=True)
            loop = LoopThread(f"kubesim: {name}")
            undo.callback(loop.close)
            self._life = loop.start(self._live())
            undo.callback(self._end, loop)
            self._life.add_done_callback(self._not_opened)
            opened = self._opened.result(_NODE_START if self._options.process_node else _START)
            path = self._root / "kubeconfig"
            path.touch(mode=0o600)
            server = f"https://127.0.0.1:{opened.serving.port}"
            path.write_text(yaml.safe_dump(document(f"kubesim-{name}", pki, server)))
            super().__init__(path, f"kubesim-{name}", loop)
            undo.callback(super().close)
            self.clock = ClusterClock(loop, self._moving, opened.api.store)
            self.faults = Faults(_faults_of(loop, opened.serving))
            """What goes wrong on the way to it: `with faults.inject("hang", verbs=["list"]): ...`"""
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and every process of its pods."""
        self._undo.close()

    async def _live(self) -> None:
        """The cluster's life, from its first to its last moment, in its own thread."""
        with clock.use(self._moving):
            store = open_store(self._options.store, self._root / "store")
            try:
                async with self._running(store) as cluster:
                    self._opened.set_result(cluster)
                    await self._ending.wait()
            finally:
                self._moving.close()
                await store.close()

    @asynccontextmanager
    async def _running(self, store: Store) -> AsyncIterator[ControlPlane]:
        node = self._root / "node" if self._options.process_node else None
        environment = Environment(seed=self._options.seed)
        volumes = self._root / "volumes" if self._options.process_node else None
        wanted = Wanted(pki=self._pki, process_node=node, volumes=volumes, environment=environment)
        async with running(store, wanted) as cluster:
            await cluster.usable()
            if node is not None:
                await cluster.node_ready()
            yield cluster

    def _not_opened(self, life: concurrent.futures.Future[None]) -> None:
        """The life is over; if that was before it began, whoever waits for it has to know why."""
        if not self._opened.done():
            self._opened.set_exception(life.exception() or RuntimeError("the cluster ended before it served"))

    def _end(self, loop: LoopThread) -> None:
        loop.run(self._set_ending(), _END)
        try:
            self._life.result(_END)
        finally:
            if self._options.process_node:
                stop_all(self._root / "node", grace=0.0)

    async def _set_ending(self) -> None:
        self._ending.set()
