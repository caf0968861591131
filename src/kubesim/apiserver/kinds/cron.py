"""Cron schedules as Kubernetes reads them: five fields, names of months and days, and @daily and its like.

Only whether a text is one, and what is wrong with it; when it is due next is the CronJob controller's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS: tuple[tuple[int, int, Mapping[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = re.compile(r"@every (?:[0-9.]+(?:ns|us|µs|ms|s|m|h))+")


class InvalidSchedule(ValueError):
    """The text is not a schedule; the message is the real parser's."""


def check(schedule: str) -> None:
    """Raises InvalidSchedule."""
    text = schedule.strip()
    if not text:
        raise InvalidSchedule("empty spec string")
    if text.startswith(("TZ=", "CRON_TZ=")):
        text = text.partition(" ")[2].strip()
    if text.startswith("@"):
        if text not in _DESCRIPTORS and not _EVERY.fullmatch(text):
            raise InvalidSchedule(f"unrecognized descriptor: {text}")
        return
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise InvalidSchedule(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    for field, (low, high, names) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            _check_range(part, low, high, names)


def _number(text: str, names: Mapping[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[-+]?[0-9]+", text, re.ASCII):
        raise InvalidSchedule(
            f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax'
        )
    number = int(text)
    if number < 0:
        raise InvalidSchedule(f"negative number ({number}) not allowed: {text}")
    return number


def _check_range(text: str, low: int, high: int, names: Mapping[str, int]) -> None:
    span, *step = text.split("/")
    if len(step) > 1:
        raise InvalidSchedule(f"too many slashes: {text}")
    if span in ("*", "?"):
        start, end = low, high
    else:
        first, *rest = span.split("-")
        if len(rest) > 1:
            raise InvalidSchedule(f"too many hyphens: {text}")
        start = _number(first, names)
        end = _number(rest[0], names) if rest else (high if step else start)
    if step and _number(step[0], {}) == 0:
        raise InvalidSchedule(f"step of range should be a positive number: {text}")
    if start < low:
        raise InvalidSchedule(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise InvalidSchedule(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise InvalidSchedule(f"beginning of range ({start}) beyond end of range ({end}): {text}")
