"""Which process serves a cluster, as that process wrote it down: `daemon.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesim.cluster.files import write_json
from kubesim.cluster.process import ProcessId


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFile:
    """The last daemon of a cluster; whether it still lives is asked of `process`."""

    process: ProcessId
    version: str


def write_daemon_file(path: Path, daemon: DaemonFile) -> None:
    """Written by the daemon itself, under its lock."""
    process = daemon.process
    write_json(
        path,
        {
            "pid": process.pid,
            "start_time": process.start_time,
            "boot_id": process.boot_id,
            "version": daemon.version,
        },
    )


def read_daemon_file(path: Path) -> DaemonFile | None:
    """None when no daemon has run yet; ValueError when the file is not one of ours."""
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
        return DaemonFile(
            process=ProcessId(
                pid=int(value["pid"]), start_time=int(value["start_time"]), boot_id=str(value["boot_id"])
            ),
            version=str(value["version"]),
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} does not name a process ({type(error).__name__}: {error})") from error
