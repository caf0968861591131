"""The database's clock, and moments that may be given instead of it.

Leases are compared by one clock only, the database's, so that servers whose own clocks differ agree on who owns
what. Every query takes its moment as a parameter: `now()` in the product, a number in a test with virtual time.
Moments are UNIX seconds, as floating point, everywhere in the store.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Float, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

Moment = ColumnElement[float] | float
"""A point in time: an SQL expression (the database's now) or a number of UNIX seconds."""


class _Now(FunctionElement[float]):
    """The database's clock in UNIX seconds."""

    type = Float()
    inherit_cache = True
    name = "whimbrel_now"


@compiles(_Now, "sqlite")
def _on_sqlite(element: _Now, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(_Now, "postgresql")
def _on_postgresql(element: _Now, compiler: Any, **options: Any) -> str:
    return "extract(epoch from clock_timestamp())"


def now() -> ColumnElement[float]:
    """The database's own clock."""
    return _Now()


def moment(at: Moment) -> ColumnElement[float]:
    """`at` as an expression, so that it can be computed with."""
    return literal(at, Float()) if isinstance(at, float | int) else at
