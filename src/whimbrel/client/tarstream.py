"""Tar as a stream, both ways, for uploads and `whim cp`: nothing is held in memory, nothing leaves its directory.

Archives come from machines that are not trusted: only files, directories and links that stay below the target are
written, whatever an archive says.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from whimbrel.model.errors import InvalidTask, NotFound, WhimError

if TYPE_CHECKING:
    from typing_extensions import Buffer

PIECE = 1 << 16

_SPECIAL = (
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def tar_of(members: Iterable[tuple[str, Path | bytes]]) -> Iterator[bytes]:
    """An archive of named contents: files of this machine, or bytes."""
    for name, content in members:
        if isinstance(content, bytes):
            yield from _file(_header(name, len(content), 0o644), iter([content]))
        else:
            yield from _from_disk(name, content)
    yield b"\0" * tarfile.BLOCKSIZE * 2


def check_source(source: Path) -> None:
    """Refuse what has no end or no content of its own, before anything is sent.

    Raises:
        InvalidTask: it is a device, pipe or socket.
    """
    if not (source.is_file() or source.is_dir() or source.is_symlink()):
        raise InvalidTask(f"{source} is {kind_of(source.stat().st_mode)}, not a file or directory.")


def kind_of(mode: int) -> str:
    """What a special file is, in words."""
    for test, words in _SPECIAL:
        if test(mode):
            return words
    return "something special"


def tar_stream(source: Path, left_out: list[str]) -> Iterator[bytes]:
    """An archive of one file or directory, under its own name. `left_out` learns what could not go into it."""
    yield from _tree(source, source.resolve().name, left_out)
    yield b"\0" * tarfile.BLOCKSIZE * 2


def _tree(path: Path, name: str, left_out: list[str]) -> Iterator[bytes]:
    if path.is_symlink():
        header = _header(name, 0, 0o777)
        header.type, header.linkname = tarfile.SYMTYPE, os.readlink(path)
        yield _encoded(header)
    elif path.is_dir():
        header = _header(name, 0, path.stat().st_mode & 0o777)
        header.type = tarfile.DIRTYPE
        yield _encoded(header)
        for child in sorted(path.iterdir()):
            yield from _tree(child, f"{name}/{child.name}", left_out)
    elif path.is_file():
        yield from _from_disk(name, path)
    else:
        left_out.append(str(path))


def _from_disk(name: str, path: Path) -> Iterator[bytes]:
    with path.open("rb") as content:
        status = os.fstat(content.fileno())
        header = _header(name, status.st_size, status.st_mode & 0o777)
        header.mtime = int(status.st_mtime)
        yield from _file(header, iter(lambda: content.read(PIECE), b""))


def _header(name: str, size: int, mode: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, mode
    return header


def _encoded(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _file(header: tarfile.TarInfo, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield _encoded(header)
    sent = 0
    for piece in pieces:
        sent += len(piece)
        yield piece
    if sent != header.size:
        raise InvalidTask(
            f"{header.name} changed from {header.size} to {sent} bytes while it was sent.",
            remedy="repeat the command when nothing writes to it",
        )
    yield b"\0" * (-sent % tarfile.BLOCKSIZE)


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file, for `tarfile`."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        target = memoryview(buffer).cast("B")
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def unpack(pieces: Iterator[bytes], source: str, target: Path) -> dict[str, Any]:
    """Write an archive of one file or directory to a path, as `cp -r` would: into a directory that is there, else
    under the new name. Returns how many files and bytes were written, and in `left_out` the names of what is neither
    a file nor a directory nor a link that stays inside.

    Raises:
        NotFound: the archive is empty.
        WhimError: it would leave the target, or ends early.
    """
    files = count = 0
    left_out: list[str] = []
    top: str | None = None
    destination = target
    buffered = io.BufferedReader(_Pieces(pieces), PIECE)
    try:
        with tarfile.open(fileobj=buffered, mode="r|") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                parts = [part for part in path.parts if part != "."]
                if path.is_absolute() or ".." in parts:
                    raise WhimError(
                        f"The archive names {member.name!r}, which is outside of it; nothing more is copied."
                    )
                if not parts:
                    continue
                if top is None:
                    top = parts[0]
                    into = target.is_dir() or str(target).endswith(os.sep)
                    destination = target / top if into else target
                    destination.parent.mkdir(parents=True, exist_ok=True)
                written = _write(archive, member, destination.joinpath(*parts[1:]), destination, left_out)
                if written is not None:
                    files += 1
                    count += written
    except tarfile.ReadError as error:
        if top is None:
            raise NotFound(f"There is nothing at {source!r}.") from error
        raise WhimError(
            f"The copy of {source!r} ended early: {error}.", remedy="repeat the command"
        ) from error
    if top is None:
        raise NotFound(f"There is nothing at {source!r}.")
    return {"files": files, "bytes": count, "left_out": left_out}


def _write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, root: Path, left_out: list[str]
) -> int | None:
    """One member; the bytes of a file, or None for what is none."""
    if not path.parent.resolve().is_relative_to(root.parent.resolve()):
        raise WhimError(f"The archive puts {member.name!r} outside of {root}; nothing more is copied.")
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_file():
        path.unlink()
    if member.issym():
        inside = Path(os.path.normpath(path.parent / member.linkname)).is_relative_to(root)
        if inside and not os.path.isabs(member.linkname):
            path.symlink_to(member.linkname)
        else:
            left_out.append(f"{member.name} -> {member.linkname}")
        return None
    if not member.isfile():
        left_out.append(member.name)
        return None
    content = archive.extractfile(member)
    assert content is not None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    written = 0
    with os.fdopen(descriptor, "wb") as output:
        while piece := content.read(PIECE):
            output.write(piece)
            written += len(piece)
        os.fchmod(output.fileno(), member.mode & 0o777)
    return written
