"""The ledger of external things: what may exist outside, from before it was created until it was seen gone.

`intended` (about to be created), `exists`, `deleting`, `absent` (the infrastructure said so: I10), `forgotten` (a named
person gave up on it: the tombstone by which `whim reap` finds leftovers later). Rows are not deleted while they are
not `absent`, whatever becomes of the request or the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Row, insert, select, update

from whimbrel.store.clock import Moment, moment
from whimbrel.store.requests import JsonObject
from whimbrel.store.tables import things


class Intended(Protocol):
    """What an infra says it would create: `whimbrel.infra.base.Thing` is one."""

    @property
    def token(self) -> str:
        """'<infra>/<kind>/<namespace>/<name>/<cluster uid>'."""

    @property
    def kind(self) -> str:
        """'Pod', 'Service', ..."""

    @property
    def name(self) -> str:
        """Its name in the infrastructure."""

    @property
    def namespace(self) -> str:
        """Its namespace, or ""."""

    @property
    def labels(self) -> Mapping[str, str]:
        """By which it can be found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One row of `things`."""

    token: str
    infra: str
    kind: str
    namespace: str
    name: str
    labels: JsonObject
    native_id: str | None
    subject: str
    cluster_uid: str
    request: str
    state: str
    hourly_price: float | None
    created_at: float
    changed_at: float
    last_seen_at: float | None
    forgotten_by: str | None
    condition: JsonObject | None


def intend(
    connection: Connection, new: Iterable[Intended], *, subject: str, request: str, now: Moment
) -> None:
    """Write what is about to be created; what is in the ledger as gone is intended again."""
    for thing in new:
        infra, _, _, _, uid = (thing.token.rsplit("/", 4) + [""] * 4)[:5]
        again = connection.execute(
            update(things).where(things.c.token == thing.token).values(request=request, subject=subject)
        )
        if again.rowcount:
            connection.execute(
                update(things)
                .where(things.c.token == thing.token, things.c.state.in_(("absent", "forgotten", "deleting")))
                .values(state="intended", forgotten_by=None, changed_at=moment(now))
            )
            continue
        connection.execute(
            insert(things).values(
                token=thing.token,
                infra=infra,
                kind=thing.kind,
                namespace=thing.namespace,
                name=thing.name,
                labels=dict(thing.labels),
                subject=subject,
                cluster_uid=uid,
                request=request,
                state="intended",
                created_at=moment(now),
                changed_at=moment(now),
            )
        )


def saw(connection: Connection, tokens: Iterable[str], *, now: Moment) -> None:
    """The infrastructure said that these exist."""
    for token in tokens:
        connection.execute(
            update(things)
            .where(things.c.token == token, things.c.state.in_(("intended", "exists", "absent")))
            .values(state="exists", last_seen_at=moment(now), changed_at=moment(now))
        )


def deleting(connection: Connection, cluster_uid: str, *, now: Moment) -> None:
    """The intent to delete everything of a cluster."""
    connection.execute(
        update(things)
        .where(things.c.cluster_uid == cluster_uid, things.c.state.in_(("intended", "exists")))
        .values(state="deleting", changed_at=moment(now))
    )


def absent(
    connection: Connection, cluster_uid: str, *, now: Moment, tokens: Sequence[str] | None = None
) -> None:
    """The infrastructure said "not found" for these (all of the cluster, when no tokens are given)."""
    which = things.c.cluster_uid == cluster_uid
    if tokens is not None:
        which = which & things.c.token.in_(list(tokens))
    connection.execute(
        update(things)
        .where(which, things.c.state != "absent")
        .values(state="absent", forgotten_by=None, changed_at=moment(now))
    )


def forget(
    connection: Connection, cluster_uid: str, *, by: str, reason: str, now: Moment
) -> list[LedgerEntry]:
    """A person gives up on what may still exist of a cluster; the tombstones that remain."""
    connection.execute(
        update(things)
        .where(things.c.cluster_uid == cluster_uid, things.c.state.not_in(("absent", "forgotten")))
        .values(state="forgotten", forgotten_by=by, changed_at=moment(now), condition={"reason": reason})
    )
    return [entry for entry in of_cluster(connection, cluster_uid) if entry.state == "forgotten"]


def of_cluster(connection: Connection, cluster_uid: str) -> list[LedgerEntry]:
    """The ledger of one cluster."""
    rows = connection.execute(
        select(things).where(things.c.cluster_uid == cluster_uid).order_by(things.c.token)
    )
    return [_entry(row) for row in rows]


def left(connection: Connection, infra: str | None = None) -> list[LedgerEntry]:
    """Everything that may exist outside and is not known to be gone."""
    query = select(things).where(things.c.state != "absent").order_by(things.c.created_at)
    if infra is not None:
        query = query.where(things.c.infra == infra)
    return [_entry(row) for row in connection.execute(query)]


def _entry(row: Row[Any]) -> LedgerEntry:
    return LedgerEntry(**row._asdict())
