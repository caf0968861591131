"""Tombstones: what a purge keeps of a cluster that was not seen gone, so that its leftovers can be found later.

Where it was (and in which cluster, by identity), its spec, who forgot it, when and why; the names and labels of what
may be left are the `forgotten` entries of the ledger under the same uid. A tombstone outlives the cluster's row, and
is `reaped` once the infrastructure has said that nothing is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from whimbrel.store import things
from whimbrel.store.clock import Moment, moment
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.requests import JsonObject
from whimbrel.store.tables import tombstones


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """One row of `tombstones`."""

    cluster_uid: str
    name: str
    infra: str
    kubeconfig: list[str]
    identity: str
    namespace: str
    num_nodes: int
    shape: JsonObject
    task: JsonObject
    sent: JsonObject
    user: str
    created_at: float
    buried_at: float
    buried_by: str
    request: str
    reason: str
    reaped_at: float | None
    reaped_by: str | None


def bury(
    connection: Connection, cluster: ClusterRow, *, by: str, request: str, reason: str, now: Moment
) -> None:
    """Keep what is needed to find the leftovers of a cluster that is being forgotten."""
    connection.execute(
        insert(tombstones).values(
            cluster_uid=cluster.uid,
            name=cluster.name,
            infra=cluster.infra,
            kubeconfig=cluster.kubeconfig,
            identity=cluster.identity,
            namespace=cluster.namespace,
            num_nodes=cluster.num_nodes,
            shape=cluster.shape,
            task=cluster.task,
            sent=cluster.sent,
            user=cluster.user,
            created_at=cluster.created_at,
            buried_at=moment(now),
            buried_by=by,
            request=request,
            reason=reason,
        )
    )


def standing(connection: Connection, *, infra: str | None = None) -> list[Tombstone]:
    """Tombstones whose leftovers nobody has seen gone, newest first."""
    query = select(tombstones).where(tombstones.c.reaped_at.is_(None))
    if infra is not None:
        query = query.where(tombstones.c.infra == infra)
    return [_tombstone(row) for row in connection.execute(query.order_by(tombstones.c.buried_at.desc()))]


def every(connection: Connection) -> list[Tombstone]:
    """All of them, also those that were reaped, newest first."""
    rows = connection.execute(select(tombstones).order_by(tombstones.c.buried_at.desc()))
    return [_tombstone(row) for row in rows]


def of_name(connection: Connection, name: str) -> list[Tombstone]:
    """The tombstones of clusters of that name, also those that were reaped, newest first."""
    rows = connection.execute(
        select(tombstones).where(tombstones.c.name == name).order_by(tombstones.c.created_at.desc())
    )
    return [_tombstone(row) for row in rows]


def of_uids(connection: Connection, uids: Sequence[str]) -> list[Tombstone]:
    """These, as far as they stand, newest first."""
    return [stone for stone in standing(connection) if stone.cluster_uid in uids]


def reap(connection: Connection, uid: str, *, by: str, now: Moment) -> None:
    """The infrastructure said that nothing of it is left."""
    things.absent(connection, uid, now=now)
    connection.execute(
        update(tombstones)
        .where(tombstones.c.cluster_uid == uid, tombstones.c.reaped_at.is_(None))
        .values(reaped_at=moment(now), reaped_by=by)
    )


def _tombstone(row: Row[Any]) -> Tombstone:
    return Tombstone(**row._asdict())
