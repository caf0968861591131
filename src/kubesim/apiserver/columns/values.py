"""What goes into cells: names, ages, counts and lists, written as the real server writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubesim.errors import JsonObject

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"


def human(seconds: int) -> str:
    """A duration in at most two units: `3m20s`, `5d4h`."""
    if seconds < -1:
        return "<invalid>"
    seconds = max(seconds, 0)
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return f"{days // 365}y{days % 365}d" if days % 365 else f"{days // 365}y"
    return f"{days // 365}y"


def parsed(text: str | None) -> datetime | None:
    """A time of the API."""
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True, slots=True)
class Moment:
    """The time at which a table is made."""

    now: datetime

    def since(self, text: str | None) -> str:
        """How long ago a time is."""
        try:
            then = parsed(text)
        except ValueError:
            return "<invalid>"
        return UNKNOWN if then is None else human(int((self.now - then).total_seconds()))


def between(start: str, end: str) -> str:
    """The duration between two times."""
    first, last = parsed(start), parsed(end)
    if first is None or last is None:
        return ""
    return human(int((last - first).total_seconds()))


def name(obj: JsonObject, moment: Moment) -> str:
    return str(obj["metadata"].get("name", ""))


def age(obj: JsonObject, moment: Moment) -> str:
    return moment.since(obj["metadata"].get("creationTimestamp"))


def at(obj: JsonObject, *path: str, default: Any = "") -> Any:
    """The value at a path of names, or the default."""
    value: Any = obj
    for one in path:
        if not isinstance(value, Mapping):
            return default
        value = value.get(one)
    return default if value is None else value


def boolean(value: bool | None) -> str:
    if value is None:
        return UNSET
    return "True" if value else "False"


def joined(values: Sequence[Any]) -> str:
    return ",".join(str(value) for value in values)


def pod_template(obj: JsonObject) -> JsonObject:
    """The pod spec of a workload."""
    spec: JsonObject = at(obj, "spec", "template", "spec", default={})
    return spec


def container_names(spec: JsonObject) -> str:
    return joined([one["name"] for one in spec.get("containers") or ()])


def container_images(spec: JsonObject) -> str:
    return joined([one.get("image", "") for one in spec.get("containers") or ()])


_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def access_modes(modes: Sequence[str] | None) -> str:
    given = set(modes or ())
    return ",".join(short for mode, short in _MODES.items() if mode in given)
