"""Where one server keeps its state on this machine, and what it tells clients of itself there.

A home belongs to one server at a time: `Home.claim` takes a lock that the kernel releases when the process
ends, however it ends. `server.json` names the process by pid, start time and boot id, because a pid alone may
belong to somebody else by now. The Unix socket is in a directory that only the user can enter. Reading the
record and starting a server is the client's side (`whimbrel.client.local`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import whimbrel
from whimbrel.model.errors import ServerUnavailable

SOCKET_PATH_LIMIT = 107  # bytes, without the closing zero: what every POSIX system we run on allows


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The paths below `$WHIMBREL_HOME`; nothing is created until `prepare`."""

    root: Path

    @property
    def record(self) -> Path:
        """What a running server says of itself."""
        return self.root / "server.json"

    @property
    def lock(self) -> Path:
        """Locked by the one server of this home, as long as it lives."""
        return self.root / "server.lock"

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.root / "server.log"

    @property
    def database(self) -> Path:
        """Requests, clusters, jobs, and the ledger of external things."""
        return self.root / "state.db"

    @property
    def blobs(self) -> Path:
        """Files that clients sent, by content."""
        return self.root / "blobs"

    @property
    def logs(self) -> Path:
        """What jobs printed, kept after their clusters."""
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        """Secret values of requests that have not ended."""
        return self.root / "secrets"

    def prepare(self) -> None:
        """Create the directories, for this user only."""
        for directory in (self.root, self.blobs, self.logs, self.secrets):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def claim(self) -> int:
        """Take the home for this process; the returned descriptor holds the lock until it is closed.

        Raises:
            ServerUnavailable: another server has it.
        """
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise ServerUnavailable(
                f"Another API server (pid {holder}) already runs for {self.root}.",
                remedy="whim api info   # or: whim api stop",
                details={"pid": holder},
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def socket_path(self) -> Path:
        """Where this home's socket is: a short path, in a directory of mode 0700 that belongs to this user.

        Raises:
            ServerUnavailable: the directory belongs to somebody else, or is open to others.
        """
        short = hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:12]
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        if runtime and _ours(Path(runtime)):
            path = Path(runtime) / f"whimbrel-{short}" / "api.sock"
            if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
                return _private(path)
        return _private(Path(f"/tmp/whimbrel-{os.getuid()}-{short}/api.sock"))

    def write_record(self, *, address: str, state: str) -> None:
        """Say where the server is and how it does: `starting`, `ready` or `draining`."""
        text = json.dumps(
            {
                "pid": os.getpid(),
                "start_time": process_start_time(os.getpid()),
                "boot_id": boot_id(),
                "address": address,
                "version": whimbrel.__version__,
                "state": state,
            }
        )
        fresh = self.record.with_name(f"server.json.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        fresh.replace(self.record)

    def remove_record(self) -> None:
        """The server is leaving."""
        self.record.unlink(missing_ok=True)


def process_start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (field 22 of `/proc/PID/stat`); None where
    unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def boot_id() -> str:
    """What tells this boot of the machine from another; empty where the system has no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _ours(directory: Path) -> bool:
    """Whether it is a real directory that belongs to this user and that nobody else can enter."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _private(path: Path) -> Path:
    directory = path.parent
    directory.mkdir(mode=0o700, exist_ok=True)
    if not _ours(directory):
        raise ServerUnavailable(
            f"{directory} is not a directory that only you can open, so the API server does not put its socket there.",
            remedy=f"ls -ld {directory}   # remove it, or set XDG_RUNTIME_DIR to a directory of mode 0700",
        )
    return path
