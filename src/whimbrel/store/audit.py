"""The audit log: who did what to what, one row per deletion and per other act that cannot be undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from whimbrel.model.redaction import redact
from whimbrel.store.clock import Moment, moment
from whimbrel.store.requests import JsonObject
from whimbrel.store.tables import audit


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One row of `audit`."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    request: str | None
    data: JsonObject


def write(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    now: Moment,
    request: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Add a line, in the transaction of what it tells about."""
    connection.execute(
        insert(audit).values(
            at=moment(now),
            actor=actor,
            action=action,
            subject=subject,
            request=request,
            data=redact(dict(data or {})),
        )
    )


def newest(connection: Connection, *, limit: int = 100, subject: str | None = None) -> list[AuditLine]:
    """The latest lines, newest first."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    return [AuditLine(**row._asdict()) for row in connection.execute(query)]
