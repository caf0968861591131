"""Where a database may be: on a local file system, in a directory and a file that only its user can open.

SQLite's locks and shared memory do not work on network file systems, and the damage shows weeks later; such a
place is refused by name before the first byte is written. Opening the database is `whimbrel.store.engine`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from whimbrel.model.errors import StoreUnusable

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs",
        "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.goofys",
        "fuse.blobfuse2", "fuse.juicefs", "fuse.beegfs",
    }
)  # fmt: skip


def prepare(path: Path, mountinfo: str | None = None) -> Path:
    """The real path of the database file, created empty and private when it is not there.

    Raises `StoreUnusable` when the place is on a network file system or cannot be written.
    """
    real = Path(os.path.realpath(path))
    kind = file_system(real, _mountinfo() if mountinfo is None else mountinfo)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreUnusable(
            f"The database {real} would be on a network file system ({kind}), where SQLite loses data.",
            remedy="Set WHIMBREL_HOME to a directory on a local disk.",
        )
    try:
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(real, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        real.chmod(0o600)
    except OSError as error:
        raise StoreUnusable(
            f"The database {real} cannot be opened: {error.strerror}.",
            remedy=f"Make {real.parent} writable for you, or set WHIMBREL_HOME to another directory.",
        ) from error
    return real


def file_system(path: Path, mountinfo: str) -> str:
    """The type of the file system that holds `path`, read from the text of /proc/self/mountinfo; "" if unknown."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if path.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), right.split()[0]
    return kind


def _mountinfo() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return ""  # not Linux: nothing is known about the mounts
