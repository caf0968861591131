"""What happened, in the order in which it happened: lines of the audit log and the turns of requests, side by side.

A read over both, bounded by a number; what a line means in words is `whimbrel.operations.chronicle`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from whimbrel.store import requests as rows
from whimbrel.store.audit import AuditLine, newest
from whimbrel.store.requests import Event, Request
from whimbrel.store.tables import events, requests

TURNS = ("submitted", "cancel_requested", "requeued", "finished")
"""Kinds of events that tell how a request goes on; the others are its progress and its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One event, with the request that it is of."""

    event: Event
    request: Request


def audit_lines(connection: Connection, *, subject: str | None, limit: int) -> list[AuditLine]:
    """The latest lines of the audit log, newest first."""
    return newest(connection, limit=limit, subject=subject)


def turns(connection: Connection, *, subject: str | None, limit: int) -> list[Turn]:
    """The turns of the requests that were accepted or that ended last."""
    ended = select(requests).order_by(requests.c.finished_at.desc()).limit(limit)
    ended = ended.where(requests.c.finished_at.is_not(None))
    if subject is not None:
        ended = ended.where(requests.c.subject == subject)
    known = {request.id: request for request in rows.newest(connection, limit=limit, subject=subject)}
    known |= {request.id: request for request in map(rows.from_row, connection.execute(ended))}
    found = connection.execute(
        select(events).where(events.c.request.in_(list(known)), events.c.kind.in_(TURNS))
    )
    told = [Event(**row._asdict()) for row in found]
    return [Turn(event=event, request=known[event.request]) for event in told]
