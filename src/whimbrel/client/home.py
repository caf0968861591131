"""Where whimbrel keeps its state on this machine, and what the local server says of itself there.

Only paths (also those of kubeconfigs) and the reading of `server.json` live here. Starting and replacing a server is
`whimbrel.client.local`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path


def whimbrel_home() -> Path:
    """`$WHIMBREL_HOME`, else `~/.whimbrel`."""
    configured = os.environ.get("WHIMBREL_HOME")
    return Path(configured).expanduser().absolute() if configured else Path.home() / ".whimbrel"


def state_directories() -> frozenset[Path]:
    """Where whimbrel and kubesim keep databases and keys: never part of what a task takes along."""
    kubesim = Path(os.environ.get("KUBESIM_HOME") or Path.home() / ".kubesim").expanduser().absolute()
    return frozenset({whimbrel_home(), kubesim})


def kubeconfig_paths() -> list[str]:
    """The kubeconfig files that this client sees, absolute (law: a local request carries them)."""
    configured = os.environ.get("KUBECONFIG", "")
    paths = [part for part in configured.split(os.pathsep) if part] or [os.path.expanduser("~/.kube/config")]
    return [os.path.abspath(os.path.expanduser(path)) for path in paths]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """What a running server wrote into `server.json`; pid, start time and boot id together name a process."""

    pid: int
    start_time: int
    boot_id: str
    address: str
    version: str

    @classmethod
    def read(cls, home: Path) -> ServerRecord | None:
        """The record, or None when there is none or it is not readable as one."""
        try:
            raw = json.loads((home / "server.json").read_bytes())
            return cls(
                pid=int(raw["pid"]),
                start_time=int(raw["start_time"]),
                boot_id=str(raw["boot_id"]),
                address=str(raw["address"]),
                version=str(raw["version"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def socket(self) -> str:
        """The path of the Unix socket."""
        return self.address.removeprefix("unix:")

    def alive(self) -> bool:
        """Whether that very process still runs, and not another one with its number."""
        return process_start_time(self.pid) == self.start_time and boot_id() == self.boot_id


def process_start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (field 22 of `/proc/PID/stat`); None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return int(fields[19])


def boot_id() -> str:
    """What tells this boot of the machine from the last one; pids and start times repeat across boots."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
