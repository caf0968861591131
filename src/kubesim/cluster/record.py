"""What a cluster is, and what is wanted of it: `cluster.json`.

The record is written before the first thing of a cluster exists and removed after the last one has gone. It says what
its user *wants* (`Phase`); what is really so is found out by looking (inspect.py), never remembered here.
A record that cannot be read is an error, not an absent cluster.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from kubesim.cluster.files import write_json


class Phase(StrEnum):
    """What is wanted of the cluster."""

    CREATING = "creating"  # create has begun and was not seen to end
    RUNNING = "running"
    STOPPED = "stopped"
    DELETING = "deleting"  # delete has begun and was not seen to end


class StoreKind(StrEnum):
    """Where the objects are kept."""

    MEMORY = "memory"
    DURABLE = "durable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRecord:
    """One cluster as its user asked for it."""

    name: str
    phase: Phase
    store: StoreKind
    process_node: bool
    port: int
    kubeconfig: str  # the file that holds its context; "" when none was wanted
    version: str  # of the kubesim that made it
    created_at: str
    audit: bool = False  # whether its API server writes an audit log

    @property
    def server(self) -> str:
        """The URL of its API server; it stays the same for the cluster's life."""
        return f"https://127.0.0.1:{self.port}"


class RecordUnreadable(Exception):
    """The record is there and cannot be understood."""


def write_record(path: Path, record: ClusterRecord) -> None:
    """Keep the record, whole."""
    write_json(path, asdict(record))


def read_record(path: Path) -> ClusterRecord | None:
    """The record; None when there is none; RecordUnreadable when it is not one."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordUnreadable(f"{path} cannot be read: {error.strerror}") from error
    try:
        value: dict[str, Any] = json.loads(raw)
        return ClusterRecord(
            name=str(value["name"]),
            phase=Phase(value["phase"]),
            store=StoreKind(value["store"]),
            process_node=bool(value["process_node"]),
            port=int(value["port"]),
            kubeconfig=str(value["kubeconfig"]),
            version=str(value["version"]),
            created_at=str(value["created_at"]),
            audit=bool(value.get("audit", False)),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise RecordUnreadable(f"{path} is not a cluster record ({type(error).__name__}: {error})") from error
