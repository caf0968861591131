"""This machine as a node would report it: CPUs, memory, disk, GPUs, kernel.

Reads /proc and /sys, and asks `nvidia-smi` under a deadline; what the Node object looks like is `node.py`'s business.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

GPU_DEADLINE = 2.0
_GPU_QUERY = ("nvidia-smi", "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as nvidia-smi lists it."""

    index: int
    name: str
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is."""

    cpus: int
    memory: int  # bytes
    disk: int  # bytes of the file system that holds the node's folder
    gpus: Sequence[Gpu] = ()
    architecture: str = "amd64"
    kernel: str = ""
    os_image: str = ""
    machine_id: str = ""
    boot_id: str = ""
    hostname: str = field(default="localhost")


def inspect(root: Path) -> Machine:
    """Look at this machine. Takes up to the deadline of nvidia-smi; never fails for what is merely unknown."""
    disk = os.statvfs(root)
    return Machine(
        cpus=_cpus(),
        memory=_memory(),
        disk=disk.f_blocks * disk.f_frsize,
        gpus=_gpus(),
        architecture={"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        kernel=platform.release(),
        os_image=_os_image(),
        machine_id=_text("/etc/machine-id"),
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        hostname=platform.node().lower() or "localhost",
    )


def parse_gpus(listing: str) -> list[Gpu]:
    """What nvidia-smi printed; lines that are no GPU are skipped."""
    found = []
    for line in listing.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[0].isdigit():
            memory = int(fields[2]) if fields[2].isdigit() else 0
            found.append(Gpu(index=int(fields[0]), name=fields[1], memory_mib=memory))
    return found


def _cpus() -> int:
    """The CPUs that this process may use, and no more than its control group allows."""
    count = len(os.sched_getaffinity(0))
    quota, _, period = _text("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        count = min(count, max(1, int(quota) // int(period)))
    return count


def _memory() -> int:
    total = 0
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    limit = _text("/sys/fs/cgroup/memory.max")
    return min(total, int(limit)) if limit.isdigit() and total else total


def _gpus() -> list[Gpu]:
    try:
        done = subprocess.run(
            _GPU_QUERY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GPU_DEADLINE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_gpus(done.stdout) if done.returncode == 0 else []


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
