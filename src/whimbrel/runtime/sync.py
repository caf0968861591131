"""Bring a directory of a node to what a manifest says, sending only what changed.

The node remembers the manifest that it was given last. Sent again is what is new in the manifest, what has vanished
on the node and what was changed there since; deleted is only what we had put there, is no longer in the manifest
and was not changed since. What jobs have written beside it stays. Broken off in the middle, the next push mends it.

Content comes from files on this machine (the blobs of the server); how a manifest is made is the client's.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from whimbrel.infra.base import Node, Progress
from whimbrel.model.errors import InfraRefused, InvalidTask
from whimbrel.model.manifest import Difference, Entry, Kind, Manifest, diff
from whimbrel.runtime import packing
from whimbrel.runtime.conversation import Result, Sized, run
from whimbrel.runtime.framing import quote
from whimbrel.runtime.shell import load

OpenBlob = Callable[[str], Path]
"""The file that has the content with this SHA-256."""

_PIECE = 256 * 1024
_DROPS_PER_LINE = 50
_TELL_EVERY = 0.5


class Spoiled(InfraRefused):
    """The stored content of a file is gone, or is not what it was: `details["sha256"]` says which."""

    @classmethod
    def of(cls, entry: Entry) -> Spoiled:
        """The error for one file."""
        return cls(
            f"the server's copy of {entry.path} is gone or spoiled",
            remedy="run the command again: it sends what is missing",
            details={"sha256": entry.sha256},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push did."""

    files: int = 0
    bytes: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the node remembers and how it is now."""

    manifest: Manifest
    gone: frozenset[str]
    changed: frozenset[str]
    tar: bool


async def push(
    node: Node,
    target: str,
    manifest: Manifest,
    open_blob: OpenBlob,
    progress: Progress,
    *,
    timeout: float = 20.0,
    idle: float = 60.0,
) -> Pushed:
    """Make `target` on the node (absolute, `~/...`, or relative to the working directory) what the manifest says.

    `timeout` bounds the question what is there; sending may last as long as something moves within `idle` seconds.
    """
    if "\0" in target or "\n" in target:
        raise InvalidTask(f"{target!r} cannot be a path on a node")
    key = hashlib.sha256(posixpath.normpath(target).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    known = await _ask(node, target, key, timeout)
    work = _plan(known, manifest)
    if not work.to_send and not work.to_delete and known.manifest == manifest:
        return Pushed()
    nonce = secrets.token_hex(6)
    sending = _Sending(work.to_send, manifest, open_blob, progress, nonce, node.name, tar=known.tar)
    unpack = "w_unpack_tar" if known.tar else "w_unpack_plain"
    script = "\n".join(
        [
            load("base", "files", "sync"),
            f"w_begin {quote(target)} || exit",
            *_drops(work.to_delete),
            f"{unpack} || exit",
            f"w_end {key} {nonce}",
        ]
    )
    result = await run(node, script, data=Sized(sending.pieces(), sending.length), timeout=None, idle=idle)
    _complain(result, node, target)
    return Pushed(files=sending.files, bytes=sending.bytes, deleted=len(work.to_delete))


async def _ask(node: Node, target: str, key: str, timeout: float) -> _Known:
    script = f"{load('base', 'files', 'sync')}\nw_known {quote(target)} {key}"
    result = (await run(node, script, timeout=timeout)).check("looking at the files", node)
    said: dict[str, set[str]] = {"can": set(), "gone": set(), "changed": set()}
    for line in result.stderr.decode("utf-8", "surrogateescape").splitlines():
        word, _, path = line.partition(" ")
        said.get(word, set()).add(path)
    try:
        manifest = (
            Manifest.from_json(result.stdout) if result.stdout and "." not in said["gone"] else Manifest()
        )
    except InvalidTask:
        manifest = Manifest()  # a memory that cannot be read is none: everything is sent
    return _Known(
        manifest=manifest,
        gone=frozenset(said["gone"]),
        changed=frozenset(said["changed"]),
        tar="tar" in said["can"],
    )


def _plan(known: _Known, manifest: Manifest) -> Difference:
    """What to send and what to delete, given what has become of the files on the node."""
    work = diff(known.manifest, manifest)
    kinds = {entry.path: entry.kind for entry in manifest.entries}
    sent = {entry.path for entry in work.to_send}
    again = [
        entry
        for entry in manifest.entries
        if entry.path not in sent and (entry.path in known.gone or entry.path in known.changed)
    ]
    keep = {path for path in known.changed if path not in kinds}
    return Difference(
        to_send=tuple(sorted((*work.to_send, *again), key=lambda entry: entry.path)),
        to_delete=tuple(path for path in work.to_delete if path not in keep),
    )


def _drops(paths: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(paths), _DROPS_PER_LINE):
        yield "w_drop " + " ".join(quote(path) for path in paths[start : start + _DROPS_PER_LINE])


class _Sending:
    """The bytes of one push."""

    def __init__(
        self,
        entries: Sequence[Entry],
        manifest: Manifest,
        open_blob: OpenBlob,
        progress: Progress,
        nonce: str,
        node: str,
        *,
        tar: bool,
    ) -> None:
        self._entries = entries
        self._manifest = manifest
        self._open_blob = open_blob
        self._progress = progress
        self._folder = f".whimbrel-sync-{nonce}"
        self._node = node
        self._tar = tar
        self._all_files = sum(entry.kind is Kind.FILE for entry in entries)
        self._all_bytes = sum(entry.size for entry in entries)
        self._memory = list(self._remembered())
        self._told = time.monotonic()
        self.files = 0
        self.bytes = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """The archive: the files, then what the node is to remember, then the proof that all of it has come."""
        head = packing.tar_head if self._tar else packing.plain_head
        batch = bytearray()
        for entry in self._entries:
            batch += head(entry)
            if entry.kind is Kind.FILE:
                async for content in self._content(entry):
                    batch += content
                    if len(batch) >= _PIECE:
                        yield bytes(batch)
                        batch.clear()
                        self._tell()
                self.files += 1
        for entry, content in self._memory:
            batch += head(entry) + content + self._padding(len(content))
        batch += packing.TAR_END if self._tar else packing.PLAIN_END
        yield bytes(batch)

    async def _content(self, entry: Entry) -> AsyncIterator[bytes]:
        """The file's bytes, read in a thread; exactly those that were promised, or the push breaks off."""
        hasher = hashlib.sha256()
        left = entry.size
        try:
            source = await asyncio.to_thread(self._open_blob(entry.sha256).open, "rb")
        except FileNotFoundError:
            raise Spoiled.of(entry) from None
        with source:
            while left:
                piece = await asyncio.to_thread(source.read, min(_PIECE, left))
                if not piece:
                    break
                hasher.update(piece)
                left -= len(piece)
                self.bytes += len(piece)
                yield piece
        if left or hasher.hexdigest() != entry.sha256:
            raise Spoiled.of(entry)
        yield self._padding(entry.size)

    @property
    def length(self) -> int:
        """How many bytes `pieces` will give."""
        head = packing.tar_head if self._tar else packing.plain_head
        end = packing.TAR_END if self._tar else packing.PLAIN_END
        every = [*self._entries, *(entry for entry, _ in self._memory)]
        sizes = (len(head(entry)) + entry.size + len(self._padding(entry.size)) for entry in every)
        return sum(sizes) + len(end)

    def _padding(self, size: int) -> bytes:
        return packing.tar_padding(size) if self._tar else b""

    def _remembered(self) -> Iterator[tuple[Entry, bytes]]:
        """What the node is to remember; `end`, the last, proves that everything has come."""
        paths = "".join(f"{entry.path}\n" for entry in self._manifest.entries)
        yield Entry(path=self._folder, kind=Kind.DIR, mode=0o700), b""
        for name, content in (
            ("json", self._manifest.to_json()),
            ("paths", paths.encode("utf-8", "surrogateescape")),
            ("end", b""),
        ):
            path = f"{self._folder}/{name}"
            yield Entry(path=path, kind=Kind.FILE, mode=0o600, size=len(content)), content

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY:
            self._told = now
            self._progress(
                f"sending files to {self._node}: {self.files} of {self._all_files}, "
                f"{self.bytes / 1e6:.1f} of {self._all_bytes / 1e6:.1f} MB"
            )


def _complain(result: Result, node: Node, target: str) -> None:
    if result.exit_code != 0:
        said = result.stderr.decode("utf-8", "replace").strip() or f"exit code {result.exit_code}"
        raise InfraRefused(
            f"the files could not be written to {target} on node {node.name}: {said}",
            remedy="look at space and permissions there; repeating the command goes on where it stopped",
        )
