"""`create cluster` and `start cluster`: make it so that the cluster is there and serves.

Creation is idempotent: an interrupted one is carried on with by repeating the command, an existing cluster that fits
is started if need be, one that differs is refused and left alone. The order is fixed: the record first, then the
daemon (whose imports take the time that the keys take), the keys, the word to go, the kubeconfig context once it
serves, and last the record says that the cluster is whole.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from kubesim import __version__
from kubesim.cluster import contexts, pki
from kubesim.cluster.control import START_TIMEOUT, StartingDaemon
from kubesim.cluster.daemonfile import search_daemon
from kubesim.cluster.errors import (
    ClusterConflict,
    ClusterNotFound,
    DaemonNotStarted,
    InvalidOption,
    NotReady,
    RuntimeUnavailable,
)
from kubesim.cluster.files import command_lock
from kubesim.cluster.home import ClusterPaths, Home
from kubesim.cluster.inspect import Facts, State, look
from kubesim.cluster.pki import PkiFiles
from kubesim.cluster.probe import NoAnswer, check_ready, get
from kubesim.cluster.record import (
    ClusterRecord,
    Phase,
    RecordUnreadable,
    StoreKind,
    read_record,
    write_record,
)

# Below the range from which the kernel takes the ports of outgoing connections, so that a stopped cluster's port
# is still free when it is started again.
_PORTS = range(20_000, 32_000)
_PORT_TRIES = 5
_LOOK = 0.1  # seconds between two looks at a daemon that somebody else started

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user asked for."""

    name: str
    store: StoreKind = StoreKind.DURABLE
    process_node: bool = False
    audit: bool = False
    port: int = 0  # 0: a free one is chosen, and kept for the cluster's life
    kubeconfig: str = ""  # "": no context is written
    make_current: bool = True
    wait: float | None = None  # seconds until ready; None: until it serves


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What came of it."""

    record: ClusterRecord
    existed: bool


def create(home: Home, wanted: Wanted, say: Say) -> Created:
    """Create the cluster, or find it already there."""
    paths = home.cluster(wanted.name)
    if wanted.port and not 0 < wanted.port < 65536:
        raise InvalidOption(
            f"{wanted.port} is not a port number.", remedy="Give --port a number from 1 to 65535."
        )
    with command_lock(paths):
        facts = look(paths)
        _refuse_unavailable(wanted.name, facts)
        if facts.state is State.DELETING:
            raise ClusterConflict(
                f"Cluster {wanted.name!r} is half deleted.",
                remedy=f"Finish that first: kubesim delete cluster --name {wanted.name}",
            )
        record = facts.record
        existed = facts.state not in (State.ABSENT, State.CREATING)
        if record is not None:
            _refuse_difference(record, wanted)
        if existed and record is not None:
            say(f"Cluster {wanted.name!r} exists already.")
            started = _start(paths, facts, record, wanted.wait, say)
            contexts.add(paths, started, make_current=wanted.make_current)
            if wanted.kubeconfig and wanted.kubeconfig != started.kubeconfig:
                # the same cluster, asked for by somebody with another KUBECONFIG
                there = replace(started, kubeconfig=wanted.kubeconfig)
                contexts.add(paths, there, make_current=wanted.make_current)
                say(f"Wrote its context {paths.context!r} to {wanted.kubeconfig} too.")
            return Created(record=started, existed=True)
        return Created(record=_create(home, paths, wanted, facts, say), existed=False)


def start(home: Home, name: str, wait: float | None, say: Say) -> ClusterRecord:
    """Start a cluster that was stopped or has died; one that runs is left as it is."""
    paths = home.cluster(name)
    with command_lock(paths):
        facts = look(paths, deep=True)
        if facts.state is State.ABSENT or (facts.record is None and not facts.damage):
            raise ClusterNotFound(
                f"There is no cluster {name!r}.", remedy=f"Create it: kubesim create cluster --name {name}"
            )
        _refuse_unavailable(name, facts)
        if facts.state in (State.CREATING, State.DELETING) or facts.record is None:
            verb = "delete" if facts.state is State.DELETING else "create"
            raise ClusterConflict(
                f"The {verb} command of cluster {name!r} was interrupted.",
                remedy=f"Repeat it: kubesim {verb} cluster --name {name}",
            )
        return _start(paths, facts, facts.record, wait, say)


def _create(home: Home, paths: ClusterPaths, wanted: Wanted, facts: Facts, say: Say) -> ClusterRecord:
    for attempt in _attempts(1 if wanted.port else _PORT_TRIES):
        record = facts.record or ClusterRecord(
            name=wanted.name,
            phase=Phase.CREATING,
            store=wanted.store,
            process_node=wanted.process_node,
            port=wanted.port or _free_port(home),
            kubeconfig=wanted.kubeconfig,
            version=__version__,
            created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            audit=wanted.audit,
        )
        paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_record(paths.record, record)
        try:
            if _serves_already(paths, record):
                contexts.add(paths, record, make_current=wanted.make_current)
                _await_ready(paths, record, wanted.wait)
            else:
                _first_start(paths, record, wanted, say)
        except NotReady:
            write_record(paths.record, replace(record, phase=Phase.RUNNING))
            raise
        except DaemonNotStarted as error:
            if "address already in use" in error.message.lower() and not attempt.last:
                shutil.rmtree(paths.root)
                facts = replace(facts, record=None)
                continue
            kept = home.root / f"{paths.name}.failed.log"
            if paths.log.exists():
                paths.log.replace(kept)
            shutil.rmtree(paths.root, ignore_errors=True)
            error.remedy = (error.remedy or "").replace(str(paths.log), str(kept)) or f"See {kept}"
            raise
        record = replace(record, phase=Phase.RUNNING)
        write_record(paths.record, record)
        return record
    raise AssertionError("the last attempt returns or raises")


@dataclass(frozen=True, slots=True)
class _Attempt:
    last: bool


def _attempts(count: int) -> Iterator[_Attempt]:
    for number in range(1, count + 1):
        yield _Attempt(last=number == count)


def _serves_already(paths: ClusterPaths, record: ClusterRecord) -> bool:
    """Whether the daemon of an interrupted creation serves; False when there is none, or no longer one.

    One that has got the word to go comes to serve; one that has not ends, because nobody is left to give it.
    """
    files = PkiFiles(paths.pki)
    deadline = time.monotonic() + START_TIMEOUT
    while daemon := search_daemon(paths.root):
        if not files.missing():
            with contextlib.suppress(NoAnswer):
                get(record, files, "/livez")
                return True
        if time.monotonic() >= deadline:
            raise DaemonNotStarted(
                f"Process {daemon.pid}, which an interrupted creation of cluster {paths.name!r} left, "
                f"neither serves nor ends.",
                remedy=f"Remove it: kubesim delete cluster --name {paths.name} --force",
            )
        time.sleep(_LOOK)
    return False


def _first_start(paths: ClusterPaths, record: ClusterRecord, wanted: Wanted, say: Say) -> None:
    daemon = StartingDaemon(paths, held=True)
    try:
        if PkiFiles(paths.pki).missing():
            pki.make(PkiFiles(paths.pki), record.name)
        daemon.go()
        daemon.wait_for("serving", START_TIMEOUT)
        contexts.add(paths, record, make_current=wanted.make_current)
        if wanted.wait is not None:
            say("Waiting until the cluster is ready.")
            daemon.wait_for("ready", wanted.wait)
    except NotReady:
        raise
    except BaseException:
        daemon.abandon()
        raise
    finally:
        daemon.close()


def _start(
    paths: ClusterPaths, facts: Facts, record: ClusterRecord, wait: float | None, say: Say
) -> ClusterRecord:
    record = replace(record, phase=Phase.RUNNING)
    write_record(paths.record, record)
    if facts.daemon:
        _await_ready(paths, record, wait)
        return record
    say(f"Starting cluster {record.name!r}.")
    daemon = StartingDaemon(paths, held=False)
    try:
        daemon.wait_for("serving", START_TIMEOUT)
        if wait is not None:
            daemon.wait_for("ready", wait)
    finally:
        daemon.close()
    return record


def _await_ready(paths: ClusterPaths, record: ClusterRecord, wait: float | None) -> None:
    """Wait for a cluster whose daemon somebody else started: there is no pipe, so its API is asked."""
    deadline = time.monotonic() + (wait or 0)
    while wait is not None:
        try:
            check_ready(record, PkiFiles(paths.pki))
            return
        except NoAnswer as error:
            if time.monotonic() >= deadline:
                raise NotReady(
                    f"Cluster {paths.name!r} was not ready within {wait:g} s: {error}.",
                    remedy=f"Look at it with: kubesim logs --name {paths.name}",
                ) from None
        time.sleep(_LOOK)


def _refuse_unavailable(name: str, facts: Facts) -> None:
    if facts.problems:
        raise RuntimeUnavailable(
            f"Cluster {name!r} is not available: " + "; ".join(facts.problems) + ". Nothing was changed.",
            remedy=f"If its data may be lost, remove all of it with: kubesim delete cluster --name {name} --force",
        )


def _refuse_difference(record: ClusterRecord, wanted: Wanted) -> None:
    differences = []
    if record.store is not wanted.store:
        differences.append(f"its store is {record.store}, not {wanted.store}")
    if record.process_node != wanted.process_node:
        differences.append("it has a process node" if record.process_node else "it has no process node")
    if record.audit != wanted.audit:
        differences.append("it has an audit log" if record.audit else "it has no audit log")
    if wanted.port and wanted.port != record.port:
        differences.append(f"its port is {record.port}, not {wanted.port}")
    if differences:
        raise ClusterConflict(
            f"Cluster {record.name!r} exists and differs from what was asked for: {', '.join(differences)}.",
            remedy=f"Choose another --name, or remove it first: kubesim delete cluster --name {record.name}",
        )


def _free_port(home: Home) -> int:
    """A port that nobody listens on and no other cluster of this home has been given."""
    given = set()
    for name in home.names():
        try:
            record = read_record(home.cluster(name).record)
        except RecordUnreadable:
            continue
        if record:
            given.add(record.port)
    source = random.SystemRandom()
    while True:
        port = source.choice(_PORTS)
        if port in given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
