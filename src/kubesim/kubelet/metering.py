"""What the containers of this node use, from /proc: the figures behind `kubectl top` and the autoscaler.

A container's processes are those that carry its mark, and their descendants. Their CPU time is read every few seconds,
that of children that have ended and been waited for included; the rate is over the last interval, so that a container
has no figure in its first. Memory is the resident set: pages that processes share are counted for each of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubesim.apiserver.nodes import ContainerUsage, NodeUsage
from kubesim.kubelet import proc

log = logging.getLogger(__name__)

INTERVAL = 10.0
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SECOND = 10**9


@dataclass(frozen=True, slots=True)
class Figures:
    """CPU time so far in nanoseconds, and memory now in bytes."""

    cpu: int
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All containers at one moment, by (pod uid, container), and the machine."""

    at: float
    containers: Mapping[tuple[str, str], Figures]
    machine: Figures


@dataclass(slots=True)
class Metering:
    """Reads again and again; implements `kubesim.apiserver.nodes.Meter`."""

    root: Path
    interval: float = INTERVAL
    _before: Reading | None = None
    _last: Reading | None = None

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                reading = await asyncio.to_thread(read, self.root)
            except OSError as error:
                log.warning("the use of resources cannot be read: %s", error)
            else:
                self._before, self._last = self._last, reading
            await asyncio.sleep(self.interval)

    def usage(self) -> NodeUsage | None:
        """The rates of the last interval; None until there are two readings."""
        if self._before is None or self._last is None:
            return None
        return between(self._before, self._last)


def between(before: Reading, after: Reading) -> NodeUsage:
    """What was used from one reading to the next."""
    seconds = max(after.at - before.at, 0.001)

    def rate(old: Figures, new: Figures) -> ContainerUsage:
        return ContainerUsage(cpu=int(max(0, new.cpu - old.cpu) / seconds), memory=new.memory)

    return NodeUsage(
        at=after.at,
        window=seconds,
        machine=rate(before.machine, after.machine),
        containers={
            key: rate(before.containers[key], now)
            for key, now in after.containers.items()
            if key in before.containers
        },
    )


def read(root: Path) -> Reading:
    """Look at every process of the machine once."""
    found: dict[tuple[str, str], Figures] = {}
    for pid, container in owners(f"{root}/pods/", list(proc.everything())).items():
        figures = _process(pid)
        if figures is not None:
            old = found.get(container, Figures(0, 0))
            found[container] = Figures(old.cpu + figures.cpu, old.memory + figures.memory)
    return Reading(at=time.time(), containers=found, machine=_machine())


def owners(prefix: str, table: Iterable[proc.Stat]) -> dict[int, tuple[str, str]]:
    """The container (pod uid, name) of each process that belongs to one."""
    parents = {one.pid: one.ppid for one in table if one.is_running}
    found = {pid: owner for pid in parents if (owner := _owner(proc.mark_of(pid), prefix)) is not None}
    for pid in parents:
        line = [pid]
        while line[-1] not in found and parents.get(line[-1], 0) > 1:
            line.append(parents[line[-1]])
        owner = found.get(line[-1])
        if owner is not None:
            found |= dict.fromkeys(line, owner)
    return found


def _owner(mark: str, prefix: str) -> tuple[str, str] | None:
    """From `<root>/pods/UID/containers/NAME/NUMBER`."""
    if not mark.startswith(prefix):
        return None
    uid, _, name = [*mark.removeprefix(prefix).split("/"), "", ""][:3]
    return (uid, name) if uid and name else None


def _process(pid: int) -> Figures | None:
    text = proc.text_of(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text.rpartition(")")[2].split()
    ticks = sum(int(one) for one in fields[11:15])
    return Figures(ticks * _SECOND // _TICK, int(fields[21]) * _PAGE)


def _machine() -> Figures:
    ticks = [int(one) for one in proc.text_of("/proc/stat").split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    memory = {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in proc.text_of("/proc/meminfo").splitlines()
        if line.startswith(("MemTotal:", "MemAvailable:"))
    }
    used = memory.get("MemTotal", 0) - memory.get("MemAvailable", 0)
    return Figures((sum(ticks) - idle) * _SECOND // _TICK, used)
