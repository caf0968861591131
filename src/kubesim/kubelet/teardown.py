"""End everything that a node runs, without a daemon: what `kubesim stop cluster` and `delete cluster` call.

Plain synchronous code that finds its work in the node's folder and in /proc, so that it also works after the daemon,
the zygote and the shims were killed, and when files of the node are damaged. Removing the folder is the caller's job.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from kubesim.kubelet import aftermath, containerfiles, proc, wire, zygote

ROUND = 0.01
STOP_MARGIN = 5.0
"""Seconds after the grace in which a shim has to be done; then it is ended by force."""


def stop_all(root: Path, *, grace: float = 2.0) -> list[str]:
    """End zygote, shims and every container process below `root`; a sentence for each thing that is still there.

    The containers get TERM and `grace` seconds. Nothing below `root`, or no `root`, is an empty list.
    """
    left = _end_zygote(root / zygote.FOLDER)
    containers = [path.parent for path in root.glob(f"pods/*/*/*/{containerfiles.SPEC}")]
    running = [directory for directory in containers if containerfiles.read_exit(str(directory)) is None]
    for directory in running:
        _ask_to_stop(str(directory), grace)
    deadline = time.monotonic() + grace + STOP_MARGIN
    while any(_shim_lives(directory) for directory in running) and time.monotonic() < deadline:
        time.sleep(ROUND)
    for directory in containers:
        left += _finish(directory)
    return left


def _end_zygote(folder: Path) -> list[str]:
    identity = proc.Identity.from_json(containerfiles.read_json(str(folder / zygote.IDENTITY)))
    if identity is None or not identity.send(signal.SIGTERM):
        return []
    if aftermath.wait_gone([identity], 1.0):
        identity.send(signal.SIGKILL)
    stuck = aftermath.wait_gone([identity], 2.0)
    return [f"The zygote (pid {identity.pid}) did not end." for _ in stuck]


def _ask_to_stop(directory: str, grace: float) -> None:
    try:
        connection = wire.connect(directory, containerfiles.SOCKET)
    except OSError:
        return  # its shim is gone or does not answer; `_finish` does the rest
    try:
        wire.send(connection, {"op": "stop", "grace": grace})
    except OSError:
        return
    finally:
        _close_after_answer(connection)


def _close_after_answer(connection: socket.socket) -> None:
    connection.settimeout(1.0)
    try:
        connection.recv(4096)
    except OSError:
        return
    finally:
        connection.close()


def _shim_lives(directory: Path) -> bool:
    state = containerfiles.read_state(str(directory))
    return state is not None and state.shim.is_alive()


def _finish(directory: Path) -> list[str]:
    """Make sure that nothing of a container is left, whatever its files say."""
    name = os.sep.join(directory.parts[-3:])
    if _shim_lives(directory) or containerfiles.read_exit(str(directory)) is None:
        aftermath.end_by_force(str(directory))
    spec = containerfiles.read_spec(str(directory))
    left = aftermath.end_marked(spec.id) if spec is not None else []
    found = [f"Process {process.pid} of container {name} could not be killed." for process in left]
    if _shim_lives(directory):
        found.append(f"The shim of container {name} could not be killed.")
    return found
