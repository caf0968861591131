"""The daemon of a cluster: one process that holds the store, serves the API and does what a control plane does.

Started by `control.StartingDaemon` as `python -m kubesim.cluster.daemon DIRECTORY`. It wires the rooms of kubesim
together and knows nothing of what they do. It holds `daemon.lock` as long as it lives, so that there are never two;
it tells through a pipe how far it has come; on SIGTERM it ends its streams and is gone within three seconds, whatever
hangs. The processes of its pods are not its children and go on without it: the next daemon adopts them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from kubesim import __version__
from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.audit import Audit
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.apiserver.nodes import NodeDirectory
from kubesim.apiserver.requests import StreamReply
from kubesim.apiserver.serve import TlsFiles, serve
from kubesim.cluster.daemonfile import DaemonFile, write_daemon_file
from kubesim.cluster.exitcodes import ExitCode
from kubesim.cluster.files import try_lock
from kubesim.cluster.home import PAUSE, ClusterPaths
from kubesim.cluster.pausing import Pause
from kubesim.cluster.pki import PkiFiles
from kubesim.cluster.record import ClusterRecord, read_record
from kubesim.controllers.manager import all_controllers, run_all
from kubesim.kubelet.proc import identify
from kubesim.kubelet.process import ProcessKubelet
from kubesim.scheduler.scheduler import Scheduler
from kubesim.store import Store, StoreError, open_store
from kubewire.client import Client
from kubewire.informer import Informers
from kubewire.resources import NODES, SERVICE_ACCOUNTS

log = logging.getLogger("kubesim")

_LAST_MOMENT = 3  # seconds after SIGTERM in which the process is gone, whatever hangs
_STREAMS_GRACE = 0.5
_REVIVAL = 1.0


class CannotStart(Exception):
    """The daemon cannot do its work; the message is for the user."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class States:
    """The pipe through which the starting command learns how far we are; it may have gone away."""

    pipe: int | None

    def say(self, state: str, **more: str | None) -> None:
        """One line of JSON."""
        if self.pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self.pipe, json.dumps({"state": state, **more}).encode() + b"\n")

    def close(self) -> None:
        """Nothing more will be said."""
        if self.pipe is not None:
            os.close(self.pipe)


def main() -> None:
    """Run the daemon of one cluster until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m kubesim.cluster.daemon")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--states-fd", type=int)
    parser.add_argument("--held", action="store_true", help="wait on standard input for the word to go")
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if options.states_fd is not None:
        os.set_inheritable(options.states_fd, False)
    states = States(options.states_fd)
    paths = ClusterPaths(options.directory.name, options.directory, options.directory / "unused")
    try:
        record = _take_over(paths)
        if options.held and not sys.stdin.readline():
            sys.exit(ExitCode.INTERRUPTED)  # the command that creates the cluster has ended
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Daemon(paths, record, states).run())
    except CannotStart as error:
        log.error("%s", error)
        states.say("failed", error=str(error), remedy=error.remedy)
        sys.exit(ExitCode.NOT_STARTED)
    log.info("ended")


def _take_over(paths: ClusterPaths) -> ClusterRecord:
    """Become the one daemon of the cluster."""
    if try_lock(paths.daemon_lock) is None:  # held until this process ends
        raise CannotStart(f"another process serves {paths.root}")
    myself = identify(os.getpid())
    if myself is None:
        raise CannotStart("/proc is not mounted: processes could not be told apart")
    write_daemon_file(paths.daemon, DaemonFile(process=myself, version=__version__))
    record = read_record(paths.record)
    if record is None:
        raise CannotStart(f"{paths.record} is missing")
    log.info("kubesim %s, cluster %s, process %d", __version__, record.name, os.getpid())
    return record


class Daemon:
    """Everything of one cluster in one event loop."""

    def __init__(self, paths: ClusterPaths, record: ClusterRecord, states: States) -> None:
        self._paths = paths
        self._record = record
        self._states = states
        self._pki = PkiFiles(paths.pki)
        self._ending = asyncio.Event()
        self._pause = Pause()
        self._announced = False

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._end)
        store = self._open_store()
        try:
            await self._serve(store)
        finally:
            await store.close()

    def _end(self) -> None:
        """Begin to end; should anything hang, the kernel ends us at the last moment."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LAST_MOMENT)
        log.info("told to end")
        self._ending.set()

    def _open_store(self) -> Store:
        try:
            return open_store(self._record.store.value, self._paths.store)
        except StoreError as error:
            raise CannotStart(str(error), remedy=error.remedy) from error

    async def _serve(self, store: Store) -> None:
        nodes = NodeDirectory()
        api = ApiServer(store, nodes=nodes, service_account_key=self._pki.accounts_key)
        if self._record.audit:
            api.audit = Audit(self._paths.requests)
        api.own_paths["POST", PAUSE] = lambda: StreamReply(chunks=self._paused())
        await api.start()
        tls = TlsFiles(
            certificate=self._pki.server_cert, key=self._pki.server_key, client_ca=self._pki.ca_cert
        )
        try:
            serving = await serve(api, "127.0.0.1", self._record.port, tls)
        except OSError as error:
            raise CannotStart(f"port {self._record.port}: {error.strerror or error}") from error
        async with self._control_plane(api, nodes):
            await self._ending.wait()
            await serving.stop(_STREAMS_GRACE)

    @contextlib.asynccontextmanager
    async def _control_plane(self, api: ApiServer, nodes: NodeDirectory) -> AsyncIterator[None]:
        """Scheduler, controllers and the kubelet, each as a user of its own."""
        async with asyncio.TaskGroup() as group:
            work = self._pause.during_freedom(lambda: self._control(api))
            tasks = [group.create_task(work, name="control plane")]
            if self._record.process_node:
                kubelet = _keep_up("kubelet", lambda: self._kubelet(api, nodes))
                tasks.append(group.create_task(kubelet, name="kubelet"))
            yield
            for task in tasks:
                task.cancel()

    async def _control(self, api: ApiServer) -> None:
        """What stands still while a snapshot is restored."""
        manager = Client(InProcessTransport(api, user="system:kube-controller-manager"))
        scheduler = Client(InProcessTransport(api, user="system:kube-scheduler"))
        async with Informers(manager) as informers, asyncio.TaskGroup() as group:
            group.create_task(
                _keep_up("scheduler", lambda: Scheduler(scheduler, informers).run()), name="scheduler"
            )
            group.create_task(
                run_all(all_controllers(manager, informers, ca_pem=self._pki.ca_cert.read_text())),
                name="controllers",
            )
            if not self._announced:
                group.create_task(self._announce(informers), name="announce")

    async def _paused(self) -> AsyncIterator[bytes]:
        """A stream for whose length the control plane stands still."""
        async with self._pause.hold():
            log.info("paused")
            yield b'{"paused":true}\n'
            await self._ending.wait()

    async def _kubelet(self, api: ApiServer, nodes: NodeDirectory) -> None:
        name = node_name()
        client = Client(InProcessTransport(api, user=f"system:node:{name}"))
        await ProcessKubelet(client, name, self._paths.node, nodes).run()

    async def _announce(self, informers: Informers) -> None:
        """Say `serving` when a pod can be created, and `ready` when one could also run, if there is a node for it."""
        await informers.of(SERVICE_ACCOUNTS).until(_is_default_account)
        self._states.say("serving")
        log.info("serving on %s", self._record.server)
        if self._record.process_node:
            await informers.of(NODES).until(_is_ready)
        self._states.say("ready")
        log.info("ready")
        self._states.close()
        self._announced = True
        gc.collect()
        gc.freeze()  # what is here now stays: later collections need not look at it


async def _keep_up(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run it, and again when it fails: a fault in one room must not take down the house."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("the %s failed; it starts again in %g s", name, _REVIVAL)
        await asyncio.sleep(_REVIVAL)


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


if __name__ == "__main__":
    main()
