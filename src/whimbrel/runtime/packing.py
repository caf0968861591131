"""Files as bytes on an exec stream: tar where the node has it, else a plain form that sh can take apart. Pure.

Only what a tar of any make understands is written (GNU long names, no owners that matter); only what the plain form
can say is read back. Where the bytes come from and go to is `sync`'s and `copy`'s business.
"""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterator

from whimbrel.model.errors import InfraRefused
from whimbrel.model.manifest import Entry, Kind

TAR_END = b"\0" * 2 * tarfile.RECORDSIZE
"""The end of an archive, long enough that no reader waits for the rest of a record: not every stream has an EOF."""
PLAIN_END = b"end 0 0 -\n"

_TYPES = {Kind.FILE: tarfile.REGTYPE, Kind.DIR: tarfile.DIRTYPE, Kind.LINK: tarfile.SYMTYPE}


def tar_head(entry: Entry) -> bytes:
    """What comes before the content of an entry."""
    info = tarfile.TarInfo(entry.path)
    info.type, info.mode, info.linkname = _TYPES[entry.kind], entry.mode, entry.target
    info.size = entry.size if entry.kind is Kind.FILE else 0
    info.mtime = int(time.time())
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def tar_padding(size: int) -> bytes:
    """What comes after `size` bytes of content."""
    return b"\0" * (-size % tarfile.BLOCKSIZE)


def plain_head(entry: Entry) -> bytes:
    """The same for the plain form."""
    mode = "0" if entry.kind is Kind.LINK else f"{entry.mode:o}"
    text = f"{entry.kind} {mode} {entry.size} {entry.path}\n"
    if entry.kind is Kind.LINK:
        text += f"{entry.target}\n"
    return text.encode("utf-8", "surrogateescape")


class PlainToTar:
    """Turns the plain form, as it comes from a node without tar, into a tar stream."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._padding = b""
        self._link: Entry | None = None
        self.complete = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Pieces of tar."""
        self._buffer += piece
        while self._buffer and not self.complete:
            if self._left:
                content, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
                self._left -= len(content)
                yield content
                if not self._left:
                    yield self._padding
                continue
            line, newline, rest = self._buffer.partition(b"\n")
            if not newline:
                return
            self._buffer = rest
            yield self._line(line.decode("utf-8", "surrogateescape"))

    def _line(self, line: str) -> bytes:
        if self._link is not None:
            link = Entry(path=self._link.path, kind=Kind.LINK, mode=0o777, target=line)
            self._link = None
            return tar_head(link)
        kind, _, fields = line.partition(" ")
        mode, _, fields = fields.partition(" ")
        count, _, path = fields.partition(" ")
        if kind == "end":
            self.complete = True
            return TAR_END
        if kind not in list(Kind) or not count.isdecimal():
            raise InfraRefused(f"a node without tar sent something that is no file: {line[:80]!r}")
        entry = Entry(path=path, kind=Kind(kind), mode=int(mode, 8), size=int(count))
        if entry.kind is Kind.LINK:
            self._link = entry
            return b""
        self._left, self._padding = entry.size, tar_padding(entry.size)
        return tar_head(entry)


class TarCounter:
    """Counts the files and bytes of a tar stream that passes by, and sees its end."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self.complete = False
        self._buffer = b""
        self._skip = 0

    def feed(self, piece: bytes) -> None:
        """Look at the next piece."""
        if self.complete:
            return
        self._buffer += piece
        while True:
            step = min(self._skip, len(self._buffer))
            self._buffer, self._skip = self._buffer[step:], self._skip - step
            if self._skip or len(self._buffer) < tarfile.BLOCKSIZE:
                return
            block, self._buffer = self._buffer[: tarfile.BLOCKSIZE], self._buffer[tarfile.BLOCKSIZE :]
            if not any(block):
                self.complete = True
                return
            self._header(block)

    def _header(self, block: bytes) -> None:
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            raise InfraRefused("what should be copied is not a tar archive") from None
        self._skip = info.size + len(tar_padding(info.size))
        if info.isreg():
            self.files += 1
            self.bytes += info.size
