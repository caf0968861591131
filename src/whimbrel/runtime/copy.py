"""`cp`: one file or directory as a tar stream to a node, or from it.

Paths on the node are absolute, `~/...`, or relative to the working directory of tasks. Unlike `sync`, nothing is
remembered and nothing compared. A node without tar is served by a plain sh way; both ends speak tar to our callers.
"""

from __future__ import annotations

import asyncio
import posixpath
import secrets
import tarfile
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import IO

from whimbrel.infra.base import Node
from whimbrel.model.errors import InfraRefused, InvalidTask, NodeLost, NotFound
from whimbrel.model.manifest import Entry, Kind, check_path
from whimbrel.runtime import framing, packing
from whimbrel.runtime.conversation import IDLE, converse, run
from whimbrel.runtime.shell import load

_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied."""

    files: int
    bytes: int


async def copy_up(node: Node, path: str, tar: AsyncIterator[bytes], *, idle: float = IDLE) -> Copied:
    """Write one file or directory, given as a tar with it under its own name, as `cp -r` would: into a directory
    that is there (or that a slash at the end of `path` demands), else under the new name."""
    _check(path)
    shell, nonce = load("base", "files", "copy"), secrets.token_hex(6)
    has_tar = (await run(node, f"{shell}\nw_can_tar", timeout=5.0)).exit_code == 0
    counter = packing.TarCounter()
    data = _passing(tar, counter) if has_tar else _as_plain(tar, counter)
    unpack = "w_unpack_tar" if has_tar else "w_unpack_plain"
    script = f"{shell}\nw_copy_in {framing.quote(path)} {nonce} {unpack}"
    result = await run(node, script, data=data, timeout=None, idle=idle)
    if result.exit_code != 0:
        said = result.stderr.decode("utf-8", "replace").strip()
        raise InfraRefused(f"copying to {path} on node {node.name} failed: {said or 'no reason was given'}")
    if not counter.complete:
        raise InvalidTask(f"what should be copied to {path} broke off", remedy="repeat the command")
    return Copied(files=counter.files, bytes=counter.bytes)


async def copy_down(node: Node, path: str, *, idle: float = IDLE) -> AsyncGenerator[bytes, None]:
    """A tar stream of one file or directory, under its own name. Raises `NotFound` before the first piece when
    there is nothing, and `NodeLost` when it broke off."""
    _check(path)
    script = f"{load('base', 'files', 'copy')}\nw_copy_out {framing.quote(path)}"
    plain: packing.PlainToTar | None = None
    said = b""
    held: list[bytes] = []
    async with converse(node, script, idle=idle) as talk, aclosing(talk.pieces()) as pieces:
        async for kind, piece in pieces:
            if kind == framing.STDERR:
                said += piece
            else:
                held.append(piece)
            if b"how " not in said:
                continue  # stdout and stderr are not ordered among each other
            if b"how plain\n" in said and plain is None:
                plain = packing.PlainToTar()
            elif b"how tar\n" not in said and plain is None:
                continue
            for known in held:
                if plain is None:
                    yield known
                else:
                    for converted in plain.feed(known):
                        yield converted
            held.clear()
    if talk.exit_code == 44:
        raise NotFound(f"there is nothing at {path} on node {node.name}")
    if talk.exit_code == 45:
        raise InvalidTask(f"{path} on node {node.name} is a device, pipe or socket, not a file or directory")
    if talk.exit_code != 0:
        reason = said.decode("utf-8", "replace").replace("how tar\n", "").strip()
        raise InfraRefused(f"copying {path} from node {node.name} failed: {reason or talk.exit_code}")
    if plain is not None and not plain.complete:
        raise NodeLost(f"the copy of {path} from node {node.name} broke off")


async def _passing(tar: AsyncIterator[bytes], counter: packing.TarCounter) -> AsyncIterator[bytes]:
    """The stream as it is, with a whole record of zeros at its end, so that no tar waits for more."""
    async for piece in tar:
        counter.feed(piece)
        yield piece
    yield packing.TAR_END


async def _as_plain(tar: AsyncIterator[bytes], counter: packing.TarCounter) -> AsyncIterator[bytes]:
    """The same for a node without tar. The archive is put down here first: its names may come in several ways."""
    with await asyncio.to_thread(tempfile.TemporaryFile) as store:
        async for piece in tar:
            counter.feed(piece)
            await asyncio.to_thread(store.write, piece)
        await asyncio.to_thread(store.seek, 0)
        members = _plain_members(store)
        while piece := await asyncio.to_thread(next, members, b""):
            yield piece
    yield packing.PLAIN_END


def _plain_members(store: IO[bytes]) -> Iterator[bytes]:
    with tarfile.open(fileobj=store, mode="r:") as archive:
        for member in archive:
            path = posixpath.normpath(member.name)
            check_path(path)
            if member.isdir():
                yield packing.plain_head(Entry(path=path, kind=Kind.DIR, mode=member.mode & 0o777))
            elif member.issym():
                yield packing.plain_head(Entry(path=path, kind=Kind.LINK, target=member.linkname))
            elif member.isfile() and (content := archive.extractfile(member)):
                yield packing.plain_head(
                    Entry(path=path, kind=Kind.FILE, mode=member.mode & 0o777, size=member.size)
                )
                while piece := content.read(_PIECE):
                    yield piece


def _check(path: str) -> None:
    if not path or "\0" in path or "\n" in path:
        raise InvalidTask(f"{path!r} cannot be a path on a node")
