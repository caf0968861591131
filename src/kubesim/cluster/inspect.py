"""What is really so: the facts about one cluster, and the state that follows from them.

`look` collects facts without changing anything; `Facts.state` is a pure function of them. When is a runtime
*unavailable*? When its data cannot be read or understood, or when its daemon lives and does not answer. A cluster
that was stopped, or whose daemon died and left readable data behind, is available: nothing in it can be lost by
looking closer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from kubesim.cluster import damage as damages
from kubesim.cluster.asking import ask
from kubesim.cluster.daemonfile import find_daemon, search_daemon
from kubesim.cluster.errors import ClusterError
from kubesim.cluster.home import ClusterPaths
from kubesim.cluster.pki import PkiFiles
from kubesim.cluster.probe import PROBE_TIMEOUT, NoAnswer, get
from kubesim.cluster.record import ClusterRecord, Phase, RecordUnreadable, read_record
from kubesim.kubelet.proc import Identity


class State(StrEnum):
    """What `kubesim get clusters` shows."""

    ABSENT = "Absent"
    CREATING = "Creating"  # create was interrupted; repeating it goes on
    RUNNING = "Running"
    STOPPED = "Stopped"
    DEAD = "Dead"  # should run and does not; `start cluster` brings it back
    DELETING = "Deleting"  # delete was interrupted; repeating it goes on
    UNAVAILABLE = "Unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen of one cluster."""

    exists: bool
    record: ClusterRecord | None = None
    damage: tuple[str, ...] = field(default=())  # what of its data cannot be read or understood
    daemon: Identity | None = None  # the process that serves it, if it lives
    silence: str | None = None  # why the living daemon does not count as answering

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the runtime is not available; empty when it is."""
        return (*self.damage, *([self.silence] if self.silence else []))

    @property
    def state(self) -> State:
        """What follows from the facts."""
        if not self.exists:
            return State.ABSENT
        if self.problems:
            return State.UNAVAILABLE
        if self.record is None or self.record.phase is Phase.CREATING:
            return State.CREATING
        if self.record.phase is Phase.DELETING:
            return State.DELETING
        if self.daemon:
            return State.RUNNING
        return State.STOPPED if self.record.phase is Phase.STOPPED else State.DEAD


def look(paths: ClusterPaths, *, probe: bool = True, deep: bool = False) -> Facts:
    """Collect the facts.

    `probe` asks a living daemon for an answer (2 s at most per step); `deep` reads the whole store of a dead one.
    """
    if not paths.root.is_dir():
        return Facts(exists=False)
    damage: list[str] = []
    record: ClusterRecord | None = None
    try:
        record = read_record(paths.record)
        if record is None and _holds_anything(paths.root):
            damage.append(f"{paths.record} is missing")
    except RecordUnreadable as error:
        damage.append(str(error))
    daemon: Identity | None = None
    try:
        daemon = find_daemon(paths)
    except ValueError as error:
        damage.append(str(error))
        daemon = search_daemon(paths.root)
    if record is not None:
        if daemon is None and record.phase is Phase.CREATING:
            daemon = search_daemon(paths.root)  # it may not have written itself down yet
        check = damages.deep if deep and daemon is None else damages.shallow
        damage += check(paths, record)
    silence = None
    # the daemon of a cluster that is being created, or whose creation was interrupted, need not answer yet
    creating = record is not None and record.phase is Phase.CREATING
    if probe and daemon and record and not creating and not PkiFiles(paths.pki).missing():
        try:
            get(record, PkiFiles(paths.pki), "/livez")
        except NoAnswer as error:
            if not _on_purpose(paths):
                silence = f"its daemon (process {daemon.pid}) does not answer: {error}"
    return Facts(exists=True, record=record, damage=tuple(damage), daemon=daemon, silence=silence)


def _on_purpose(paths: ClusterPaths) -> bool:
    """Whether the daemon lives, and has been told to keep its clients out."""
    try:
        faults = ask(paths, "fault.list", timeout=PROBE_TIMEOUT)["faults"]
    except ClusterError:
        return False
    return any(fault["state"] == "active" for fault in faults)


def _holds_anything(root: Path) -> bool:
    return any(not entry.name.startswith(".") for entry in root.iterdir())
