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
    root = Path(os.path.realpath(root))
    _end_zygote(root / zygote.FOLDER)
    running = [
        path.parent
        for path in root.glob(f"pods/*/containers/*/*/{containerfiles.LOCK}")
        if _has_shim(path.parent)
    ]
    for directory in running:
        _ask_to_stop(str(directory), grace)
    deadline = time.monotonic() + grace + STOP_MARGIN
    while any(map(_has_shim, running)) and time.monotonic() < deadline:
        time.sleep(ROUND)
    for directory in running:
        aftermath.settle(str(directory)) if not _has_shim(directory) else aftermath.end_by_force(
            str(directory)
        )
    return _sweep(root)


def _end_zygote(folder: Path) -> None:
    identity = proc.Identity.from_json(containerfiles.read_json(str(folder / zygote.IDENTITY)))
    if identity is not None and identity.send(signal.SIGTERM):
        aftermath.wait_gone([identity], 1.0)


def _sweep(root: Path) -> list[str]:
    """Kill what is left, found by its mark or its command line, whatever the node's files say."""
    ours = proc.with_arguments("kubesim.kubelet.zygote", str(root))
    for process in ours:
        process.send(signal.SIGKILL)
    stuck = aftermath.wait_gone(ours, aftermath.KILL_LIMIT)
    strays = aftermath.end_marked(str(root))
    return [
        f"Process {process.pid}, which watches over containers of {root}, could not be killed."
        for process in stuck
    ] + [f"Process {process.pid} of a container of {root} could not be killed." for process in strays]


def _has_shim(directory: Path) -> bool:
    return containerfiles.has_shim(str(directory))


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
