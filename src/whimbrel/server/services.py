"""Everything that one server process has, put together in one place: opened, started, let go, closed.

Routes and operations get what they need from here. The lock on the home proves that no other server uses this
database, so that what a dead one left is taken over at once and not at the end of its leases.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from whimbrel.infra.registry import Infras
from whimbrel.jobs import records
from whimbrel.jobs.keeper import Desk
from whimbrel.jobs.logstore import LogStore
from whimbrel.jobs.reconciler import Reconciler
from whimbrel.jobs.vault import Vault
from whimbrel.model.config import Config
from whimbrel.operations.blobs import BlobStore
from whimbrel.operations.down import Down
from whimbrel.operations.exec import Exec
from whimbrel.operations.launch import Launch
from whimbrel.operations.local_down import LocalDown
from whimbrel.operations.local_up import LocalUp
from whimbrel.operations.lookout import look_out
from whimbrel.operations.reaping import Reap
from whimbrel.operations.retention import forget_what_is_old
from whimbrel.operations.tools import Places, Tools
from whimbrel.operations.volumes import ApplyVolume, DeleteVolume
from whimbrel.requests.engine import Engine, Operation
from whimbrel.runtime.pid1 import node_command
from whimbrel.server.configs import Configs
from whimbrel.server.draining import Drain
from whimbrel.server.home import Home
from whimbrel.server.metrics import Requests
from whimbrel.server.watchdog import Watchdog
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.engine import Store

logger = logging.getLogger(__name__)

CLOSE = 0.5
"""Seconds for closing connections that lead out."""


class _LateJobs:
    """What operations wake before there is a reconciler to wake."""

    def __init__(self) -> None:
        self.reconciler: Reconciler | None = None

    def wake(self, uid: str) -> None:
        if self.reconciler is not None:
            self.reconciler.wake(uid)


@dataclass(kw_only=True)
class Services:
    """One server's parts."""

    home: Home
    drain: Drain
    address: str
    tools: Tools
    engine: Engine
    jobs: Reconciler
    configuration: Callable[[], Awaitable[Config]]
    configs: Configs
    metrics: Requests = field(default_factory=Requests)
    watchdog: Watchdog = field(default_factory=Watchdog)
    started_at: float = field(default_factory=time.time)
    _watchers: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def open(
        cls, home: Home, drain: Drain, *, address: str, places: Callable[[], Places] | None
    ) -> Services:
        """Open the database and put the parts together; nothing runs yet."""
        store = Store.open(home.database)
        configs = Configs()

        async def configuration() -> Config:
            return await configs.read(os.environ.get("WHIMBREL_CONFIG") or str(home.root / "config.yaml"))

        late = _LateJobs()
        tools = Tools(
            store=store,
            places=places() if places else Infras(node_command(), config=configuration),
            blobs=BlobStore(home.blobs),
            vault=Vault(home.secrets),
            logs=LogStore(home.logs),
            jobs=late,
        )
        operations: list[Operation] = [
            Launch(tools),
            Exec(tools),
            Down(tools),
            LocalUp(tools),
            LocalDown(tools),
            ApplyVolume(tools),
            DeleteVolume(tools),
            Reap(tools),
        ]
        server_id = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        engine = Engine(store, {operation.kind: operation for operation in operations}, server_id)

        async def take_down(cluster: ClusterRow) -> None:
            body = {"cluster": cluster.name, "purge": False, "origin": "autodown"}
            await engine.submit(records.DOWN, records.subject(cluster.name), body, cluster.user)

        desk = Desk(store=store, infra_of=tools.infra_of, logs=tools.logs, vault=tools.vault)
        jobs = late.reconciler = Reconciler(desk, server_id, take_down)
        return cls(
            home=home,
            drain=drain,
            address=address,
            tools=tools,
            engine=engine,
            jobs=jobs,
            configuration=configuration,
            configs=configs,
        )

    async def start(self, broken: Callable[[str], None]) -> None:
        """Begin to work. `broken` is called when a part ends that must not: the server then ends itself."""
        await self.engine.start(alone=True)
        await self.jobs.start(alone=True)
        for name, part in (
            ("the request engine", self.engine.join()),
            ("the job reconciler", self.jobs.join()),
            ("the sweeper", forget_what_is_old(self.tools)),
            ("the lookout", look_out(self.tools)),
            ("the watchdog of the loop", self.watchdog.run()),
        ):
            self._watchers.append(asyncio.create_task(self._watch(name, part, broken), name=f"watch {name}"))

    async def let_go(self, seconds: float) -> None:
        """Hand work back to the queue; jobs on nodes go on."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(self.engine.drain("shutdown", patience=seconds * 0.7), self.jobs.stop())
        except TimeoutError:
            logger.warning("not everything was handed back in %.1f s; its leases end by themselves", seconds)

    async def close(self) -> None:
        """Stop what still runs, and close the files."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self.jobs.stop()
        await self.engine.stop()
        try:
            async with asyncio.timeout(CLOSE):
                await self.tools.places.aclose()
        except TimeoutError:
            logger.warning("connections to infrastructure did not close in %.1f s", CLOSE)
        self.tools.blobs.close()
        self.tools.logs.close()
        self.tools.store.close()

    async def _watch(self, name: str, part: Coroutine[Any, Any, None], broken: Callable[[str], None]) -> None:
        try:
            await part
        except Exception:
            logger.exception("%s failed", name, extra={"action": "part-failed"})
        if not self.drain.draining.is_set():
            broken(f"{name} ended")
