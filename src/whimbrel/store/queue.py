"""The queue of requests: claim, keep, take away, hand back, finish. All of it is safe to run on every server.

A claim takes the oldest due request of a kind that this server knows, unless an earlier request of the same subject
is still alive (I11, I13); a partial unique index is the belt to this pair of braces. `reap` may be run by anybody
(I6). Terminal states are left by no statement here (I4).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, exists, literal_column, select, update

from whimbrel.model.redaction import redact
from whimbrel.model.status import RequestState
from whimbrel.store.clock import Moment, moment
from whimbrel.store.leases import LostLease
from whimbrel.store.requests import JsonObject, NewEvent, Request, append, from_row, get, in_state
from whimbrel.store.tables import requests

MOST_LOSSES = 5
"""A request that has cost this many servers their life is not given to another one (I8)."""


def claim(
    connection: Connection, *, kinds: Collection[str], owner: str, lease: float, now: Moment
) -> Request | None:
    """Own the next request, or None when there is nothing to do."""
    waiting, earlier = requests.alias("waiting"), requests.alias("earlier")
    blocked = exists().where(
        earlier.c.subject == waiting.c.subject,
        earlier.c.seq < waiting.c.seq,
        earlier.c.state.in_([literal_column("'queued'"), literal_column("'running'")]),
    )
    next_ = (
        select(waiting.c.id)
        .where(
            waiting.c.state == literal_column("'queued'"),
            waiting.c.due_at <= moment(now),
            waiting.c.kind.in_(list(kinds)),
            ~blocked,
        )
        .order_by(waiting.c.priority.desc(), waiting.c.seq)
        .limit(1)
        .with_for_update(of=waiting, skip_locked=True)
        .cte("next")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    id = connection.execute(
        update(requests)
        .where(requests.c.id.in_(select(next_.c.id)), in_state(RequestState.QUEUED))
        .values(
            state=RequestState.RUNNING,
            owner=owner,
            fence=requests.c.fence + 1,
            lease_until=moment(now) + lease,
        )
        .returning(requests.c.id)
    ).scalar()
    if id is None:
        return None
    connection.execute(
        update(requests)
        .where(requests.c.id == id, requests.c.started_at.is_(None))
        .values(started_at=moment(now))
    )
    append(connection, id, [NewEvent(kind="claimed", data={"server": owner})], actor=owner, now=now)
    return get(connection, id)


def holds(fence: int) -> Sequence[ColumnElement[bool]]:
    """What a request must still satisfy so that the holder of `fence` may write for it (I2)."""
    return (requests.c.fence == fence, in_state(RequestState.RUNNING))


def prove(connection: Connection, id: str, fence: int) -> None:
    """Inside the transaction of a write: raise `LostLease`, which rolls it back, unless the request is still ours."""
    changed = connection.execute(
        update(requests).where(requests.c.id == id, *holds(fence)).values(fence=requests.c.fence)
    )
    if changed.rowcount != 1:
        raise LostLease(id)


def record(
    connection: Connection, id: str, fence: int, new: Sequence[NewEvent], *, owner: str, now: Moment
) -> int:
    """Write events under the fence."""
    last = append(connection, id, new, actor=owner, now=now, proof=holds(fence))
    if last is None:
        raise LostLease(id)
    return last


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What became of one lease: still ours or not, and whether somebody asked to cancel."""

    id: str
    held: bool
    cancel_reason: str | None = None


def renew(connection: Connection, held: Sequence[tuple[str, int, float]], *, now: Moment) -> list[Renewal]:
    """Keep requests, given as (id, fence, seconds from now), and learn which are lost or to be cancelled."""
    renewals = []
    for id, fence, seconds in held:
        row = connection.execute(
            update(requests)
            .where(requests.c.id == id, *holds(fence))
            .values(lease_until=moment(now) + seconds)
            .returning(requests.c.cancel_requested_at, requests.c.cancel_reason)
        ).one_or_none()
        reason = (row[1] or "cancelled") if row is not None and row[0] is not None else None
        renewals.append(Renewal(id=id, held=row is not None, cancel_reason=reason))
    return renewals


def reap(connection: Connection, *, by: str, now: Moment) -> list[Request]:
    """Take running requests away from owners whose lease is over; each counts as a loss of its owner (I6, I8)."""
    return _take_away(connection, requests.c.lease_until < moment(now), by=by, now=now)


def presume_dead(connection: Connection, *, survivor: str, now: Moment) -> list[Request]:
    """Take away what any other server owns. Only for a caller whose lock proves that it is the only server left."""
    return _take_away(connection, requests.c.owner != survivor, by=survivor, now=now)


def _take_away(connection: Connection, which: ColumnElement[bool], *, by: str, now: Moment) -> list[Request]:
    rows = connection.execute(
        select(requests).where(in_state(RequestState.RUNNING), which).with_for_update(skip_locked=True)
    ).all()
    taken = [from_row(row) for row in rows]
    for request in taken:
        losses = request.losses + 1
        connection.execute(update(requests).where(requests.c.id == request.id).values(losses=losses))
        if request.cancel_requested_at is None and losses >= MOST_LOSSES:
            error = {
                "code": "WhimError",
                "message": f"{losses} servers died or hung over this request; it will not be tried again.",
                "remedy": "`whim api logs` shows what happened; submit it again when the cause is mended.",
            }
            _end(connection, request, RequestState.FAILED, error=error, actor=by, now=now)
        else:
            data = {"why": "owner lost", "server": request.owner, "losses": losses}
            _hand_back(connection, request, data=data, actor=by, now=now)
    return [get(connection, request.id) for request in taken]


def give_back(connection: Connection, *, owner: str, why: str, now: Moment) -> list[str]:
    """A server that leaves hands its requests back to the queue, due at once, counters untouched (I7)."""
    rows = connection.execute(
        select(requests).where(in_state(RequestState.RUNNING), requests.c.owner == owner)
    ).all()
    for request in map(from_row, rows):
        _hand_back(connection, request, data={"why": why, "server": owner}, actor=owner, now=now)
    return [row.id for row in rows]


def put_off(
    connection: Connection, id: str, fence: int, *, delay: float, why: str, owner: str, now: Moment
) -> None:
    """Hand one request back to be tried again after `delay` seconds, because of a fault of our own (the database)."""
    prove(connection, id, fence)
    request = get(connection, id)
    connection.execute(update(requests).where(requests.c.id == id).values(failures=requests.c.failures + 1))
    _hand_back(connection, request, data={"why": why, "server": owner}, actor=owner, now=now, delay=delay)


def finish(
    connection: Connection,
    id: str,
    fence: int,
    state: RequestState,
    *,
    owner: str,
    now: Moment,
    output: JsonObject | None = None,
    error: JsonObject | None = None,
) -> None:
    """The end of a request, under the fence; secret values are blanked."""
    prove(connection, id, fence)
    _end(connection, get(connection, id), state, output=output, error=error, actor=owner, now=now)


def _hand_back(
    connection: Connection, request: Request, *, data: JsonObject, actor: str, now: Moment, delay: float = 0.0
) -> None:
    """Queue a running request again, or end it as cancelled if that was asked for: nobody takes that up again."""
    if request.cancel_requested_at is not None:
        _end(connection, request, RequestState.CANCELLED, error=cancelled(request), actor=actor, now=now)
        return
    connection.execute(
        update(requests)
        .where(requests.c.id == request.id, in_state(RequestState.RUNNING))
        .values(state=RequestState.QUEUED, owner=None, lease_until=None, due_at=moment(now) + delay)
    )
    append(connection, request.id, [NewEvent(kind="requeued", data=data)], actor=actor, now=now)


def _end(
    connection: Connection,
    request: Request,
    state: RequestState,
    *,
    actor: str,
    now: Moment,
    output: JsonObject | None = None,
    error: JsonObject | None = None,
) -> None:
    connection.execute(
        update(requests)
        .where(requests.c.id == request.id, in_state(RequestState.RUNNING))
        .values(
            state=state,
            owner=None,
            lease_until=None,
            finished_at=moment(now),
            output=output,
            error=error,
            body=redact(request.body),
        )
    )
    append(connection, request.id, [NewEvent(kind="finished", data={"state": state})], actor=actor, now=now)


def cancelled(request: Request) -> JsonObject:
    """The error of a cancelled request."""
    return {"code": "Cancelled", "message": f"The request was cancelled: {request.cancel_reason}."}
