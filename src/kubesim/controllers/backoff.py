"""Growing delays between attempts of the same thing, by key: what fails again and again is tried less and less often.

The first attempt is free. Each attempt doubles the delay before the next one, up to a limit; a key that has been left
alone for twice the limit starts anew. Without I/O: the time is given.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Attempt:
    at: float
    delay: float


class Backoff:
    """Times are seconds of one monotonic clock."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._attempts: dict[str, _Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def left(self, key: str, now: float) -> float:
        """Seconds until the next attempt is due; 0 when it may be made now."""
        before = self._attempts.get(key)
        return max(0.0, before.at + before.delay - now) if before else 0.0

    def attempt(self, key: str, now: float) -> None:
        """An attempt is made now."""
        self._forget_old(now)
        before = self._attempts.get(key)
        delay = min(self._longest, before.delay * 2) if before else self._first
        self._attempts[key] = _Attempt(now, delay)

    def _forget_old(self, now: float) -> None:
        limit = 2 * self._longest
        for key in [key for key, one in self._attempts.items() if now - one.at > limit]:
            del self._attempts[key]
