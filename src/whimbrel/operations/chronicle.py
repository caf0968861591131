"""What happened to clusters, in words: who asked for what, how it ended, and what was deleted, from where, and how.

Pure, but for one read. The words are here and not in the command, so that `--json` and Python have them as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from whimbrel.jobs import records
from whimbrel.store import chronicle
from whimbrel.store.audit import AuditLine
from whimbrel.store.chronicle import Turn
from whimbrel.store.requests import JsonObject, Request

LONGEST_LIST = 5
"""Things that a sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One line."""

    key: str  # the same at every look
    at: float
    actor: str
    cluster: str  # or what else it is about: "local", "tombstones"
    kind: str  # the action of an audit line, or "<kind of the request>.<turn>"
    text: str
    request: str | None
    data: JsonObject


def happened(connection: Connection, *, name: str | None, limit: int, since: float = 0.0) -> list[Happening]:
    """The latest, oldest of them first; of one cluster, or of all."""
    subject = records.subject(name) if name else None
    lines = [_of_line(line) for line in chronicle.audit_lines(connection, subject=subject, limit=limit)]
    turns = [_of_turn(turn) for turn in chronicle.turns(connection, subject=subject, limit=limit)]
    found = [one for one in (*lines, *turns) if one.at >= since]
    return sorted(found, key=lambda one: (one.at, one.key))[-limit:]


def _about(subject: str) -> str:
    return subject.removeprefix("cluster:")


# ---------------------------------------------------------------- the audit log


def _of_line(line: AuditLine) -> Happening:
    return Happening(
        key=f"audit/{line.id}",
        at=line.at,
        actor=line.actor,
        cluster=_about(line.subject),
        kind=line.action,
        text=_line_words(line),
        request=line.request,
        data=line.data,
    )


def _line_words(line: AuditLine) -> str:
    data = line.data
    where, outcome = data.get("infra") or "?", str(data.get("outcome") or "")
    origin = f", asked from {data['origin']}" if data.get("origin") else ""
    reason = f": {data['reason']}" if data.get("reason") else ""
    left = _listed(data.get("left") or [])
    tell = _WORDS.get(line.action)
    return f"{tell(where, outcome, reason, left) if tell else f'{line.action} {outcome}'.strip()}{origin}"


def _deleted(where: str, outcome: str, reason: str, left: str) -> str:
    if outcome == "kept":
        return f"not deleted from {where}, record kept{reason}"
    if outcome == "already gone":
        return f"was already gone from {where}; record closed"
    return f"deleted from {where} ({outcome})"


def _purged(where: str, outcome: str, reason: str, left: str) -> str:
    if outcome == "forgotten":
        may = f"; may be left there: {left}" if left else ""
        return f"forgotten by a purge without having been seen gone from {where}{reason}{may}"
    return f"{_deleted(where, outcome, reason, left)}, by a purge"


def _reaped(where: str, outcome: str, reason: str, left: str) -> str:
    if outcome == "reaped":
        return f"leftovers removed from {where}"
    if outcome == "nothing left":
        return f"nothing is left of it in {where}"
    return f"leftovers not removed from {where}{reason}{f' ({left})' if left else ''}"


_WORDS: dict[str, Callable[[str, str, str, str], str]] = {
    "cluster.down": _deleted,
    "cluster.purge": _purged,
    "tombstone.reap": _reaped,
}


def _listed(left: list[str]) -> str:
    more = f" and {len(left) - LONGEST_LIST} more" if len(left) > LONGEST_LIST else ""
    return ", ".join(left[:LONGEST_LIST]) + more


# ---------------------------------------------------------------- requests


def _of_turn(turn: Turn) -> Happening:
    event, request = turn.event, turn.request
    return Happening(
        key=f"{event.request}/{event.idx}",
        at=event.at,
        actor=event.actor if event.kind == "cancel_requested" else request.actor,
        cluster=_about(request.subject),
        kind=f"{request.kind}.{event.kind}",
        text=_turn_words(turn),
        request=request.id,
        data=event.data,
    )


def _turn_words(turn: Turn) -> str:
    request, verb = turn.request, _verb(turn.request)
    if turn.event.kind == "submitted":
        return f"{verb}: asked for"
    if turn.event.kind == "requeued":
        return f"{verb}: goes on at another server"
    if turn.event.kind == "cancel_requested":
        reason = turn.event.data.get("reason")
        return f"{verb}: to be cancelled{f' ({reason})' if reason else ''}"
    state = str(turn.event.data.get("state") or request.state)
    if state == "failed" and request.error:
        return f"{verb}: failed: {request.error.get('message')}"
    return f"{verb}: {state}"


def _verb(request: Request) -> str:
    verb = request.kind.removeprefix("cluster.").replace(".", " ")
    return f"{verb} --purge" if request.kind == records.DOWN and request.body.get("purge") else verb
