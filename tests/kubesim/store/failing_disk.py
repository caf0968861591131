"""A store on a disk that fails, in a process of its own; prints what came of it as JSON.

`failing_disk.py sync DIRECTORY`   fdatasync of the log answers EIO (seccomp; x86-64 and ARM64), later it works again
`failing_disk.py full DIRECTORY`   the directory is on a small file system, which fills up and is freed again
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import platform
import struct
import sys
from pathlib import Path

from kubesim.store import StorageFailed, Store, open_store

PODS = "/pods"
# (number of seccomp, fsync, fdatasync)
SYSCALLS = {"x86_64": (317, 74, 75), "aarch64": (277, 82, 83)}


def body(revision: int) -> bytes:
    return b"%d:" % revision + b"x" * 2000


def break_sync(descriptor: int) -> None:
    """From now on syncing this file descriptor fails with EIO, in all threads, for good."""
    seccomp, fsync, fdatasync = SYSCALLS[platform.machine()]
    load, equal, give = 0x20, 0x15, 0x06

    def instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("HBBI", code, then, otherwise, value)

    program = b"".join(
        [
            instruction(load, 0),  # the number of the system call
            instruction(equal, fsync, 1),
            instruction(equal, fdatasync, 0, 3),
            instruction(load, 16),  # its first argument
            instruction(equal, descriptor, 0, 1),
            instruction(give, 0x00050000 | errno.EIO),
            instruction(give, 0x7FFF0000),
        ]
    )
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program)
    described = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    )
    if libc.prctl(38, 1, 0, 0, 0) or libc.syscall(seccomp, 1, 1, described):  # no new privileges; all threads
        raise OSError(ctypes.get_errno(), "seccomp was refused")


def descriptor_of(suffix: str) -> int:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(entry).endswith(suffix):
                return int(entry.name)
        except OSError:
            continue
    raise LookupError(suffix)


async def attempt(store: Store, name: str) -> str:
    try:
        stored = await store.create(PODS, name, body)
    except StorageFailed as error:
        return f"{type(error).__name__}: {error}"
    return str(stored.revision)


def seen(store: Store) -> dict[str, int]:
    return {s.name: s.revision for s in store.table(PODS).all()}


async def sync(directory: Path) -> dict[str, object]:
    placeholder = os.open(
        "/dev/null", os.O_RDONLY
    )  # below the store's: moves the log's descriptor once it is closed
    store = open_store("durable", directory)
    told = {"before": await attempt(store, "before")}
    break_sync(descriptor_of("-wal"))
    told["broken"] = await attempt(store, "broken")
    told["still broken"] = await attempt(store, "still-broken")
    reads = seen(store)
    os.close(placeholder)
    told["mended"] = await attempt(store, "mended")
    await store.close()
    store = open_store("durable", directory)
    found = {"told": told, "reads": reads, "after": seen(store), "revision": store.revision}
    await store.close()
    return found


async def full(directory: Path) -> dict[str, object]:
    store = open_store("durable", directory)
    acknowledged: dict[str, int] = {}
    refused = ""
    for number in range(5000):
        result = await attempt(store, f"{number:04}")
        if not result.isdigit():
            refused = result
            break
        acknowledged[f"{number:04}"] = int(result)
    reads = seen(store)
    (directory / "ballast").unlink()
    mended = await attempt(store, "mended")
    if mended.isdigit():
        acknowledged["mended"] = int(mended)
    await store.close()
    store = open_store("durable", directory)
    found = {
        "refused": refused,
        "mended": mended,
        "reads_whole": reads.items() <= acknowledged.items() and len(reads) == len(acknowledged) - 1,
        "kept": seen(store) == acknowledged,
        "count": len(acknowledged),
    }
    await store.close()
    return found


if __name__ == "__main__":
    chosen = {"sync": sync, "full": full}[sys.argv[1]]
    sys.stdout.write(json.dumps(asyncio.run(chosen(Path(sys.argv[2])))))
