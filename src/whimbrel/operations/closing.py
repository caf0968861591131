"""What a cluster leaves behind in the database when it ends: one transaction for all ways in which it can.

Every deletion is a line in the audit log: who, what, where, from where, forced or not, and the outcome. So is one
that was tried and refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from whimbrel.jobs import records
from whimbrel.model.status import JobStatus
from whimbrel.requests.run import Run
from whimbrel.store import audit, clusters, jobs, things, tombstones
from whimbrel.store.clock import Moment
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.things import LedgerEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Who deletes, how, and by which request."""

    actor: str
    request: str
    now: Moment
    origin: str = ""  # the machine or the rule that asked
    forced: bool = False

    @classmethod
    def of(cls, run: Run, *, forced: bool = False) -> Deed:
        """The deed of a request."""
        origin = str(run.body.get("origin") or "")
        return cls(actor=run.actor, request=run.id, now=run.now(), origin=origin, forced=forced)


def close_seen_gone(connection: Connection, cluster: ClusterRow, deed: Deed, *, outcome: str) -> list[str]:
    """Nothing of the cluster was seen any more (I10). Returns the vault keys of the jobs that end with it."""
    things.absent(connection, cluster.uid, now=deed.now)
    keys = _close(connection, cluster, now=deed.now)
    note(connection, cluster, deed, outcome=outcome)
    return keys


def close_forgotten(
    connection: Connection, cluster: ClusterRow, deed: Deed, *, reason: str, gone: Sequence[str]
) -> tuple[list[str], list[str]]:
    """A person gives up on what may be left; returns its names. `gone` are the tokens of what was seen gone; what
    is not among them gets a tombstone."""
    if gone:
        things.absent(connection, cluster.uid, now=deed.now, tokens=gone)
    left = [
        described(entry)
        for entry in things.forget(connection, cluster.uid, by=deed.actor, reason=reason, now=deed.now)
    ]
    if left:
        tombstones.bury(connection, cluster, by=deed.actor, request=deed.request, reason=reason, now=deed.now)
    keys = _close(connection, cluster, now=deed.now)
    note(connection, cluster, deed, outcome="forgotten", left=left, reason=reason)
    return left, keys


def note(connection: Connection, cluster: ClusterRow, deed: Deed, *, outcome: str, **more: Any) -> None:
    """The line in the audit log."""
    audit.write(
        connection,
        actor=deed.actor,
        action="cluster.purge" if deed.forced else "cluster.down",
        subject=records.subject(cluster.name),
        request=deed.request,
        now=deed.now,
        data={
            "uid": cluster.uid,
            "infra": cluster.infra,
            "origin": deed.origin,
            "forced": deed.forced,
            "outcome": outcome,
            **more,
        },
    )


def described(entry: LedgerEntry) -> str:
    """A thing as people read it."""
    return f"{entry.kind} {entry.namespace}/{entry.name}"


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
