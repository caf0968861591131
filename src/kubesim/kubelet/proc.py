"""Processes as /proc shows them: identity, descent, session, and the mark that a container's processes carry.

A pid is reused; a process is known here by pid, start time and boot id together, and signalled only through a pidfd
that was checked against them. The shim and the zygote import this module, so it imports next to nothing (no
dataclasses, no pathlib). When something is to be ended is decided elsewhere; here it is only found and hit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator

MARK = "KUBESIM_CONTAINER"
"""The environment variable by which the processes of a container are found when their shim is gone; it holds the
folder of the container (without symbolic links)."""


class Identity:
    """One process, and no other that will ever have its pid."""

    __slots__ = ("boot_id", "pid", "start_time")

    def __init__(self, pid: int, start_time: int, boot_id: str) -> None:
        self.pid = pid
        self.start_time = start_time  # clock ticks since boot
        self.boot_id = boot_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.pid, self.start_time, self.boot_id))

    def __repr__(self) -> str:
        return f"Identity(pid={self.pid}, start_time={self.start_time})"

    def to_json(self) -> dict[str, int | str]:
        """The identity as it is written to files."""
        return {"pid": self.pid, "start_time": self.start_time, "boot_id": self.boot_id}

    @classmethod
    def from_json(cls, data: object) -> Identity | None:
        """The identity that a file holds, None when it holds none."""
        if not isinstance(data, dict):
            return None
        try:
            return cls(int(data["pid"]), int(data["start_time"]), str(data["boot_id"]))
        except (KeyError, TypeError, ValueError):
            return None

    def is_alive(self) -> bool:
        """Whether exactly this process runs; a zombie does not."""
        return identify(self.pid) == self

    def send(self, signum: int) -> bool:
        """Signal exactly this process; False when it has gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except (ProcessLookupError, OSError):
            return False
        try:
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(handle, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


class Stat:
    """The fields of /proc/PID/stat that say where a process belongs."""

    __slots__ = ("pid", "ppid", "session", "start_time", "state")

    def __init__(self, pid: int, text: str) -> None:
        fields = text.rpartition(")")[2].split()  # the command's name, in parentheses, may hold anything
        self.pid = pid
        self.state = fields[0]
        self.ppid = int(fields[1])
        self.session = int(fields[3])
        self.start_time = int(fields[19])

    @property
    def is_running(self) -> bool:
        """Whether it is more than a zombie."""
        return self.state not in "ZX"


_boot_id = ""


def boot_id() -> str:
    """The identity of this boot of the machine."""
    global _boot_id
    if not _boot_id:
        _boot_id = (_read("/proc/sys/kernel/random/boot_id") or b"").decode().strip()
    return _boot_id


def stat(pid: int) -> Stat | None:
    """What /proc says about a pid, None when there is no such process."""
    text = _read(f"/proc/{pid}/stat")
    return Stat(pid, text.decode("utf-8", "replace")) if text else None


def identify(pid: int) -> Identity | None:
    """The identity of the process that has this pid now, None when there is none (or only a zombie)."""
    found = stat(pid)
    if found is None or not found.is_running:
        return None
    return Identity(pid, found.start_time, boot_id())


def everything() -> Iterator[Stat]:
    """Every process of the machine that /proc shows."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := stat(int(name))) is not None:
            yield found


def descendants(pid: int) -> list[int]:
    """The pids of everything below a process, parents first. Zombies are included."""
    found: list[int] = []
    todo = [pid]
    while todo:
        parent = todo.pop()
        children = _children(parent)
        if children is None:
            return _descendants_by_scan({pid})
        found += children
        todo += children
    return found


def in_session(pids: Iterable[int], session: int) -> list[int]:
    """Those of the pids that run and belong to a session: who has called setsid since, does not."""
    return [
        pid
        for pid in pids
        if (found := stat(pid)) is not None and found.is_running and found.session == session
    ]


def ignores_hangup(pid: int) -> bool:
    """Whether the process ignores SIGHUP, which is what `nohup` does to a command."""
    for line in (_read(f"/proc/{pid}/status") or b"").splitlines():
        if line.startswith(b"SigIgn:"):
            return bool(int(line.split()[1], 16) & 1 << signal.SIGHUP - 1)
    return False


def marked(folder: str) -> list[Identity]:
    """The running processes of the containers in or below a folder, wherever they hang in the process tree.

    A process counts when its environment carries the mark, when it descends from one that does, or when it is in the
    session of one that does. The calling process never counts.
    """
    folder = os.path.realpath(folder)
    table = {entry.pid: entry for entry in everything() if entry.is_running}
    members = {pid for pid in table if _is_marked(pid, folder)}
    # A session belongs to the container only when its leader does: who was started from within it may lead his own.
    sessions = {table[pid].session for pid in members} & members
    grew = bool(members)
    while grew:
        more = {
            pid
            for pid, entry in table.items()
            if pid not in members and (entry.ppid in members or entry.session in sessions)
        }
        members |= more
        sessions |= {pid for pid in more if table[pid].session == pid}
        grew = bool(more)
    members.discard(os.getpid())
    return [Identity(pid, table[pid].start_time, boot_id()) for pid in sorted(members)]


def with_arguments(*arguments: str) -> list[Identity]:
    """The running processes whose command line ends with these arguments. The calling process never counts."""
    wanted = b"\0" + b"\0".join(argument.encode() for argument in arguments) + b"\0"
    own = boot_id()
    return [
        Identity(entry.pid, entry.start_time, own)
        for entry in everything()
        if entry.is_running
        and entry.pid != os.getpid()
        and (_read(f"/proc/{entry.pid}/cmdline") or b"").endswith(wanted)
    ]


def mark_of(pid: int) -> str:
    """The folder of the container that a process says it belongs to; empty when it says none."""
    start = f"{MARK}=".encode()
    for variable in (_read(f"/proc/{pid}/environ") or b"").split(b"\0"):
        if variable.startswith(start):
            return variable[len(start) :].decode("utf-8", "replace")
    return ""


def text_of(path: str) -> str:
    """A file of /proc as text; empty when it is not there any more."""
    return (_read(path) or b"").decode("utf-8", "replace")


def _is_marked(pid: int, folder: str) -> bool:
    start = f"{MARK}={folder}".encode()
    for variable in (_read(f"/proc/{pid}/environ") or b"").split(b"\0"):
        if variable == start or variable.startswith(start + b"/"):
            return True
    return False


def _children(pid: int) -> list[int] | None:
    """The direct children of a process; None when the kernel does not list them."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    for thread in threads:
        text = _read(f"/proc/{pid}/task/{thread}/children")
        if text is None:
            if os.path.exists(f"/proc/{pid}/task/{thread}"):
                return None
            continue
        found += map(int, text.split())
    return found


def _descendants_by_scan(members: set[int]) -> list[int]:
    table = list(everything())
    found: list[int] = []
    while more := [entry.pid for entry in table if entry.ppid in members and entry.pid not in members]:
        members.update(more)
        found += more
    return found


def _read(path: str) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        pieces = []
        while piece := os.read(handle, 65536):
            pieces.append(piece)
        return b"".join(pieces)
    except OSError:
        return None
    finally:
        os.close(handle)
