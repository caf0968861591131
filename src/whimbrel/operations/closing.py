"""What a cluster leaves behind in the database when it ends: one transaction for all ways in which it can."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from whimbrel.model.status import JobStatus
from whimbrel.store import audit, clusters, jobs, things
from whimbrel.store.clock import Moment
from whimbrel.store.clusters import ClusterRow


def close_seen_gone(
    connection: Connection, cluster: ClusterRow, *, actor: str, request: str, now: Moment, action: str
) -> None:
    """Nothing of the cluster was seen any more (I10)."""
    things.absent(connection, cluster.uid, now=now)
    _close(connection, cluster, now=now)
    audit.write(
        connection,
        actor=actor,
        action=action,
        subject=f"cluster:{cluster.name}",
        request=request,
        now=now,
        data={"uid": cluster.uid, "infra": cluster.infra, "outcome": "seen gone"},
    )


def close_forgotten(
    connection: Connection,
    cluster: ClusterRow,
    *,
    actor: str,
    request: str,
    now: Moment,
    reason: str,
    gone: Sequence[str],
) -> list[str]:
    """A person gives up on what may be left; returns its names. `gone` are the tokens of what was seen
    gone."""
    if gone:
        things.absent(connection, cluster.uid, now=now, tokens=gone)
    tombstones = things.forget(connection, cluster.uid, by=actor, reason=reason, now=now)
    left = [f"{thing.kind} {thing.namespace}/{thing.name}" for thing in tombstones]
    _close(connection, cluster, now=now)
    audit.write(
        connection,
        actor=actor,
        action="cluster.purge",
        subject=f"cluster:{cluster.name}",
        request=request,
        now=now,
        data={
            "uid": cluster.uid,
            "infra": cluster.infra,
            "outcome": "forgotten",
            "left": left,
            "reason": reason,
        },
    )
    return left


def _close(connection: Connection, cluster: ClusterRow, *, now: Moment) -> None:
    for job in jobs.live(connection, cluster.uid):
        jobs.end(
            connection,
            cluster.uid,
            job.id,
            status=JobStatus.CANCELLED,
            reason="its cluster was taken down",
            now=now,
        )
    clusters.close(connection, cluster.uid, now=now)
