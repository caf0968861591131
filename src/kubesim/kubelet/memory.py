"""Memory limits, as far as they can be kept without a control group: look once a second, end who took too much.

An approximation, and documented as one: what a container takes between two looks is not seen, and the page cache is not
counted. Counted is what the processes below its shim hold of memory of their own and of shared memory, each page once.
The container then ends as if the kernel had done it: exit code 137, reason OOMKilled.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from kubesim.kubelet import containerfiles, proc
from kubesim.kubelet.containers import PodView
from kubesim.schema.quantity import parse

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
Limited = tuple[Path, int]
"""The folder of a running attempt, and the bytes that it may have."""


def limits_of(view: PodView, directory: Callable[[str, int], Path]) -> list[Limited]:
    """The running containers of a pod that have a memory limit."""
    found = []
    for container in [*view.init_containers, *view.main_containers]:
        limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
        current = view.container(container["name"]).current
        if limit is not None and current is not None and current.running:
            found.append((directory(container["name"], current.number), parse(str(limit)).value))
    return found


async def watch(limited: Callable[[], Iterable[Limited]], every: float = LOOK_EVERY) -> None:
    """Keep the limits, for ever."""
    while True:
        await asyncio.sleep(every)
        for directory, limit in list(limited()):
            try:
                await asyncio.to_thread(enforce, str(directory), limit)
            except Exception:  # a mistake in here must not end the node
                log.exception("the memory of %s could not be looked at", directory)


def enforce(directory: str, limit: int) -> bool:
    """End a container that has more than it may; whether it had."""
    state = containerfiles.read_state(directory)
    if state is None or state.main is None or not state.shim.is_alive():
        return False
    pids = proc.descendants(state.shim.pid)
    # the first sum counts shared pages for each process, and costs little: most are done with it
    if _resident(pids) <= limit or _proportional(pids) <= limit:
        return False
    Path(directory, containerfiles.OUT_OF_MEMORY).touch()
    return state.main.send(signal.SIGKILL)


def _resident(pids: Iterable[int]) -> int:
    return sum(_fields(f"/proc/{pid}/status", (b"RssAnon:", b"RssShmem:")) for pid in pids)


def _proportional(pids: Iterable[int]) -> int:
    return sum(_fields(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:")) for pid in pids)


def _fields(path: str, names: tuple[bytes, ...]) -> int:
    """The sum of some fields of a file in /proc, in bytes; a process that has gone has none."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC)) as file:
            lines = file.read().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(names)) * 1024
