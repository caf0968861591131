"""Volumes as rows: one per incarnation; the name is unique among those that are not GONE.

A row is INTENDED before the first call that could make its claim, and GONE only when the claim was seen gone, was never
ours to delete, or a person gave up on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from whimbrel.model.errors import Conflict, NotFound
from whimbrel.model.task import Task
from whimbrel.store.clock import Moment, moment
from whimbrel.store.requests import JsonObject
from whimbrel.store.tables import volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRow:
    """One row of `volumes`."""

    uid: str
    name: str
    status: str
    infra: str
    kubeconfig: list[str]
    identity: str
    namespace: str
    claim: str
    spec: JsonObject
    phase: str
    user: str
    created_at: float
    observed_at: float | None
    closed_at: float | None
    last_error: JsonObject | None


def add(
    connection: Connection,
    *,
    uid: str,
    name: str,
    infra: str,
    kubeconfig: Sequence[str],
    identity: str,
    namespace: str,
    claim: str,
    spec: Mapping[str, Any],
    user: str,
    now: Moment,
) -> VolumeRow:
    """Record a volume that is about to be made."""
    connection.execute(
        insert(volumes).values(
            uid=uid,
            name=name,
            status="INTENDED",
            infra=infra,
            kubeconfig=list(kubeconfig),
            identity=identity,
            namespace=namespace,
            claim=claim,
            spec=dict(spec),
            user=user,
            created_at=moment(now),
        )
    )
    return get(connection, name)


def find(connection: Connection, name: str) -> VolumeRow | None:
    """The open volume of that name."""
    row = connection.execute(
        select(volumes).where(volumes.c.name == name, volumes.c.status != "GONE")
    ).one_or_none()
    return _volume(row) if row is not None else None


def get(connection: Connection, name: str) -> VolumeRow:
    """The open volume of that name. Raises `NotFound` with the names that there are."""
    found = find(connection, name)
    if found is None:
        names = [volume.name for volume in list_open(connection)]
        known = f" There are: {', '.join(names[:20])}." if names else " There are no volumes."
        raise NotFound(f"There is no volume {name}.{known}", remedy="whim volumes ls")
    return found


def list_open(connection: Connection) -> list[VolumeRow]:
    """Volumes that are not GONE, by name."""
    query = select(volumes).where(volumes.c.status != "GONE").order_by(volumes.c.name)
    return [_volume(row) for row in connection.execute(query)]


def of_task(connection: Connection, task: Task) -> list[VolumeRow]:
    """The volumes that a task names. Raises `NotFound`, or `Conflict` for one that is not ready."""
    names = dict.fromkeys(mount.name for mount in task.volumes.values() if mount.name is not None)
    found = [get(connection, name) for name in names]
    for row in found:
        if row.status != "READY":
            raise Conflict(
                f"The volume {row.name} cannot be used: it is {row.status}.", remedy="whim volumes ls"
            )
    return found


def observed(connection: Connection, uid: str, *, phase: str, now: Moment) -> None:
    """The claim was seen, in this phase."""
    _change(connection, uid, phase=phase, observed_at=moment(now))


def ready(connection: Connection, uid: str, *, phase: str, now: Moment) -> None:
    """The claim is there."""
    _change(connection, uid, status="READY", phase=phase, observed_at=moment(now), last_error=None)


def deleting(connection: Connection, uid: str) -> None:
    """The intent to delete its claim."""
    _change(connection, uid, status="DELETING")


def failed(connection: Connection, uid: str, error: Mapping[str, Any]) -> None:
    """What went wrong last."""
    _change(connection, uid, last_error=dict(error))


def close(connection: Connection, uid: str, *, now: Moment) -> None:
    """It is gone, as far as we are concerned."""
    _change(connection, uid, status="GONE", closed_at=moment(now))


def _change(connection: Connection, uid: str, **values: Any) -> None:
    connection.execute(
        update(volumes).where(volumes.c.uid == uid, volumes.c.status != "GONE").values(**values)
    )


def _volume(row: Row[Any]) -> VolumeRow:
    return VolumeRow(**row._asdict())
