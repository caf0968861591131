"""What is old enough to be forgotten, a few rows at a time, so that no transaction is long.

Tombstones that stand (of what was forgotten while it may still exist) are never dropped here: `whim` must be able to
find what they name.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from whimbrel.store.clock import Moment, moment
from whimbrel.store.tables import audit, clusters, things, tombstones

SLICE = 50
"""Rows of one transaction."""


def closed_clusters(connection: Connection, *, before: Moment) -> list[str]:
    """The uids of some clusters that were closed before then."""
    query = select(clusters.c.uid).where(clusters.c.closed_at < moment(before)).order_by(clusters.c.closed_at)
    return [str(uid) for (uid,) in connection.execute(query.limit(SLICE))]


def drop_clusters(connection: Connection, uids: Sequence[str]) -> int:
    """Forget closed clusters with their jobs, and what the ledger has of theirs that was seen gone."""
    connection.execute(delete(things).where(things.c.cluster_uid.in_(uids), things.c.state == "absent"))
    gone = connection.execute(
        delete(clusters).where(clusters.c.uid.in_(uids), clusters.c.closed_at.is_not(None))
    )
    return gone.rowcount


def drop_tombstones(connection: Connection, *, before: Moment) -> int:
    """Forget some tombstones that were reaped long ago, with what the ledger has of theirs; how many."""
    query = select(tombstones.c.cluster_uid).where(tombstones.c.reaped_at < moment(before)).limit(SLICE)
    uids = [str(uid) for (uid,) in connection.execute(query)]
    connection.execute(delete(things).where(things.c.cluster_uid.in_(uids), things.c.state == "absent"))
    return connection.execute(delete(tombstones).where(tombstones.c.cluster_uid.in_(uids))).rowcount


def drop_audit(connection: Connection, *, before: Moment) -> int:
    """Forget some old lines of the audit log; how many."""
    old = select(audit.c.id).where(audit.c.at < moment(before)).order_by(audit.c.id).limit(10 * SLICE)
    return connection.execute(delete(audit).where(audit.c.id.in_(old.scalar_subquery()))).rowcount
