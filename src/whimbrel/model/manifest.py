"""A manifest: which files a directory has, with the hash of each; made by the client, used by server and node.

Pure: it says what to send and what to delete, and refuses paths that would leave the target directory. Walking a
directory is the client's, sending is `whimbrel.runtime.sync`. The canonical JSON (sorted entries, sorted keys) makes
the digest of a manifest the identity of a directory's content.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from whimbrel.model.errors import InvalidTask

LONGEST_PATH = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Kind(StrEnum):
    """What an entry is."""

    FILE = "file"
    DIR = "dir"
    LINK = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, directory or symbolic link; the path is relative, with `/` between its parts."""

    path: str
    kind: Kind
    mode: int = 0o644  # permission bits only
    size: int = 0
    sha256: str = ""  # of a file's content
    target: str = ""  # of a link

    def to_wire(self) -> dict[str, Any]:
        """The entry as JSON, without what its kind does not have."""
        wire: dict[str, Any] = {"path": self.path, "kind": str(self.kind), "mode": self.mode}
        if self.kind is Kind.FILE:
            wire |= {"size": self.size, "sha256": self.sha256}
        if self.kind is Kind.LINK:
            wire["target"] = self.target
        return wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What makes an old tree into a new one: delete first (deepest first), then send (parents first)."""

    to_send: tuple[Entry, ...]
    to_delete: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """How much file content has to be sent."""
        return sum(entry.size for entry in self.to_send if entry.kind is Kind.FILE)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Entries sorted by path, checked: make one with `of` or `from_wire`."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Manifest:
        """A checked manifest. Raises `InvalidTask` for a path that is absolute, leaves the directory, comes twice,
        or goes through a file or a link."""
        ordered = tuple(sorted(entries, key=lambda entry: entry.path))
        kinds: dict[str, Kind] = {}
        for entry in ordered:
            _check(entry)
            if entry.path in kinds:
                raise InvalidTask(f"The manifest names {entry.path!r} twice.")
            kinds[entry.path] = entry.kind
        for path in kinds:
            for parent in _parents(path):
                if kinds.get(parent, Kind.DIR) is not Kind.DIR:
                    raise InvalidTask(
                        f"The manifest puts {path!r} under {parent!r}, which is a {kinds[parent]}."
                    )
        return cls(ordered)

    @classmethod
    def from_wire(cls, wire: object) -> Manifest:
        """A manifest that somebody sent. Raises `InvalidTask` for anything that is not exactly one."""
        if not isinstance(wire, Mapping) or set(wire) != {"entries"} or not isinstance(wire["entries"], list):
            raise InvalidTask('A manifest must be an object {"entries": [...]}.')
        return cls.of(_entry(item) for item in wire["entries"])

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """The manifest in these bytes."""
        try:
            return cls.from_wire(orjson.loads(data))
        except orjson.JSONDecodeError as error:
            raise InvalidTask(f"The manifest is not JSON: {error}.") from None

    def to_wire(self) -> dict[str, Any]:
        """The manifest as JSON."""
        return {"entries": [entry.to_wire() for entry in self.entries]}

    def to_json(self) -> bytes:
        """Canonical: the same tree has the same bytes."""
        return orjson.dumps(self.to_wire(), option=orjson.OPT_SORT_KEYS)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: the identity of the content."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def blobs(self) -> frozenset[str]:
        """The hashes of all file contents."""
        return frozenset(entry.sha256 for entry in self.entries if entry.kind is Kind.FILE)

    @property
    def size(self) -> int:
        """Bytes of all file contents."""
        return sum(entry.size for entry in self.entries)


def diff(old: Manifest, new: Manifest) -> Difference:
    """What a node that has `old` lacks of `new`, and what `old` had put there and `new` does not have."""
    before = {entry.path: entry for entry in old.entries}
    after = {entry.path: entry for entry in new.entries}
    gone = [path for path, entry in before.items() if path not in after or after[path].kind is not entry.kind]
    changed = [entry for path, entry in after.items() if before.get(path) != entry]
    return Difference(to_send=tuple(changed), to_delete=tuple(sorted(gone, key=_depth_first)))


def check_path(path: str) -> str:
    """A relative path that stays below its directory. Raises `InvalidTask`."""
    parts = path.split("/")
    if not path or len(path) > LONGEST_PATH or "\0" in path or "\n" in path:
        raise InvalidTask(
            f"The path {path[:80]!r} cannot be sent: it has a line break in it, or is too long.",
            remedy="rename it, or leave it here by a pattern in .skyignore (`?` stands for any character)",
        )
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise InvalidTask(f"{path!r} does not stay below its directory.")
    return path


def _check(entry: Entry) -> None:
    check_path(entry.path)
    if not 0 <= entry.mode <= 0o7777:
        raise InvalidTask(f"{entry.path!r} has the mode {entry.mode!r}.")
    if entry.size < 0 or (entry.size and entry.kind is not Kind.FILE):
        raise InvalidTask(f"{entry.path!r} has the size {entry.size!r}.")
    if bool(_SHA256.fullmatch(entry.sha256)) != (entry.kind is Kind.FILE) or (
        entry.sha256 and entry.kind is not Kind.FILE
    ):
        raise InvalidTask(f"{entry.path!r} has no proper SHA-256.")
    target_needed = entry.kind is Kind.LINK
    if bool(entry.target) != target_needed or any(char in entry.target for char in "\0\n"):
        raise InvalidTask(f"{entry.path!r} has no proper link target.")


def _entry(item: object) -> Entry:
    if not isinstance(item, Mapping):
        raise InvalidTask("An entry of a manifest must be an object.")
    allowed = {"path": str, "kind": str, "mode": int, "size": int, "sha256": str, "target": str}
    for name, value in item.items():
        if name not in allowed or type(value) is not allowed[name]:
            raise InvalidTask(f"An entry of a manifest has a wrong field {name!r}.")
    if "path" not in item or item.get("kind") not in list(Kind):
        raise InvalidTask("An entry of a manifest needs a path and a kind (file, dir or link).")
    return Entry(**{**item, "kind": Kind(item["kind"])})


def _parents(path: str) -> Iterable[str]:
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _depth_first(path: str) -> tuple[int, str]:
    return (-path.count("/"), path)
