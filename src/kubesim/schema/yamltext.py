"""YAML as Kubernetes reads it: a document becomes JSON values, and the other way round.

The booleans of YAML 1.1, times and 12:30 stay text, keys that occur twice are noted, tags choose nothing but scalars.
Texts come from anybody: values are built from the parser's events and never from its tree, because that is made by
recursion in C and a few kilobytes of `- - - -` end the process; depth and what aliases make of a text are bounded.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import yaml

MOST_DEPTH = 200
"""Of a document; with what the server adds (managed fields), it has to stay below what can be encoded."""
_MOST_NODES = 1_000_000
_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+)", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", re.ASCII
)
_BOOLEAN = re.compile("y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF")
_SIXTY_FOUR_BITS = range(-(2**63), 2**64)


class InvalidYaml(ValueError):
    """No YAML, or more than is read here; the message begins as Go's does."""


class _Parser(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """The source of events, and what a plain scalar is."""


_OURS = {_TAG + name for name in ("bool", "int", "float", "timestamp", "value")}
_Parser.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag not in _OURS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _form, _first in (
    ("bool", _BOOLEAN, "yYnNtTfFoO"),
    ("int", _INTEGER, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
):
    _Parser.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_form.pattern})$", re.ASCII), list(_first))


class _Dumper(yaml.CSafeDumper if hasattr(yaml, "CSafeDumper") else yaml.SafeDumper):  # type: ignore[misc]
    """Quotes what any reader, of YAML 1.1 or 1.2, would take for something else than text: `n`, `0o7`, a time."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {
        first: [
            *yaml.SafeLoader.yaml_implicit_resolvers.get(first, ()),
            *_Parser.yaml_implicit_resolvers.get(first, ()),
        ]
        for first in {*yaml.SafeLoader.yaml_implicit_resolvers, *_Parser.yaml_implicit_resolvers}
    }


def dump_yaml(value: Any, *, sort_keys: bool = True) -> bytes:
    """JSON values as a YAML document."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, allow_unicode=True, default_flow_style=False, sort_keys=sort_keys
    )
    return text.encode()


def read_yaml(body: bytes) -> tuple[Any, list[str]]:
    """A document and sentences about the keys that occur twice in it. Raises InvalidYaml."""
    try:
        parser = _Parser(body)
        try:
            return _Document(parser).read()
        finally:
            parser.dispose()
    except yaml.YAMLError as wrong:
        mark = getattr(wrong, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise InvalidYaml(f"yaml: {where}{getattr(wrong, 'problem', None) or wrong}") from None


class _Document:
    """One document while it is read. `nodes` counts values as if each alias were written out."""

    def __init__(self, parser: _Parser) -> None:
        self._parser = parser
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._duplicates: list[str] = []
        self._nodes = 0

    def read(self) -> tuple[Any, list[str]]:
        self._parser.get_event()  # the stream's start
        if self._parser.check_event(yaml.StreamEndEvent):
            return None, []
        self._parser.get_event()
        value = self._value(self._parser.get_event(), 1)
        self._parser.get_event()
        if not self._parser.check_event(yaml.StreamEndEvent):
            raise InvalidYaml("yaml: expected a single document in the stream")
        return value, self._duplicates

    def _count(self, nodes: int = 1) -> None:
        self._nodes += nodes
        if self._nodes > _MOST_NODES:
            raise InvalidYaml("yaml: document contains excessive aliasing")

    def _value(self, event: Any, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise InvalidYaml(f"yaml: line {event.start_mark.line + 1}: exceeded max depth of {MOST_DEPTH}")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._nodes
        self._count()
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(self._tag(event), event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(depth)
        else:
            value = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._nodes - before
        return value

    def _alias(self, event: yaml.AliasEvent) -> Any:
        if event.anchor not in self._anchors:
            raise InvalidYaml(f"yaml: unknown anchor '{event.anchor}' referenced")
        found = self._anchors[event.anchor]
        if found is None:
            raise InvalidYaml(f"yaml: anchor '{event.anchor}' value contains itself")
        value, nodes = found
        self._count(nodes)
        return value

    def _tag(self, event: yaml.ScalarEvent) -> str:
        if event.tag is None or event.tag == "!":
            return str(self._parser.resolve(yaml.ScalarNode, event.value, event.implicit))
        return str(event.tag)

    def _sequence(self, depth: int) -> list[Any]:
        made: list[Any] = []
        while not isinstance(event := self._parser.get_event(), yaml.SequenceEndEvent):
            made.append(self._value(event, depth + 1))
        return made

    def _mapping(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := self._parser.get_event(), yaml.MappingEndEvent):
            merge = isinstance(event, yaml.ScalarEvent) and self._tag(event) == _MERGE
            key = "" if merge else self._key(event, depth)
            value = self._value(self._parser.get_event(), depth + 1)
            if merge:
                merged += value if isinstance(value, list) else [value]
                continue
            if key in made:
                line = event.start_mark.line + 1
                self._duplicates.append(f'  line {line}: key "{key}" already set in map')
            made[key] = value
        for one in merged:
            if not isinstance(one, dict):
                raise InvalidYaml("yaml: map merge requires map or sequence of maps as the value")
            for key, value in one.items():
                made.setdefault(key, value)
        return made

    def _key(self, event: Any, depth: int) -> str:
        key = self._value(event, depth + 1)
        if isinstance(key, dict | list):
            raise InvalidYaml(f"yaml: line {event.start_mark.line + 1}: invalid map key")
        return key if isinstance(key, str) else json.dumps(key)


def _scalar(tag: str, text: str) -> Any:
    try:
        match tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() in ("y", "yes", "true", "on")
            case "int":
                return _integer(text.replace("_", "").lower())
            case "float":
                number = float(text.replace("_", ""))
                whole = number.is_integer() and int(number) in _SIXTY_FOUR_BITS
                return int(number) if whole else number
    except ValueError:
        raise InvalidYaml(f"yaml: cannot decode `{text[:30]}`") from None
    return text


def _integer(text: str) -> int | float | str:
    """A whole number; one that needs more than 64 bits is what Go makes of it: a float, or, in other bases, text."""
    digits = text.lstrip("+-")
    base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2]) or (8 if len(digits) > 1 and digits[0] == "0" else 10)
    if base == 10 and len(digits) > 20:
        return float(text)
    number = int(text, base) if len(digits) <= 70 else 2**64
    if number in _SIXTY_FOUR_BITS:
        return number
    return float(text) if base == 10 else text
