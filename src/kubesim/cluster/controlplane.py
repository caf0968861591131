"""All rooms of a cluster in one event loop: API server, scheduler, controllers, and this machine as a node if wanted.

The one place that puts them together. The daemon uses it for a process that lives for years, `kubesim.testing` for a
thread that lives for a test; neither the life of a process (locks, signals, files) nor of a thread is known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.audit import Audit
from kubesim.apiserver.environment import Environment
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.apiserver.nodes import NodeDirectory
from kubesim.apiserver.requests import StreamReply
from kubesim.apiserver.serve import Serving, TlsFiles, serve
from kubesim.apiserver.usage import pretends
from kubesim.cluster.home import PAUSE
from kubesim.cluster.pausing import Pause
from kubesim.cluster.pki import PkiFiles
from kubesim.controllers.localvolumes import LocalProvisioner
from kubesim.controllers.manager import all_controllers, run_all
from kubesim.kubelet.process import ProcessKubelet
from kubesim.scheduler.scheduler import Scheduler
from kubesim.store import Store
from kubewire.client import Client
from kubewire.informer import Change, Informers
from kubewire.resources import NODES, PODS, SERVICE_ACCOUNTS, Resource
from kubewire.sharing import Sharing

log = logging.getLogger("kubesim")

_STREAMS_GRACE = 0.5
_REVIVAL = 1.0


class CannotListen(Exception):
    """The port is not to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What kind of cluster; the port 0 takes a free one."""

    pki: PkiFiles
    port: int = 0
    audit: Path | None = None  # where to write who asked for what
    process_node: Path | None = None  # what this machine keeps as a node; None when it is none
    volumes: Path | None = None  # where this machine, as a node, makes volumes that are claimed
    environment: Environment | None = None


class ControlPlane:
    """A cluster that serves."""

    def __init__(self, api: ApiServer, serving: Serving) -> None:
        self.api = api
        self.serving = serving

    async def usable(self) -> None:
        """Until a pod can be created."""
        await self._until(SERVICE_ACCOUNTS, _is_default_account)

    async def node_ready(self) -> None:
        """Until a pod could also run."""
        await self._until(NODES, _is_ready)

    async def _until(self, resource: Resource, test: Callable[[dict[str, Any]], bool]) -> None:
        async with Informers(
            Client(InProcessTransport(self.api, user="system:kube-controller-manager"))
        ) as own:
            await own.of(resource).until(test)


@contextlib.asynccontextmanager
async def running(store: Store, wanted: Wanted) -> AsyncIterator[ControlPlane]:
    """A cluster on this store as long as the context lasts; then its streams end in order. Raises CannotListen."""
    nodes = NodeDirectory()
    pki = wanted.pki
    api = ApiServer(store, nodes=nodes, environment=wanted.environment, service_account_key=pki.accounts_key)
    if wanted.audit is not None:
        api.audit = Audit(wanted.audit)
    await api.start()
    tls = TlsFiles(certificate=pki.server_cert, key=pki.server_key, client_ca=pki.ca_cert, ca_key=pki.ca_key)
    try:
        serving = await serve(api, "127.0.0.1", wanted.port, tls)
    except OSError as error:
        raise CannotListen(f"port {wanted.port}: {error.strerror or error}") from error
    pause = Pause()
    api.own_paths["POST", PAUSE] = lambda: StreamReply(chunks=_paused(pause))
    async with asyncio.TaskGroup() as group:
        control = pause.during_freedom(lambda: _control(api, wanted))
        tasks = [group.create_task(control, name="control plane")]
        if wanted.process_node is not None:
            kubelet = _keep_up("kubelet", _kubelet(api, nodes, wanted.process_node))
            tasks.append(group.create_task(kubelet, name="kubelet"))
        try:
            yield ControlPlane(api, serving)
        finally:
            await serving.stop(_STREAMS_GRACE)
            for task in tasks:
                task.cancel()


async def _control(api: ApiServer, wanted: Wanted) -> None:
    """Scheduler and controllers: what stands still while a snapshot is restored."""
    manager = Client(InProcessTransport(api, user="system:kube-controller-manager"))
    scheduler = Client(InProcessTransport(api, user="system:kube-scheduler"))
    async with Informers(manager, sharing=Sharing()) as informers, asyncio.TaskGroup() as group:
        controllers = all_controllers(manager, informers, ca_pem=wanted.pki.ca_cert.read_text())
        if wanted.volumes is not None:
            controllers.append(LocalProvisioner(manager, informers, wanted.volumes.resolve(), node_name()))
        scheduling = _keep_up("scheduler", lambda: Scheduler(scheduler, informers).run())
        group.create_task(scheduling, name="scheduler")
        group.create_task(run_all(controllers), name="controllers")
        informers.of(PODS).subscribe(lambda change: _serve_usage(api, change))


async def _paused(pause: Pause) -> AsyncIterator[bytes]:
    """A stream for whose length the control plane stands still: until its client goes, or the server drains."""
    async with pause.hold():
        log.info("paused")
        yield b'{"paused":true}\n'
        await asyncio.Event().wait()


def _kubelet(api: ApiServer, nodes: NodeDirectory, folder: Path) -> Callable[[], Awaitable[None]]:
    name = node_name()
    client = Client(InProcessTransport(api, user=f"system:node:{name}"))
    return lambda: ProcessKubelet(client, name, folder, nodes).run()


async def _keep_up(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run it, and again when it fails: a fault in one room must not take down the house."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("the %s failed; it starts again in %g s", name, _REVIVAL)
        await asyncio.sleep(_REVIVAL)


def _serve_usage(api: ApiServer, change: Change) -> None:
    """A pod that pretends to use something can be measured."""
    if change.new is not None and pretends(change.new):
        api.serve_usage()


def _is_default_account(account: dict[str, Any]) -> bool:
    metadata = account["metadata"]
    return bool(metadata["namespace"] == "default" and metadata["name"] == "default")


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def node_name() -> str:
    """The name of this machine as Kubernetes allows it."""
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower())[:63].strip("-")
    return name or "localhost"
