"""Requests and their events as rows: accept, look up, list, ask to cancel, and the numbering of events.

Claiming, fencing and finishing are in `queue`; steps in `steps`. Events are numbered 1, 2, 3, ... per request without a
gap (I12): the counter is a column of the request, raised in the same statement that proves the right to write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, literal_column, select, update

from whimbrel.model.errors import Conflict, NotFound
from whimbrel.model.redaction import redact
from whimbrel.model.status import RequestState
from whimbrel.store.clock import Moment, moment
from whimbrel.store.tables import events, requests

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One row of `requests`."""

    id: str
    actor: str
    kind: str
    subject: str
    body: JsonObject = field(repr=False)  # may hold secrets until the request has finished
    body_hash: str = field(repr=False)
    seq: int
    priority: int
    state: RequestState
    due_at: float
    owner: str | None
    fence: int
    lease_until: float | None
    failures: int
    losses: int
    cancel_requested_at: float | None
    cancel_reason: str | None
    events: int
    output: JsonObject | None
    error: JsonObject | None
    created_at: float
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of `events`."""

    request: str
    idx: int
    at: float
    actor: str
    kind: str
    data: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event that has no number yet."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


def from_row(row: Row[Any]) -> Request:
    """A row as a `Request`."""
    columns = row._asdict()
    return Request(**{**columns, "state": RequestState(columns["state"])})


def accept(
    connection: Connection,
    *,
    id: str,
    kind: str,
    subject: str,
    body: Mapping[str, Any],
    actor: str,
    now: Moment,
    priority: int = 0,
    delay: float = 0.0,
) -> Request:
    """Store a new request, or find the same one (I1). Raises `Conflict` if the id was used for something else."""
    digest = _digest(kind, subject, body, actor)
    present = find(connection, id)
    if present is not None:
        if present.body_hash != digest:
            raise Conflict(
                f"The idempotency key {id} was used before, for another request ({present.kind} of {present.subject}).",
                remedy="Use a new key for a new request; repeat a key only with the very same request.",
            )
        return present
    newest = select(func.coalesce(func.max(requests.c.seq), 0) + 1).scalar_subquery()
    connection.execute(
        insert(requests).values(
            id=id,
            actor=actor,
            kind=kind,
            subject=subject,
            body=dict(body),
            body_hash=digest,
            seq=newest,
            priority=priority,
            state=RequestState.QUEUED,
            due_at=moment(now) + delay,
            created_at=moment(now),
        )
    )
    append(
        connection,
        id,
        [NewEvent(kind="submitted", data={"kind": kind, "subject": subject})],
        actor=actor,
        now=now,
    )
    return get(connection, id)


def find(connection: Connection, id: str) -> Request | None:
    """The request of that id, if there is one."""
    row = connection.execute(select(requests).where(requests.c.id == id)).one_or_none()
    return from_row(row) if row is not None else None


def get(connection: Connection, id: str) -> Request:
    """The request of that id. Raises `NotFound`."""
    found = find(connection, id)
    if found is None:
        raise NotFound(
            f"There is no request {id}.", remedy="`whim api info` shows the server that was asked."
        )
    return found


def newest(connection: Connection, *, limit: int = 50, subject: str | None = None) -> list[Request]:
    """The latest requests, newest first."""
    query = select(requests).order_by(requests.c.seq.desc()).limit(limit)
    if subject is not None:
        query = query.where(requests.c.subject == subject)
    return [from_row(row) for row in connection.execute(query)]


def live(connection: Connection, subject: str | None = None) -> list[Request]:
    """Requests that are not finished, in their order."""
    query = (
        select(requests).where(in_state(RequestState.QUEUED, RequestState.RUNNING)).order_by(requests.c.seq)
    )
    if subject is not None:
        query = query.where(requests.c.subject == subject)
    return [from_row(row) for row in connection.execute(query)]


def count_by_state(connection: Connection) -> dict[str, int]:
    """How many requests there are in each state."""
    rows = connection.execute(select(requests.c.state, func.count()).group_by(requests.c.state))
    return {str(state): int(count) for state, count in rows}


def ask_to_cancel(connection: Connection, id: str, *, actor: str, reason: str, now: Moment) -> Request:
    """Cancel a request: at once while it waits, through its owner while it runs; a finished one stays as it is."""
    request = get(connection, id)
    if request.state.finished or request.cancel_requested_at is not None:
        return request
    data = {"reason": reason}
    connection.execute(
        update(requests)
        .where(requests.c.id == id)
        .values(cancel_requested_at=moment(now), cancel_reason=reason or f"cancelled by {actor}")
    )
    append(connection, id, [NewEvent(kind="cancel_requested", data=data)], actor=actor, now=now)
    if request.state is RequestState.QUEUED:
        connection.execute(
            update(requests)
            .where(requests.c.id == id)
            .values(state=RequestState.CANCELLED, finished_at=moment(now), body=redact(request.body))
        )
        append(connection, id, [NewEvent(kind="finished", data={"state": "cancelled"})], actor=actor, now=now)
    return get(connection, id)


def append(
    connection: Connection,
    id: str,
    new: Sequence[NewEvent],
    *,
    actor: str,
    now: Moment,
    proof: Sequence[ColumnElement[bool]] = (),
) -> int | None:
    """Write events under the next numbers; the number of the last one. None, and nothing written, when the request
    does not (any more) satisfy `proof`."""
    last = connection.execute(
        update(requests)
        .where(requests.c.id == id, *proof)
        .values(events=requests.c.events + len(new))
        .returning(requests.c.events)
    ).scalar()
    if last is None:
        return None
    for idx, item in enumerate(new, start=int(last) - len(new) + 1):
        connection.execute(
            insert(events).values(
                request=id, idx=idx, at=moment(now), actor=actor, kind=item.kind, data=dict(item.data)
            )
        )
    return int(last)


def events_after(connection: Connection, id: str, after: int, limit: int = 500) -> list[Event]:
    """The events of one request with a number above `after`, in their order."""
    rows = connection.execute(
        select(events).where(events.c.request == id, events.c.idx > after).order_by(events.c.idx).limit(limit)
    )
    return [Event(**row._asdict()) for row in rows]


def prune(connection: Connection, *, finished_before: Moment, limit: int = 50) -> int:
    """Drop some finished requests with their steps and events; how many. The ledger of things stays."""
    old = select(requests.c.id).where(requests.c.finished_at < moment(finished_before))
    some = old.order_by(requests.c.finished_at).limit(limit).scalar_subquery()
    return connection.execute(delete(requests).where(requests.c.id.in_(some))).rowcount


def in_state(*states: RequestState) -> ColumnElement[bool]:
    """`state` is one of these, with literals, so that the partial indexes serve it."""
    if len(states) == 1:
        return requests.c.state == literal_column(f"'{states[0]}'")
    return requests.c.state.in_([literal_column(f"'{state}'") for state in states])


def _digest(kind: str, subject: str, body: Mapping[str, Any], actor: str) -> str:
    whole = orjson.dumps(
        [kind, subject, actor, dict(body)], option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    )
    return hashlib.sha256(whole).hexdigest()
