"""Which process serves a cluster, as that process wrote it down: `daemon.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesim.cluster.files import write_json
from kubesim.kubelet.proc import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFile:
    """The last daemon of a cluster; whether it still lives is asked of its identity."""

    process: Identity
    version: str


def write_daemon_file(path: Path, daemon: DaemonFile) -> None:
    """Written by the daemon itself, under its lock."""
    write_json(path, {**daemon.process.to_json(), "version": daemon.version})


def read_daemon_file(path: Path) -> DaemonFile | None:
    """None when no daemon has run yet; ValueError when the file is not one of ours."""
    try:
        value: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    process = Identity.from_json(value)
    if process is None:
        raise ValueError(f"{path} does not name a process")
    return DaemonFile(process=process, version=str(value.get("version", "")))
