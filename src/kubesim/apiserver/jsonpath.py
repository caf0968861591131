"""The part of JSONPath that printer columns and selectable fields use: names, positions, all, and simple
filters.

.status.conditions[?(@.type=="Ready")].status        .spec.ports[0].port        .metadata.labels['a\\.b/c']
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

_STEP = re.compile(
    r"""\.(?P<name>(?:[^.\[\]'"\\]|\\.)+)"""
    r"""|\[(?P<all>\*)\]|\.\*"""
    r"""|\[(?P<index>-?\d+)\]"""
    r"""|\[(?P<quote>['"])(?P<key>(?:[^'"\\]|\\.)+)(?P=quote)\]"""
    r"""|\[\?\(\s*@(?P<path>[^=!<>]*?)\s*(?P<operator>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)\s]+)\s*\)\]"""
)

Step = Callable[[Any], Iterable[Any]]


class InvalidPath(ValueError):
    """The text is not a path that is understood here."""


@lru_cache(maxsize=256)
def compiled(path: str) -> tuple[Step, ...]:
    """The steps of a path."""
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    if text and text[0] not in ".[":
        text = "." + text
    steps: list[Step] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise InvalidPath(path)
        steps.append(_step(found))
        at = found.end()
    return tuple(steps)


def _step(found: re.Match[str]) -> Step:
    name = found["name"] or found["key"]
    if name is not None:
        plain = re.sub(r"\\(.)", r"\1", name)
        return lambda value: [value[plain]] if isinstance(value, dict) and plain in value else ()
    if found["index"] is not None:
        index = int(found["index"])
        return lambda value: value[index : index + 1 or None] if isinstance(value, list) else ()
    if found["operator"] is not None:
        return _filter(found["path"], found["operator"] == "==", found["value"])
    return _everything


def _everything(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _filter(path: str, equal: bool, text: str) -> Step:
    wanted = text.strip("'\"") if text[0] in "'\"" else text
    quoted = text[0] in "'\""

    def keep(value: Any) -> bool:
        found = first(path, value)
        shown = found if quoted or not isinstance(found, bool) else str(found).lower()
        return (str(shown) == wanted if found is not None else False) is equal

    return lambda value: [one for one in value if keep(one)] if isinstance(value, list) else ()


def every(path: str, value: Any) -> list[Any]:
    """All values at a path."""
    values = [value]
    for step in compiled(path):
        values = [one for value in values for one in step(value)]
    return values


def first(path: str, value: Any) -> Any:
    """The first value at a path, or None."""
    found = every(path, value)
    return found[0] if found else None
