"""Files on their way to the server: a directory becomes a manifest, and only content that the server lacks is sent.

What a manifest is, and which paths it may hold, is `whimbrel.model.manifest`; bringing files to nodes is the server's.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from whimbrel.client.home import state_directories
from whimbrel.client.ignore import IgnoreRules
from whimbrel.client.tarstream import tar_of
from whimbrel.model.errors import InvalidTask
from whimbrel.model.manifest import Entry, Kind, Manifest

BATCH = 64 * 1024 * 1024  # bytes of content in one upload, unless one file is larger

Call = Callable[..., dict[str, Any]]
Say = Callable[[str], None]


def upload(workdir: str | None, mounts: Mapping[str, str], call: Call, say: Say) -> dict[str, Any]:
    """Give the server what it lacks of a task's files; the answer names them as `launch` and `exec` want it.

    Args:
        workdir: directory on this machine, or None.
        mounts: path on the node -> file or directory on this machine.
        call: one call to the server.
        say: told what is going on.
    """
    sources: dict[str, Path] = {}  # content hash -> a file that has it
    trees: dict[str, Manifest] = {}
    if workdir:
        say(f"reading {workdir}")
        trees[""] = scan(Path(workdir), sources, IgnoreRules.at_root(Path(workdir)))
    for directory, entries in _mounted(mounts, sources, say).items():
        trees[directory] = Manifest.of(entries.values())
    documents = {
        hashlib.sha256(text).hexdigest(): text for text in (tree.to_json() for tree in trees.values())
    }
    hashes = sorted({*documents, *sources})
    missing: list[str] = call("POST", "/api/v1/files/missing", {"sha256": hashes})["missing"]
    for batch, size in _batches(missing, sources, documents):
        say(_uploading(len([digest for digest in batch if digest in sources]), size))
        call(
            "POST",
            "/api/v1/files",
            lambda batch=batch: tar_of(_members(batch, sources, documents)),
            headers={"Content-Type": "application/x-tar"},
            timeout=600.0,
        )
    return {
        "workdir": trees[""].digest if workdir else None,
        "mounts": {directory: tree.digest for directory, tree in trees.items() if directory},
    }


def _uploading(files: int, size: int) -> str:
    """The lists of files go with them, and count as none."""
    what = f"{files} file{'s' * (files != 1)}" if files else "the list of files"
    return f"uploading {what}, {size / 1e6:.1f} MB"


def scan(root: Path, sources: dict[str, Path], rules: IgnoreRules | None = None) -> Manifest:
    """The manifest of a directory; `sources` learns where each content lies."""
    return Manifest.of(_walk(root, "", rules, sources))


def _walk(
    directory: Path, relative: str, rules: IgnoreRules | None, sources: dict[str, Path]
) -> Iterator[Entry]:
    try:
        found = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidTask(f"The directory {directory} cannot be read: {error.strerror}.") from error
    for item in found:
        path = relative + item.name
        is_directory = item.is_dir(follow_symlinks=False)
        if is_directory and Path(item.path).absolute() in state_directories():
            continue  # databases and keys of ours, should somebody make their home the workdir
        if rules and rules.ignores(path + "/" if is_directory else path):
            continue
        if is_directory:
            yield Entry(path=path, kind=Kind.DIR, mode=_mode(Path(item.path)))
            inner = rules.below(Path(item.path), path + "/") if rules else None
            yield from _walk(Path(item.path), path + "/", inner, sources)
        else:
            entry = _leaf(Path(item.path), path, sources)
            if entry:
                yield entry


def _leaf(path: Path, name: str, sources: dict[str, Path]) -> Entry | None:
    """A file or link; None for what cannot be copied (sockets, pipes, devices)."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return Entry(path=name, kind=Kind.LINK, mode=0o777, target=os.readlink(path))
    if not stat.S_ISREG(status.st_mode):
        return None
    digest, size = _hash(path)
    sources[digest] = path
    return Entry(
        path=name, kind=Kind.FILE, mode=stat.S_IMODE(status.st_mode) & 0o777, size=size, sha256=digest
    )


def _hash(path: Path) -> tuple[str, int]:
    try:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            return digest, content.tell()
    except OSError as error:
        raise InvalidTask(
            f"The file {path} cannot be read: {error.strerror}.",
            remedy="list it in .skyignore to leave it here",
        ) from error


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) & 0o777


def _mounted(mounts: Mapping[str, str], sources: dict[str, Path], say: Say) -> dict[str, dict[str, Entry]]:
    """Entries by directory on the node. A single file belongs to the directory that it is put into."""
    trees: dict[str, dict[str, Entry]] = {}
    for target, source in mounts.items():
        say(f"reading {source}")
        path = Path(source)
        if path.is_dir():
            tree = trees.setdefault(target.rstrip("/") or "/", {})
            tree.update({entry.path: entry for entry in scan(path, sources).entries})
            continue
        parent, name = os.path.split(target)
        entry = _leaf(path.resolve(), name or path.name, sources)
        if entry is None:
            raise InvalidTask(f"file_mounts: {source} is neither a file nor a directory.")
        trees.setdefault(parent or ".", {})[entry.path] = entry
    return trees


def _batches(
    missing: Iterable[str], sources: Mapping[str, Path], documents: Mapping[str, bytes]
) -> Iterator[tuple[list[str], int]]:
    batch: list[str] = []
    total = 0
    for digest in missing:
        size = len(documents[digest]) if digest in documents else sources[digest].stat().st_size
        if batch and total + size > BATCH:
            yield batch, total
            batch, total = [], 0
        batch.append(digest)
        total += size
    if batch:
        yield batch, total


def _members(
    batch: Iterable[str], sources: Mapping[str, Path], documents: Mapping[str, bytes]
) -> Iterator[tuple[str, Path | bytes]]:
    for digest in batch:
        yield digest, documents[digest] if digest in documents else sources[digest]
