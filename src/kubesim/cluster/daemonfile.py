"""Which process serves a cluster: as it wrote itself down in `daemon.json`, or as it is found by its command line."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesim.cluster.files import try_lock, write_json
from kubesim.cluster.home import ClusterPaths
from kubesim.kubelet.proc import Identity, identify


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


def find_daemon(paths: ClusterPaths) -> Identity | None:
    """The living daemon of the cluster; ValueError when its file is damaged."""
    written = read_daemon_file(paths.daemon)
    if written and written.process.is_alive():
        return written.process
    if not paths.daemon_lock.exists():
        return None
    handle = try_lock(paths.daemon_lock)
    if handle is not None:
        os.close(handle)
        return None
    return search_daemon(paths.root)


def search_daemon(root: Path) -> Identity | None:
    """The process whose command line says that it is the daemon of this directory, however far it has come."""
    wanted = [b"kubesim.cluster.daemon", os.fsencode(root)]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
        if any(words[at : at + 2] == wanted for at in range(len(words))):
            return identify(int(entry.name))
    return None
