"""The daemon of a cluster: one process that holds the store, serves the API and does what a control plane does.

Started by `control.StartingDaemon` as `python -m kubesim.cluster.daemon DIRECTORY`. What it serves is put together in
`controlplane`; here is the life of the process. It holds `daemon.lock` as long as it lives, so that there are never
two; it tells through a pipe how far it has come; on SIGTERM it ends its streams and is gone within three seconds,
whatever hangs. The processes of its pods are not its children and go on without it: the next daemon adopts them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import uvloop

from kubesim import __version__
from kubesim.cluster.controlplane import CannotListen, ControlPlane, Wanted, running
from kubesim.cluster.controlsocket import control_socket
from kubesim.cluster.daemonfile import DaemonFile, write_daemon_file
from kubesim.cluster.exitcodes import ExitCode
from kubesim.cluster.files import try_lock
from kubesim.cluster.home import ClusterPaths
from kubesim.cluster.pki import PkiFiles
from kubesim.cluster.record import ClusterRecord, read_record
from kubesim.kubelet.proc import identify
from kubesim.store import Store, StoreError, open_store

log = logging.getLogger("kubesim")

_LAST_MOMENT = 3  # seconds after SIGTERM in which the process is gone, whatever hangs


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
        self._ending = asyncio.Event()

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
        wanted = Wanted(
            pki=PkiFiles(self._paths.pki),
            port=self._record.port,
            audit=self._paths.requests if self._record.audit else None,
            process_node=self._paths.node if self._record.process_node else None,
            volumes=self._paths.volumes if self._record.process_node else None,
        )
        try:
            async with running(store, wanted) as cluster, asyncio.TaskGroup() as group:
                announcing = group.create_task(self._announce(cluster), name="announce")
                async with control_socket(self._paths.control, cluster.serving.faults.command):
                    await self._ending.wait()
                announcing.cancel()
        except CannotListen as error:
            raise CannotStart(str(error)) from error

    async def _announce(self, cluster: ControlPlane) -> None:
        """Say `serving` when a pod can be created, and `ready` when one could also run, if there is a node for it."""
        await cluster.usable()
        self._states.say("serving")
        log.info("serving on %s", self._record.server)
        if self._record.process_node:
            await cluster.node_ready()
        self._states.say("ready")
        log.info("ready")
        self._states.close()
        gc.collect()
        gc.freeze()  # what is here now stays: later collections need not look at it


if __name__ == "__main__":
    main()
