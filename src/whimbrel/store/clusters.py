"""Clusters as rows: one row per incarnation; the name is unique among those that are not DOWN.

A closed row (DOWN) stays as history, so that the logs of its jobs can be found by name. The lease columns belong to
whoever reconciles the cluster's jobs: see `whimbrel.store.leases`, with `clusters` and `key(uid)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from whimbrel.model.errors import Conflict, NotFound
from whimbrel.model.redaction import redact
from whimbrel.model.status import ClusterStatus
from whimbrel.store.clock import Moment, moment
from whimbrel.store.requests import JsonObject
from whimbrel.store.tables import clusters


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRow:
    """One row of `clusters`."""

    uid: str
    name: str
    status: ClusterStatus
    infra: str
    kubeconfig: list[str]
    identity: str
    num_nodes: int
    shape: JsonObject
    task: JsonObject
    nodes: list[JsonObject]
    autodown: bool
    workspace: str
    user: str
    created_at: float
    launched_at: float | None
    observed_at: float | None
    last_error: JsonObject | None
    closed_at: float | None
    next_job: int
    owner: str | None
    fence: int
    lease_until: float | None
    namespace: str = ""
    provision: JsonObject = field(default_factory=dict)
    endpoints: list[JsonObject] = field(default_factory=list)
    endpoints_at: float | None = None
    sent: JsonObject = field(default_factory=dict)


def key(uid: str) -> ColumnElement[bool]:
    """The row of one cluster, for `whimbrel.store.leases`."""
    return clusters.c.uid == uid


def add(
    connection: Connection,
    *,
    uid: str,
    name: str,
    infra: str,
    kubeconfig: Sequence[str],
    identity: str,
    num_nodes: int,
    shape: Mapping[str, Any],
    task: Mapping[str, Any],
    user: str,
    now: Moment,
    autodown: bool = False,
    workspace: str = "default",
    namespace: str = "",
    provision: Mapping[str, Any] | None = None,
    sent: Mapping[str, Any] | None = None,
) -> ClusterRow:
    """Record a cluster that is about to be created (INIT). Secret values of the task are blanked here."""
    present = find(connection, name)
    if present is not None:
        raise Conflict(f"There is a cluster {name} already.", remedy=f"`whim status {name}` shows it.")
    connection.execute(
        insert(clusters).values(
            uid=uid,
            name=name,
            status=ClusterStatus.INIT,
            infra=infra,
            kubeconfig=list(kubeconfig),
            identity=identity,
            num_nodes=num_nodes,
            shape=dict(shape),
            task=redact(dict(task)),
            nodes=[],
            autodown=autodown,
            workspace=workspace,
            namespace=namespace,
            provision=dict(provision or {}),
            sent=dict(sent or {}),
            user=user,
            created_at=moment(now),
            launched_at=moment(now),
        )
    )
    return get_uid(connection, uid)


def find(connection: Connection, name: str) -> ClusterRow | None:
    """The open cluster of that name."""
    row = connection.execute(
        select(clusters).where(clusters.c.name == name, clusters.c.status != ClusterStatus.DOWN)
    ).one_or_none()
    return _cluster(row) if row is not None else None


def get(connection: Connection, name: str) -> ClusterRow:
    """The open cluster of that name. Raises `NotFound` with the names that there are."""
    found = find(connection, name)
    if found is None:
        names = [cluster.name for cluster in list_open(connection)]
        known = f" There are: {', '.join(names[:20])}." if names else " There are no clusters."
        raise NotFound(f"There is no cluster {name}.{known}", remedy="`whim status` lists the clusters.")
    return found


def get_uid(connection: Connection, uid: str) -> ClusterRow:
    """The incarnation of that uid, open or closed. Raises `NotFound`."""
    row = connection.execute(select(clusters).where(key(uid))).one_or_none()
    if row is None:
        raise NotFound(f"There is no cluster of uid {uid}.")
    return _cluster(row)


def latest(connection: Connection, name: str) -> ClusterRow | None:
    """The newest incarnation of that name, open or closed: where `logs` looks."""
    row = connection.execute(
        select(clusters).where(clusters.c.name == name).order_by(clusters.c.created_at.desc()).limit(1)
    ).one_or_none()
    return _cluster(row) if row is not None else None


def of_name(connection: Connection, name: str) -> list[ClusterRow]:
    """Every incarnation of that name, newest first."""
    rows = connection.execute(
        select(clusters).where(clusters.c.name == name).order_by(clusters.c.created_at.desc())
    )
    return [_cluster(row) for row in rows]


def list_open(
    connection: Connection, *, infra: str | None = None, user: str | None = None
) -> list[ClusterRow]:
    """Clusters that are not DOWN, by name."""
    query = select(clusters).where(clusters.c.status != ClusterStatus.DOWN).order_by(clusters.c.name)
    if infra is not None:
        query = query.where(clusters.c.infra == infra)
    if user is not None:
        query = query.where(clusters.c.user == user)
    return [_cluster(row) for row in connection.execute(query)]


def observed(
    connection: Connection,
    uid: str,
    *,
    status: ClusterStatus,
    nodes: Sequence[Mapping[str, Any]],
    now: Moment,
) -> None:
    """What the infrastructure was seen to have, and when. A closed cluster stays closed; `close` closes it."""
    if status is ClusterStatus.DOWN:
        raise ValueError("a cluster becomes DOWN through `close`")
    _change(connection, uid, status=status, nodes=[dict(node) for node in nodes], observed_at=moment(now))


def reached(connection: Connection, uid: str, *, endpoints: Sequence[Mapping[str, Any]], now: Moment) -> None:
    """Where its ports were seen."""
    _change(connection, uid, endpoints=[dict(one) for one in endpoints], endpoints_at=moment(now))


def launched(
    connection: Connection,
    uid: str,
    *,
    task: Mapping[str, Any],
    autodown: bool | None,
    now: Moment,
    sent: Mapping[str, Any] | None = None,
) -> None:
    """A launch or exec on an existing cluster: what it runs now."""
    _change(connection, uid, task=redact(dict(task)), launched_at=moment(now))
    if sent is not None:
        _change(connection, uid, sent=dict(sent))
    if autodown is not None:
        _change(connection, uid, autodown=autodown)


def failed(connection: Connection, uid: str, error: Mapping[str, Any] | None) -> None:
    """What went wrong last (`WhimError.to_wire()`), or None when it is mended."""
    _change(connection, uid, last_error=dict(error) if error is not None else None)


def close(connection: Connection, uid: str, *, now: Moment) -> None:
    """The cluster was seen gone, or forgotten by a purge: its name is free again."""
    _change(connection, uid, status=ClusterStatus.DOWN, closed_at=moment(now), owner=None, lease_until=None)


def _change(connection: Connection, uid: str, **values: Any) -> None:
    connection.execute(
        update(clusters).where(key(uid), clusters.c.status != ClusterStatus.DOWN).values(**values)
    )


def _cluster(row: Row[Any]) -> ClusterRow:
    columns = row._asdict()
    return ClusterRow(**{**columns, "status": ClusterStatus(columns["status"])})
