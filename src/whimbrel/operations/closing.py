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
) -> list[str]:
    """Nothing of the cluster was seen any more (I10). Returns the vault keys of the jobs that end with it."""
    things.absent(connection, cluster.uid, now=now)
    keys = _close(connection, cluster, now=now)
    audit.write(
        connection,
        actor=actor,
        action=action,
        subject=f"cluster:{cluster.name}",
        request=request,
        now=now,
        data={"uid": cluster.uid, "infra": cluster.infra, "outcome": "seen gone"},
    )
    return keys


def close_forgotten(
    connection: Connection,
    cluster: ClusterRow,
    *,
    actor: str,
    request: str,
    now: Moment,
    reason: str,
    gone: Sequence[str],
) -> tuple[list[str], list[str]]:
    """A person gives up on what may be left; returns its names. `gone` are the tokens of what was seen
    gone."""
    if gone:
        things.absent(connection, cluster.uid, now=now, tokens=gone)
    tombstones = things.forget(connection, cluster.uid, by=actor, reason=reason, now=now)
    left = [f"{thing.kind} {thing.namespace}/{thing.name}" for thing in tombstones]
    keys = _close(connection, cluster, now=now)
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
    return left, keys


def _close(connection: Connection, cluster: ClusterRow, *, now: Moment) -> list[str]:
    live = jobs.live(connection, cluster.uid)
    for job in live:
        jobs.end(
            connection,
            cluster.uid,
            job.id,
            status=JobStatus.CANCELLED,
            reason="its cluster was taken down",
            now=now,
        )
    clusters.close(connection, cluster.uid, now=now)
    return [job.request_id for job in live]
