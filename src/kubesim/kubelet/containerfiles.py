"""The files of one attempt of one container, which the shim writes and the daemon reads.

    DIR/spec.json    what to run; written by the daemon before the zygote is asked (intent before action), mode 0600
    DIR/lock         held by the shim as long as it lives: two shims never run one attempt
    DIR/state.json   the shim and the main process, once they run
    DIR/log          what the container printed (`crilog.py`)
    DIR/exit.json    how it ended; its presence is the end
    DIR/sock         where the shim listens
    DIR/out-of-memory  the daemon is ending it because it has taken more memory than it may (`memory.py`)
    DIR/last-words   what the container wants its end to say (Kubernetes: its termination message)

Every JSON file appears whole or not at all, also after a `kill -9`; they are not synced to the disk, because after a
crash of the machine no process is left that they could tell of. Nothing here knows Kubernetes.
"""

from __future__ import annotations

import fcntl
import json
import os

from kubesim.kubelet.proc import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPEC = "spec.json"
LOCK = "lock"
STATE = "state.json"
LOG = "log"
EXIT = "exit.json"
SOCKET = "sock"
LAST_WORDS = "last-words"
OUT_OF_MEMORY = "out-of-memory"


class Spec:
    """What a shim runs."""

    __slots__ = ("argv", "cwd", "env", "notes", "stdin", "stdin_once", "tty")

    def __init__(
        self,
        *,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        stdin: bool = False,
        stdin_once: bool = False,
        tty: bool = False,
        notes: dict[str, Any] | None = None,
    ) -> None:
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.stdin = stdin
        self.stdin_once = stdin_once
        self.tty = tty
        self.notes = notes or {}  # what the daemon wants to find again; the shim does not look at it

    def to_json(self) -> dict[str, Any]:
        """The spec as its file holds it."""
        return {name: getattr(self, name) for name in self.__slots__}


class Exit:
    """How a container ended."""

    __slots__ = ("exit_code", "finished_at", "message", "reason", "started_at")

    def __init__(
        self,
        *,
        exit_code: int,
        started_at: float,
        finished_at: float,
        reason: str = "",
        message: str = "",
    ) -> None:
        self.exit_code = exit_code  # 128 + N for signal N
        self.started_at = started_at
        self.finished_at = finished_at
        self.reason = reason  # empty: Completed or Error, by the exit code
        self.message = message

    def to_json(self) -> dict[str, Any]:
        """The end as its file holds it."""
        return {name: getattr(self, name) for name in self.__slots__}


class State:
    """Who runs a container."""

    __slots__ = ("main", "shim", "started_at")

    def __init__(self, *, shim: Identity, main: Identity | None, started_at: float) -> None:
        self.shim = shim
        self.main = main
        self.started_at = started_at

    def to_json(self) -> dict[str, Any]:
        """The state as its file holds it."""
        return {
            "shim": self.shim.to_json(),
            "main": self.main.to_json() if self.main else None,
            "started_at": self.started_at,
        }


def write_json(path: str, data: dict[str, Any]) -> None:
    """Write a file whole, readable by its user only."""
    temporary = f"{path}.{os.getpid()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        rest = json.dumps(data).encode()
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)
    os.replace(temporary, path)


def read_json(path: str) -> dict[str, Any] | None:
    """What a file holds; None when it is not there or was never completed."""
    try:
        with open(path, "rb") as file:
            data = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def read_spec(directory: str) -> Spec | None:
    """The spec of an attempt."""
    data = read_json(os.path.join(directory, SPEC))
    try:
        return Spec(**data) if data else None
    except TypeError:
        return None


def read_state(directory: str) -> State | None:
    """Who runs an attempt, None before it was started."""
    data = read_json(os.path.join(directory, STATE)) or {}
    shim = Identity.from_json(data.get("shim"))
    if shim is None:
        return None
    return State(
        shim=shim, main=Identity.from_json(data.get("main")), started_at=float(data.get("started_at", 0))
    )


def read_exit(directory: str) -> Exit | None:
    """How an attempt ended, None while it has not."""
    data = read_json(os.path.join(directory, EXIT))
    try:
        return Exit(**data) if data else None
    except TypeError:
        return None


def has_shim(directory: str) -> bool:
    """Whether a shim lives for this attempt. Holds also in the moments before and after it can be spoken to."""
    try:
        handle = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
