"""The one table of deadlines (law 1: no call without a deadline).

Callers do not invent bounds at each call; they take them from here, and a context may override any of them.
Retrying is not decided here: a deadline ends one attempt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds that each kind of call may take, everything included: credentials, DNS, TLS, the answer's last byte."""

    probe: float = 2.0
    """Is anybody there: `version`."""
    read: float = 5.0
    """One object; the head of a stream."""
    change: float = 8.0
    """Create, replace, patch, delete; opening an exec or port-forward channel."""
    page: float = 10.0
    """One page of a list."""
    stream_idle: float = 60.0
    """How long a stream may be silent."""
    watch: float = 300.0
    """After this long the server ends a watch, and the client resumes it."""
    connect: float = 3.0
    """DNS, TCP and TLS of one connection."""
    credential: float = 10.0
    """One run of a credential plugin."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            seconds = getattr(self, entry.name)
            if not (isinstance(seconds, (int, float)) and math.isfinite(seconds) and seconds > 0):
                raise ValueError(
                    f"deadline {entry.name!r} must be a positive number of seconds, not {seconds!r}"
                )

    def override(self, changes: Mapping[str, float]) -> Deadlines:
        """The table with some entries changed; an unknown name is refused."""
        unknown = sorted(set(changes) - {entry.name for entry in fields(self)})
        if unknown:
            raise ValueError(f"unknown deadline {unknown[0]!r}")
        return replace(self, **dict(changes))
