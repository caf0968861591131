"""`"%s of %d".format([...])`: the verbs of cel-go's string formatting."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from kubesim.schema.cel.values import CelError, Type, code, pay

_VERB = re.compile(r"%(?:\.(\d+))?(.)", re.DOTALL)


def format_(text: str, values: list[Any], string_of: Callable[[Any], str]) -> str:
    """Raises CelError."""
    left = iter(values)
    used = 0

    def one(found: re.Match[str]) -> str:
        nonlocal used
        precision, verb = found[1], found[2]
        if verb == "%":
            return "%"
        try:
            value = next(left)
        except StopIteration:
            raise CelError(f"index {used} out of range") from None
        used += 1
        return _shown(verb, int(precision) if precision else 6, value, string_of)

    return _VERB.sub(one, text)


def _shown(verb: str, precision: int, value: Any, string_of: Callable[[Any], str]) -> str:
    letter = code(value)
    match verb:
        case "s":
            return _text(value, string_of)
        case "d" if letter in "iu":
            return str(int(value))
        case "f" if letter in "iud":
            return f"{float(value):.{min(precision, 100)}f}"
        case "e" if letter in "iud":
            return f"{float(value):.{min(precision, 100)}e}"
        case "b" if letter in "iub":
            return f"{int(value):b}"
        case "o" if letter in "iu":
            return f"{int(value):o}"
        case "x" | "X" if letter in "iusy":
            data = value.encode() if letter == "s" else value
            shown = data.hex() if letter in "sy" else f"{int(value):x}"
            return str(shown.upper() if verb == "X" else shown)
    raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


def _text(value: Any, string_of: Callable[[Any], str]) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | dict):
        pay(1 + len(value))
    if isinstance(value, list):
        return "[" + ", ".join(_text(one, string_of) for one in value) + "]"
    if isinstance(value, dict):
        pairs = sorted((_text(key, string_of), _text(item, string_of)) for key, item in value.items())
        return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
    if isinstance(value, Type):
        return value.name
    if isinstance(value, str | bytes):
        pay(len(value) // 10)
    if isinstance(value, str | int | float | bytes | datetime | timedelta):
        return string_of(value)
    return str(value)
