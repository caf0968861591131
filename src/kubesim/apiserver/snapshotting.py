"""All objects of a store as lines of JSON, and back: the full form of a snapshot.

    {"snapshot": "kubesim/v1", "revision": 812, "kubesim": "0.4.0", "taken": "2026-01-01T00:00:00Z"}
    {"resource": "apps/deployments", "created": 31, "object": {"kind": "Deployment", ...}}
    {"objects": 214}

The objects are what the store holds at one revision, in the versions that they are stored in, with their uids,
revisions and times. The last line tells a whole file from one that broke off. Nothing in it depends on how the store
keeps its data, so that any version of kubesim, and any script, can read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from kubesim import __version__
from kubesim.apiserver.core import Core
from kubesim.apiserver.objects import encode, head
from kubesim.store import Stored

FORMAT = "kubesim/v1"
_BATCH = 200


class SnapshotUnreadable(Exception):
    """The file is no snapshot in the full form, or not a whole one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a file of this form holds."""

    revision: int
    objects: list[Stored]


async def lines(core: Core) -> AsyncIterator[bytes]:
    """The snapshot of this moment, in pieces: the objects are taken at once, and written out while others go on."""
    revision = core.store.revision
    tables = sorted(core.store.tables(), key=lambda table: table.resource)
    objects = [stored for table in tables for stored in table.all()]
    names = {table.resource: _head_of(core, table.resource) for table in tables}
    first = {
        "snapshot": FORMAT,
        "revision": revision,
        "kubesim": __version__,
        "taken": core.environment.timestamp(),
    }
    yield orjson.dumps(first) + b"\n"
    for start in range(0, len(objects), _BATCH):
        yield b"".join(_line(stored, names[stored.resource]) for stored in objects[start : start + _BATCH])
        await asyncio.sleep(0)
    yield orjson.dumps({"objects": len(objects)}) + b"\n"


def _head_of(core: Core, resource: str) -> bytes:
    """What stands before the stored bytes: kind and version of what the table holds."""
    group, _, plural = resource.partition("/")
    for rt in core.registry.all():
        if (rt.group, rt.plural) == (group, plural):
            storage = core.storage(rt)
            return head(storage.api_version, storage.kind)
    return b"{"


def _line(stored: Stored, before: bytes) -> bytes:
    start = orjson.dumps({"resource": stored.resource, "created": stored.created})[:-1]
    return start + b',"object":' + before + stored.data + b"}\n"


def read(file: Iterable[bytes]) -> Snapshot:
    """Raises SnapshotUnreadable, with the line that is wrong."""
    numbered = enumerate(file, 1)
    try:
        _, first = next(numbered)
        described = orjson.loads(first)
        if described["snapshot"] != FORMAT:
            raise SnapshotUnreadable(f"line 1: its form is {described['snapshot']!r}, not {FORMAT!r}")
        revision = int(described["revision"])
    except (StopIteration, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise SnapshotUnreadable("line 1: this is no snapshot in the full form of kubesim") from None
    objects = list(_objects(numbered, revision))
    return Snapshot(revision=revision, objects=objects)


def _objects(numbered: Iterator[tuple[int, bytes]], revision: int) -> Iterator[Stored]:
    seen: set[tuple[str, str]] = set()
    for number, line in numbered:
        try:
            entry = orjson.loads(line)
            if "objects" in entry:
                if entry["objects"] != len(seen):
                    raise SnapshotUnreadable(
                        f"line {number}: {len(seen)} objects, where {entry['objects']} were written"
                    )
                return
            stored = _stored(entry)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise SnapshotUnreadable(f"line {number}: {error!r}") from None
        if (stored.resource, stored.name) in seen or not 0 < stored.created <= stored.revision <= revision:
            raise SnapshotUnreadable(
                f"line {number}: {stored.resource} {stored.name} contradicts what stands before"
            )
        seen.add((stored.resource, stored.name))
        yield stored
    raise SnapshotUnreadable("the file breaks off: its last line is missing")


def _stored(entry: dict[str, Any]) -> Stored:
    obj = entry["object"]
    meta = obj["metadata"]
    revision = int(meta["resourceVersion"])
    name = f"{meta.get('namespace', '')}/{meta['name']}"
    return Stored(str(entry["resource"]), name, revision, int(entry["created"]), encode(obj, revision))
