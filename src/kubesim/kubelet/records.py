"""The folder of one pod on this node, from which everything about it can be known again after a restart.

    pods/UID/pod.json                     namespace, name, address: written before anything is started
    pods/UID/volumes/NAME/                the volumes; `volumes/.ready` when all are made
    pods/UID/containers/NAME/NUMBER/      one attempt of a container (`containerfiles.py`, `sandbox.py`)

Only reading, writing and naming; what it means is decided elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kubesim.kubelet import containerfiles, logread, sandbox
from kubesim.kubelet.containerfiles import Exit
from kubesim.kubelet.containers import Attempt, ContainerView

log = logging.getLogger(__name__)

KILLED = 137
_POD = "pod.json"
_READY = ".ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """Who a folder belongs to."""

    uid: str
    namespace: str
    name: str
    ip: str


@dataclass(frozen=True, slots=True)
class PodFolder:
    """One pod's folder."""

    path: Path

    @property
    def volumes(self) -> Path:
        """Where its volumes are."""
        return self.path / "volumes"

    @property
    def prepared(self) -> bool:
        """Whether its volumes were made."""
        return (self.volumes / _READY).exists()

    def mark_prepared(self) -> None:
        """Write down that the volumes are made."""
        (self.volumes / _READY).touch()

    def attempt(self, container: str, number: int) -> Path:
        """The folder of an attempt."""
        return self.path / "containers" / container / str(number)

    def record(self) -> PodRecord | None:
        """Who it belongs to, None when that was never written or cannot be read."""
        data = containerfiles.read_json(str(self.path / _POD))
        if data is None:
            return None
        fields = {key: str(data.get(key, "")) for key in ("namespace", "name", "ip")}
        return PodRecord(uid=self.path.name, **fields)

    def create(self, record: PodRecord) -> None:
        """Make the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.volumes.mkdir(exist_ok=True)
        data = {"namespace": record.namespace, "name": record.name, "ip": record.ip}
        containerfiles.write_json(str(self.path / _POD), data)

    def containers(self) -> dict[str, ContainerView]:
        """Its containers as the files tell."""
        found = {}
        for folder in _folders(self.path / "containers"):
            numbers = sorted(int(one.name) for one in _folders(folder) if one.name.isdigit())
            if numbers:
                attempts = [_read_attempt(folder / str(number), number) for number in numbers[-2:]]
                previous = attempts[0] if len(attempts) > 1 else None
                found[folder.name] = ContainerView(current=attempts[-1], previous=previous)
        return found

    def forget_before(self, container: str, number: int) -> None:
        """Before a restart: of the attempt before this one keep log and end, of older ones nothing."""
        for folder in _folders(self.path / "containers" / container):
            if folder.name.isdigit() and int(folder.name) < number - 1:
                sandbox.remove_tree(folder)
            elif folder.name.isdigit() and int(folder.name) == number - 1:
                sandbox.clear(sandbox.Place(folder))

    def remove(self) -> None:
        """Remove all of it. Raises OSError when something stays."""
        sandbox.remove_tree(self.path)
        if self.path.exists():
            raise OSError(f"{self.path} could not be removed completely")


def pod_folders(root: Path) -> list[PodFolder]:
    """The folders of all pods of a node."""
    return [PodFolder(path) for path in _folders(root / "pods")]


def from_status(status: Mapping[str, Any]) -> ContainerView | None:
    """A container that the API server knows to have been started but of which no file is left here.

    It is not started again behind the user's back: whatever ran is unknown, and is reported as such.
    """
    container_id = str(status.get("containerID") or "")
    state = status.get("state") or {}
    if not container_id:
        return None
    ended = state.get("terminated")
    if ended:
        end = Exit(
            exit_code=int(ended.get("exitCode", 137)),
            started_at=_seconds(ended.get("startedAt")),
            finished_at=_seconds(ended.get("finishedAt")),
            reason=str(ended.get("reason") or ""),
            message=str(ended.get("message") or ""),
        )
    else:
        started = _seconds((state.get("running") or {}).get("startedAt"))
        end = Exit(
            exit_code=137,
            started_at=started,
            finished_at=started,
            reason="ContainerStatusUnknown",
            message="The container's files are gone from the node; what became of it is not known.",
        )
    number = int(status.get("restartCount") or 0)
    return ContainerView(
        current=Attempt(number=number, container_id=container_id, started_at=end.started_at, exit=end)
    )


def _read_attempt(folder: Path, number: int) -> Attempt:
    spec = containerfiles.read_spec(str(folder))
    end = containerfiles.read_exit(str(folder))
    state = containerfiles.read_state(str(folder))
    notes = spec.notes if spec else {}
    if end is not None:
        _complete(end, folder, notes)
    return Attempt(
        number=number,
        container_id=str(notes.get("container_id", "")),
        started_at=state.started_at if state else (end.started_at if end else None),
        exit=end,
        backoff=float(notes.get("backoff", 0.0)),
    )


def _complete(end: Exit, folder: Path, notes: Mapping[str, Any]) -> None:
    """Add to how an attempt ended what its shim does not know: who killed it, and its last output if that was asked
    for."""
    if end.exit_code == KILLED and not end.reason and (folder / containerfiles.OUT_OF_MEMORY).exists():
        end.reason = "OOMKilled"
    if end.exit_code != 0 and not end.message and notes.get("message_policy") == "FallbackToLogsOnError":
        end.message = logread.last_output(folder)


def _folders(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []


def _seconds(text: str | None) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0
