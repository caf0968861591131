"""What is left of a container when its shim is gone: find it, end it, and write down that it ended.

A shim that ends by itself leaves nothing and an exit file. One that was killed (`kill -9`, out of memory) leaves its
container's processes without anybody who could tell of them; they are found by the mark in their environment and by
their descent from such processes, wherever they hang now. Used by the daemon and, without one, by `teardown.py`.
"""

from __future__ import annotations

import os
import signal
import time

from kubesim.kubelet import containerfiles, proc
from kubesim.kubelet.containerfiles import Exit

KILL_LIMIT = 10.0
ROUND = 0.01
SHIM_LIMIT = 15.0
"""Seconds that a shim may still live once it has closed its connections: it is completing the log."""


def settle(directory: str) -> Exit:
    """The end of a container that nobody answers for any more, written down if its shim could not do it."""
    deadline = time.monotonic() + SHIM_LIMIT
    while (end := containerfiles.read_exit(directory)) is None:
        if not containerfiles.has_shim(directory):
            return containerfiles.read_exit(directory) or _bury(directory)
        if time.monotonic() > deadline:
            return end_by_force(directory)
        time.sleep(ROUND)
    return end


def end_by_force(directory: str) -> Exit:
    """End a container whose shim does not do it, the shim first."""
    state = containerfiles.read_state(directory)
    if state is not None and state.shim.send(signal.SIGKILL):
        wait_gone([state.shim], KILL_LIMIT)
    return containerfiles.read_exit(directory) or _bury(directory)


def end_marked(folder: str) -> list[proc.Identity]:
    """Kill every process of the containers in or below a folder, also those that appear meanwhile; what is left after
    the limit."""
    deadline = time.monotonic() + KILL_LIMIT
    while left := proc.marked(folder):
        for process in left:
            process.send(signal.SIGKILL)
        if time.monotonic() > deadline:
            return left
        wait_gone(left, ROUND * 10)
    return []


def wait_gone(processes: list[proc.Identity], timeout: float) -> list[proc.Identity]:
    """Wait until the processes have ended; those that have not."""
    deadline = time.monotonic() + timeout
    while left := [process for process in processes if process.is_alive()]:
        if time.monotonic() > deadline:
            return left
        time.sleep(ROUND)
    return []


def _bury(directory: str) -> Exit:
    state = containerfiles.read_state(directory)
    left = end_marked(directory)
    now = time.time()
    if state is None:
        message = "The container's shim ended before it had started the container."
        started_at = now
    else:
        message = (
            f"The process that watched over this container (shim, pid {state.shim.pid}) was killed"
            if state.shim.boot_id == proc.boot_id()
            else "The machine was restarted"
        )
        message += "; the exit code is not known. What was left of the container was ended."
        started_at = state.started_at
    if left:
        message += f" Could not be killed: {', '.join(str(process.pid) for process in left)}."
    end = Exit(
        exit_code=137,
        started_at=started_at,
        finished_at=now,
        reason="ContainerStatusUnknown",
        message=message,
    )
    if os.path.isdir(directory):
        containerfiles.write_json(os.path.join(directory, containerfiles.EXIT), end.to_json())
    return end
