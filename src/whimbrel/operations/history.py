"""What a cluster was launched with, from its record, its tombstone, or the request that launched it: everything that a
relaunch needs but the values of secrets, which are kept nowhere.

A reference is a cluster's name (the newest incarnation of it), `NAME@ID` (the first letters of an incarnation's uid
or of a request's id), or the id of a launch request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from whimbrel.jobs import records
from whimbrel.model.errors import InvalidTask, NotFound
from whimbrel.model.manifest import Manifest
from whimbrel.operations.blobs import BlobStore
from whimbrel.store import clusters, requests, tombstones
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.requests import JsonObject, Request
from whimbrel.store.tombstones import Tombstone

SHORTEST = 4
"""Letters of an id that tell one from another, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One launch, as it can be repeated."""

    name: str
    id: str  # of the incarnation, or of the request
    kind: str  # "cluster", "tombstone" or "request"
    at: float
    infra: str
    task: JsonObject
    workdir: str | None = None  # digest of its manifest
    mounts: JsonObject = field(default_factory=dict)
    secret_names: list[str] = field(default_factory=list)
    down: bool = False


def find(connection: Connection, reference: str) -> Past:
    """What a reference means.

    Raises:
        NotFound: nothing; with the ids that there are.
    """
    name, _, prefix = reference.partition("@")
    past = sorted(_of_name(connection, name), key=lambda one: one.at, reverse=True)
    if not prefix:
        shown = [one for one in past if one.kind != "request"] or past
        if shown:
            return shown[0]
        request = _request(connection, name)
        if request is not None:
            return _of_request(request)
    for one in past:
        if len(prefix) >= SHORTEST and one.id.startswith(prefix):
            return one
    known = ", ".join(f"{name}@{one.id[:8]}" for one in past[:20])
    raise NotFound(
        f"There is no history of {reference!r}.{f' There are: {known}.' if known else ''}",
        remedy="`whim events` shows what happened to which cluster; `whim status --tombstones` what was purged",
    )


async def lost_files(blobs: BlobStore, past: Past) -> list[str]:
    """Which of its files are not kept any more: "workdir", or the paths of mounts."""
    wanted = {**({"workdir": past.workdir} if past.workdir else {}), **past.mounts}
    if past.task.get("workdir") and not past.workdir:
        return ["workdir"]
    return [where for where, digest in wanted.items() if not await _kept(blobs, digest)]


async def _kept(blobs: BlobStore, digest: str) -> bool:
    try:
        manifest = Manifest.from_json(await blobs.read(digest))
    except InvalidTask:
        return False
    return not await blobs.missing([digest, *manifest.blobs])


def _of_name(connection: Connection, name: str) -> Iterator[Past]:
    rows = clusters.of_name(connection, name)
    for row in rows:
        yield _of_cluster(row)
    known = {row.uid for row in rows}
    for stone in tombstones.of_name(connection, name):
        if stone.cluster_uid not in known:
            yield _of_stone(stone)
    for request in requests.newest(connection, limit=100, subject=records.subject(name)):
        if request.kind == records.LAUNCH:
            yield _of_request(request)


def _request(connection: Connection, prefix: str) -> Request | None:
    """The one launch request whose id begins so."""
    if len(prefix) < SHORTEST:
        return None
    matches = [
        request
        for request in requests.newest(connection, limit=1000)
        if request.kind == records.LAUNCH and request.id.startswith(prefix)
    ]
    return matches[0] if len(matches) == 1 else None


def _of_cluster(row: ClusterRow) -> Past:
    at = row.launched_at or row.created_at
    return Past(
        name=row.name, id=row.uid, kind="cluster", at=at, infra=row.infra, task=row.task, **_sent(row.sent)
    )


def _of_stone(stone: Tombstone) -> Past:
    return Past(
        name=stone.name,
        id=stone.cluster_uid,
        kind="tombstone",
        at=stone.created_at,
        infra=stone.infra,
        task=stone.task,
        **_sent(stone.sent),
    )


def _of_request(request: Request) -> Past:
    body = request.body
    return Past(
        name=body["cluster"],
        id=request.id,
        kind="request",
        at=request.created_at,
        infra=body.get("infra") or "",
        task=body["task"],
        **_sent(body),
    )


def _sent(sent: JsonObject) -> dict[str, Any]:
    return {
        "workdir": sent.get("workdir"),
        "mounts": dict(sent.get("mounts") or {}),
        "secret_names": list(sent.get("secret_names") or ()),
        "down": bool(sent.get("down")),
    }
