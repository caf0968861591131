"""What Go's JSON, time and formatting code says: its errors end up in messages that clients compare.

Only wording is here, and only on the path of an error: parsing itself is orjson's.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
_END = "unexpected end of JSON input"


def _quoted(character: str) -> str:
    if character == "'":
        return r"'\''"
    if character == '"':
        return "'\"'"
    if character.isprintable():
        return f"'{character}'"
    escape = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}.get(character) or f"\\x{ord(character):02x}"
    return f"'{escape}'"


def syntax_error(body: bytes) -> str:
    """Why Go's encoding/json refuses this text, or "" if it would not."""
    try:
        _Scanner(body.decode("utf-8", "replace")).run()
    except _Syntax as found:
        return str(found)
    return ""


class _Syntax(Exception):
    """The text of a syntax error."""


class _Scanner:
    """Walks a JSON text the way Go's scanner does, to fail where it fails."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def run(self) -> None:
        self.value()
        self.space()
        if self.at < len(self.text):
            self.fail("after top-level value")

    def fail(self, where: str) -> None:
        if self.at >= len(self.text):
            raise _Syntax(_END)
        raise _Syntax(f"invalid character {_quoted(self.text[self.at])} {where}")

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
            self.at += 1

    def peek(self) -> str:
        self.space()
        return self.text[self.at] if self.at < len(self.text) else ""

    def value(self) -> None:
        first = self.peek()
        if first == "{":
            self.members()
        elif first == "[":
            self.elements()
        elif first == '"':
            self.string()
        elif first and first in "tfn":
            self.literal({"t": "true", "f": "false", "n": "null"}[first])
        elif first and (first == "-" or first.isdigit()):
            self.number()
        else:
            self.fail("looking for beginning of value")

    def number(self) -> None:
        found = _NUMBER.match(self.text, self.at)
        if found is None:
            self.at += 1
            self.fail("in numeric literal")
            return
        self.at = found.end()

    def literal(self, word: str) -> None:
        for count, character in enumerate(word):
            if self.at >= len(self.text) or self.text[self.at] != character:
                self.fail(f"in literal {word} (expecting {_quoted(word[count])})")
            self.at += 1

    def string(self) -> None:
        self.at += 1
        while True:
            if self.at >= len(self.text):
                raise _Syntax(_END)
            character = self.text[self.at]
            if character == '"':
                self.at += 1
                return
            if character < " ":
                self.fail("in string literal")
            if character == "\\":
                self.at += 1
                if self.at < len(self.text) and self.text[self.at] not in '"\\/bfnrtu':
                    self.fail("in string escape code")
            self.at += 1

    def members(self) -> None:
        self.at += 1
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            if self.peek() != '"':
                self.fail("looking for beginning of object key string")
            self.string()
            if self.peek() != ":":
                self.fail("after object key")
            self.at += 1
            self.value()
            following = self.peek()
            if following == "}":
                self.at += 1
                return
            if following != ",":
                self.fail("after object key:value pair")
            self.at += 1

    def elements(self) -> None:
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            self.value()
            following = self.peek()
            if following == "]":
                self.at += 1
                return
            if following != ",":
                self.fail("after array element")
            self.at += 1


def value_name(value: object) -> str:
    """What Go calls a JSON value in `cannot unmarshal ...`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def printed(value: object) -> str:
    """A value as Go's %v prints it: `map[image:x]`."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{printed(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(printed(one) for one in value) + "]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


_METADATA_ORDER = (
    "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
    "managedFields",
)  # fmt: skip
_MANAGED_ORDER = ("manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1", "subresource")


def _ordered(value: Any, order: tuple[str, ...]) -> Any:
    return {key: value[key] for key in order if key in value} | value


def document(patched: dict[str, Any], patch: object) -> str:
    """A patched object as the real server prints it in errors: keys sorted, but for metadata the patch left alone."""

    def sorted_deep(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: sorted_deep(value[key]) for key in sorted(value)}
        if isinstance(value, list):
            return [sorted_deep(one) for one in value]
        return value

    made = sorted_deep(patched)
    metadata = made.get("metadata")
    if isinstance(metadata, dict) and not (isinstance(patch, dict) and "metadata" in patch):
        metadata = _ordered(metadata, _METADATA_ORDER)
        managed = metadata.get("managedFields")
        if isinstance(managed, list):
            metadata["managedFields"] = [_ordered(entry, _MANAGED_ORDER) for entry in managed]
        made["metadata"] = metadata
    return json.dumps(made, separators=(",", ":"), ensure_ascii=False)


_PARTS = (
    ("2006", re.compile(r"[0-9]{4}", re.ASCII)),
    ("-", re.compile("-")),
    ("01", re.compile(r"[0-9]{2}", re.ASCII)),
    ("-", re.compile("-")),
    ("02", re.compile(r"[0-9]{2}", re.ASCII)),
    ("T", re.compile("T")),
    ("15", re.compile(r"[0-9]{2}", re.ASCII)),
    (":", re.compile(":")),
    ("04", re.compile(r"[0-9]{2}", re.ASCII)),
    (":", re.compile(":")),
    ("05", re.compile(r"[0-9]{2}", re.ASCII)),
)
_ZONE = re.compile(r"Z|[-+][0-9]{2}:[0-9]{2}", re.ASCII)
_FRACTION = re.compile(r"[.,][0-9]+", re.ASCII)
_MICROS = re.compile(r"\.[0-9]{6}", re.ASCII)


def time_error(text: str, *, micro: bool = False) -> str:
    """Why Go's time.Parse refuses a text, or "" if it does not."""
    layout = "2006-01-02T15:04:05" + (".000000" if micro else "") + "Z07:00"
    head = f'parsing time "{text}" as "{layout}": '
    at = 0
    for part, form in _PARTS:
        found = form.match(text, at)
        if found is None:
            return f'{head}cannot parse "{text[at:]}" as "{part}"'
        at = found.end()
    if micro:
        found = _MICROS.match(text, at)
        if found is None or _FRACTION.match(text, at).end() != found.end():  # type: ignore[union-attr]
            return f'{head}cannot parse "{text[at:]}" as ".000000"'
        at = found.end()
    elif found := _FRACTION.match(text, at):
        at = found.end()
    found = _ZONE.match(text, at)
    if found is None:
        return f'{head}cannot parse "{text[at:]}" as "Z07:00"'
    if found.end() < len(text):
        return f'parsing time "{text}": extra text: "{text[found.end() :]}"'
    return _range_error(text)


def _range_error(text: str) -> str:
    month, day, hour, minute, second = (int(text[at : at + 2]) for at in (5, 8, 11, 14, 17))
    for name, good in (
        ("month", 1 <= month <= 12),
        ("day", 1 <= day <= 31),
        ("hour", hour < 24),
        ("minute", minute < 60),
        ("second", second < 60),
    ):
        if not good:
            return f'parsing time "{text}": {name} out of range'
    try:
        datetime(max(int(text[:4]), 1), month, day)
    except ValueError:
        return f'parsing time "{text}": day out of range'
    return ""
