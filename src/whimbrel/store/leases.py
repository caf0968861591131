"""Fenced leases on rows: who may write for them, until when, and the proof of it inside each transaction.

A row with the columns `owner`, `fence` and `lease_until` belongs to the server that took it last. Each taking makes
the fence grow, and every write made for the row proves its fence in its own transaction (I2): a server that was
stopped for longer than its lease finds out at its first write that somebody else has taken over, and writes nothing.
Clusters use this for the reconciling of their jobs; requests, which also have a state, in `queue`.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Table, or_, update

from whimbrel.store.clock import Moment, moment


class LostLease(Exception):
    """Somebody else owns this row now: stop, and write nothing more."""


def take(
    connection: Connection, table: Table, key: ColumnElement[bool], *, owner: str, lease: float, now: Moment
) -> int | None:
    """Own the row if nobody does (or the owner's lease is over, or we own it already); the new fence, or None."""
    free = or_(table.c.owner.is_(None), table.c.lease_until < moment(now), table.c.owner == owner)
    return connection.execute(
        update(table)
        .where(key, free)
        .values(owner=owner, fence=table.c.fence + 1, lease_until=moment(now) + lease)
        .returning(table.c.fence)
    ).scalar()


def renew(
    connection: Connection, table: Table, key: ColumnElement[bool], *, fence: int, lease: float, now: Moment
) -> bool:
    """Keep the row for another `lease` seconds; False when it is not ours any more."""
    changed = connection.execute(
        update(table)
        .where(key, table.c.fence == fence, table.c.owner.is_not(None))
        .values(lease_until=moment(now) + lease)
    )
    return changed.rowcount == 1


def release(connection: Connection, table: Table, key: ColumnElement[bool], *, fence: int) -> bool:
    """Give the row back, so that the next server need not wait for the lease to end."""
    changed = connection.execute(
        update(table)
        .where(key, table.c.fence == fence, table.c.owner.is_not(None))
        .values(owner=None, lease_until=None)
    )
    return changed.rowcount == 1


def prove(connection: Connection, table: Table, key: ColumnElement[bool], *, fence: int) -> None:
    """Inside the transaction of a write: raise `LostLease` (which rolls it back) unless the row is still ours."""
    changed = connection.execute(
        update(table)
        .where(key, table.c.fence == fence, table.c.owner.is_not(None))
        .values(fence=table.c.fence)
    )
    if changed.rowcount != 1:
        raise LostLease
