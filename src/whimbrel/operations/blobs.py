"""Files that clients sent, by content: what a launch or an exec syncs to its nodes.

A file is stored under the SHA-256 of its bytes, which is checked while it is written, and appears under its
name only when it is complete and on the disk. Manifests (which file goes where) are files like any other. What is
found spoiled later is dropped, so that the same command sends it again. Nothing here knows about nodes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from whimbrel.model.errors import InvalidTask

logger = logging.getLogger(__name__)

T = TypeVar("T")

PIECE = 1024 * 1024
STREAM_IDLE = 60.0
"""Seconds that a client may pause while it sends."""
KEEP = 7 * 24 * 3600.0
"""Seconds that a file is kept after it was last asked for."""
UPLOADS = 8
"""Uploads at the same time; each has a thread, which mostly waits for its client."""

SEND_AGAIN = "run the command again: it sends what is missing"

_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 in hexadecimal."""
    return bool(_SHA256.fullmatch(text))


class BlobStore:
    """Files below one directory, in threads of their own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="whimbrel-blobs")
        self._uploads = ThreadPoolExecutor(max_workers=UPLOADS, thread_name_prefix="whimbrel-upload")

    def path(self, digest: str) -> Path:
        """Where a file is, whether or not it is there."""
        if not is_digest(digest):
            raise InvalidTask(f"{digest!r} is not a SHA-256.")
        return self._root / digest[:2] / digest[2:]

    async def missing(self, digests: Iterable[str]) -> list[str]:
        """Which of these are not here; what is here is kept for a while longer."""
        wanted = list(dict.fromkeys(digests))
        return await self._in_thread(lambda: [digest for digest in wanted if not self._touch(digest)])

    async def read(self, digest: str) -> bytes:
        """A whole file (a manifest).

        Raises:
            InvalidTask: it is not here, or is not what it was.
        """
        try:
            content = await self._in_thread(self.path(digest).read_bytes)
        except FileNotFoundError:
            raise InvalidTask(
                f"The server does not have the file {digest[:12]}… that this request names.",
                remedy=SEND_AGAIN,
            ) from None
        if hashlib.sha256(content).hexdigest() != digest:
            await self.drop(digest)
            raise InvalidTask(f"The file {digest[:12]}… was spoiled on the server's disk.", remedy=SEND_AGAIN)
        return content

    async def drop(self, digest: str) -> None:
        """Remove a file that is not what it was."""
        logger.warning(
            "the stored file %s is spoiled and is removed", digest, extra={"action": "blob-dropped"}
        )
        await self._in_thread(lambda: self.path(digest).unlink(missing_ok=True))

    async def store_tar(self, pieces: AsyncIterator[bytes]) -> int:
        """Store the members of a tar stream, each named by its SHA-256; returns how many.

        Raises:
            InvalidTask: the stream is no tar, or a member is not what its name says.
        """
        source = cast(BinaryIO, _StreamFile(pieces, asyncio.get_running_loop()))
        return await asyncio.get_running_loop().run_in_executor(self._uploads, self._unpack, source)

    async def sweep(self) -> int:
        """Remove what nobody has asked for in a long time; returns how many."""
        return await self._in_thread(lambda: self._sweep(time.time() - KEEP))

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)
        self._uploads.shutdown(wait=False)

    async def _in_thread(self, action: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)

    def _touch(self, digest: str) -> bool:
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def _unpack(self, source: BinaryIO) -> int:
        stored = 0
        try:
            with tarfile.open(fileobj=source, mode="r|") as archive:
                for member in archive:
                    plain = member.isreg() and not member.issparse()  # a sparse one may claim any size
                    content = archive.extractfile(member) if plain else None
                    if content is None or not is_digest(member.name):
                        raise InvalidTask(f"{member.name!r} is not a file named by its SHA-256.")
                    self._store(member.name, cast(BinaryIO, content))
                    stored += 1
        except tarfile.TarError as error:
            raise InvalidTask(f"The upload is not a complete tar stream: {error}.") from error
        return stored

    def _store(self, digest: str, content: BinaryIO) -> None:
        target = self.path(digest)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        hasher = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as fresh:
            try:
                while piece := content.read(PIECE):
                    hasher.update(piece)
                    fresh.write(piece)
                fresh.flush()
                if hasher.hexdigest() != digest:
                    raise InvalidTask(
                        f"A file changed while it was sent (its SHA-256 is not {digest[:12]}…).",
                        remedy="run the command again",
                    )
                os.fsync(fresh.fileno())  # else a power cut leaves the name without the content
                os.replace(fresh.name, target)
            except BaseException:
                os.unlink(fresh.name)
                raise

    def _sweep(self, before: float) -> int:
        removed = 0
        for directory in self._root.glob("??"):
            for entry in os.scandir(directory):
                try:
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)
                        removed += 1
                except OSError as error:  # an upload has just ended, or it is nothing of ours
                    logger.info("%s stays: %s", entry.path, error.strerror)
        return removed


class _StreamFile:
    """What a thread reads while the event loop receives: each read waits for the loop, within a bound."""

    def __init__(self, pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._pieces = pieces
        self._loop = loop
        self._rest = b""

    async def _next(self) -> bytes:
        async with asyncio.timeout(STREAM_IDLE):
            return await anext(self._pieces, b"")

    def read(self, size: int) -> bytes:
        """So many bytes, fewer only at the end."""
        parts = [self._rest]
        have = len(self._rest)
        while have < size:
            try:
                piece = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result(STREAM_IDLE + 5)
            except TimeoutError as error:
                raise InvalidTask(
                    "The upload stopped in the middle.", remedy="run the command again"
                ) from error
            if not piece:
                break
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]
