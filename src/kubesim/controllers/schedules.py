"""When a cron schedule is due. Pure; the texts have passed the API server's check before they come here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LIMITS: tuple[tuple[int, int, Mapping[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    (0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 366 * 5  # days in which a schedule that is ever due is due


@dataclass(frozen=True, slots=True)
class Schedule:
    """Minutes, hours, days of the month, months, days of the week; or one fixed distance."""

    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    any_day: bool = True  # one of the two kinds of days is a star: both have to hold
    every: float = 0.0

    def next(self, after: datetime, zone: tzinfo = UTC) -> datetime | None:
        """The first time it is due after a moment."""
        if self.every:
            return after + timedelta(seconds=self.every)
        return self._seek(after, zone, forward=True)

    def latest(self, since: datetime, now: datetime, zone: tzinfo = UTC) -> datetime | None:
        """The last time it was due after `since` and not after `now`."""
        if self.every:
            count = int((now - since).total_seconds() // self.every)
            return since + timedelta(seconds=count * self.every) if count > 0 else None
        found = self._seek(now, zone, forward=False)
        return found if found is not None and found > since else None

    def _seek(self, moment: datetime, zone: tzinfo, *, forward: bool) -> datetime | None:
        local = moment.astimezone(zone).replace(tzinfo=None)
        day = local.replace(hour=0, minute=0, second=0, microsecond=0)
        for _ in range(_LONGEST):
            if self._on(day):
                for wall in self._times(day, forward=forward):
                    found = wall.replace(tzinfo=zone).astimezone(UTC)
                    skipped = found.astimezone(zone).replace(tzinfo=None) != wall  # clocks were put forward
                    if not skipped and (found > moment if forward else found <= moment):
                        return found
            day += timedelta(days=1 if forward else -1)
        return None

    def _times(self, day: datetime, *, forward: bool) -> Iterable[datetime]:
        step = 1 if forward else -1
        for hour in self.hours[::step]:
            for minute in self.minutes[::step]:
                yield day.replace(hour=hour, minute=minute)

    def _on(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_date and by_weekday) if self.any_day else (by_date or by_weekday)


def parse(text: str) -> Schedule:
    """A schedule of five fields, or a named one."""
    text = _NAMED.get(text.strip(), text.strip())
    if text.startswith("@every "):
        parts = re.findall(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", text)
        return Schedule(every=max(1.0, float(int(sum(float(n) * _UNITS[unit] for n, unit in parts)))))
    fields = text.split()
    sets = [_numbers(field, *limits) for field, limits in zip(fields, _LIMITS, strict=True)]
    return Schedule(
        minutes=tuple(sorted(sets[0])),
        hours=tuple(sorted(sets[1])),
        days=sets[2],
        months=sets[3],
        weekdays=sets[4],
        any_day=any(field.startswith(("*", "?")) for field in (fields[2], fields[4])),
    )


def _numbers(field: str, low: int, high: int, names: Mapping[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span in ("*", "?"):
            first, last = low, high
        else:
            start, _, end = span.partition("-")
            first = _number(start, names)
            last = _number(end, names) if end else (high if step else first)
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, names: Mapping[str, int]) -> int:
    return names[text.lower()] if text.lower() in names else int(text)
