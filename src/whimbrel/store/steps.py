"""The steps of a request: `intended` in the database before the effect, `done` after it (I3).

A step has a name, a token that is the same at every attempt (by which its effect can be found outside), and an
output that a successor reads instead of doing the step again. The ledger rows of what a step is about to create are
committed together with its intention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from whimbrel.store.clock import Moment, moment
from whimbrel.store.requests import JsonObject
from whimbrel.store.tables import steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row of `steps`."""

    request: str
    name: str
    state: str
    token: str
    output: JsonObject | None
    deadline: float
    attempts: int
    started_at: float
    done_at: float | None

    @property
    def done(self) -> bool:
        """Whether it need not be done again."""
        return self.state == "done"


def find(connection: Connection, request: str, name: str) -> Step | None:
    """The step of that name, if it was ever intended."""
    row = connection.execute(
        select(steps).where(steps.c.request == request, steps.c.name == name)
    ).one_or_none()
    return _step(row) if row is not None else None


def intend(connection: Connection, request: str, name: str, *, deadline: float, now: Moment) -> str:
    """Write that the step is about to be attempted, for `deadline` seconds; its token."""
    token = f"{request}-{name}"
    again = connection.execute(
        update(steps)
        .where(steps.c.request == request, steps.c.name == name)
        .values(deadline=moment(now) + deadline, attempts=steps.c.attempts + 1)
    )
    if again.rowcount == 0:
        connection.execute(
            insert(steps).values(
                request=request,
                name=name,
                state="intended",
                token=token,
                deadline=moment(now) + deadline,
                started_at=moment(now),
            )
        )
    return token


def complete(connection: Connection, request: str, name: str, *, output: JsonObject, now: Moment) -> None:
    """Write that the step is done, with what it gave."""
    connection.execute(
        update(steps)
        .where(steps.c.request == request, steps.c.name == name)
        .values(state="done", output=output, done_at=moment(now))
    )


def _step(row: Row[Any]) -> Step:
    return Step(**row._asdict())
