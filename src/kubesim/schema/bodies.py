"""Request bodies: JSON and YAML texts as documents, with the keys that occur twice, in the real server's words.

What a document means is `decode`'s business; here it only has to be an object, or to be refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
import yaml

from kubesim import errors
from kubesim.errors import JsonObject
from kubesim.schema import gojson


class DecodeError(ValueError):
    """The document does not fit the type; the message is what the real decoder says."""


@dataclass(frozen=True, slots=True)
class Body:
    """A parsed request body; `duplicates` are sentences about keys that occurred twice."""

    value: JsonObject
    duplicates: tuple[str, ...] = ()


def parse_body(content_type: str, body: bytes, kind: str = "") -> Body:
    """The document in a request body, JSON or YAML; `kind` is what the message names if it cannot be read."""
    media = content_type.partition(";")[0].strip().lower()
    if media in ("application/yaml", "application/apply-patch+yaml"):
        return _parse_yaml(body, kind)
    if media not in ("", "application/json"):
        raise errors.unsupported_media()
    return _parse_json(body, kind)


def _unrecognized(body: bytes, kind: str, why: str) -> errors.StatusError:
    limit = 30
    if not body:
        summary = "<empty>"
    elif body[:1] == b"{":
        summary = body[:limit].decode("utf-8", "replace") + (" ..." if len(body) > limit else "")
    else:
        summary = body[:limit].hex() + (" ..." if len(body) > limit else "")
    return errors.bad_request(
        f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; {why} ({summary})"
    )


_HEADER_STRUCT = (
    'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
)


def _parse_json(body: bytes, kind: str) -> Body:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        why = gojson.syntax_error(body) or "invalid UTF-8 in string"
        raise _unrecognized(body, kind, f"json parse error: {why}") from None
    return Body(_checked(value, body, kind), duplicate_keys(value, body))


def _checked(value: Any, body: bytes, kind: str) -> JsonObject:
    if value is None:
        return {}
    if not isinstance(value, dict):
        name = gojson.value_name(value)
        why = f"json parse error: json: cannot unmarshal {name} into Go value of type {_HEADER_STRUCT}"
        raise _unrecognized(body, kind, why)
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str | None):
            name = gojson.value_name(value[key])
            why = (
                f"json parse error: json: cannot unmarshal {name} into Go struct field .{key} of type string"
            )
            raise _unrecognized(body, kind, why)
    return value


def duplicate_keys(value: object, body: bytes) -> tuple[str, ...]:
    """A sentence for each key that occurs twice in a JSON text, of which `value` is the parsed form.

    Nearly always there is none, and then the text has as many `":` as the value written again: cheap to see.
    """
    if b'" :' not in body and body.count(b'":') == orjson.dumps(value).count(b'":'):
        return ()
    found: list[str] = []
    _duplicates(json.loads(body, object_pairs_hook=_Pairs), "", found)
    return tuple(f'duplicate field "{path}"' for path in found)


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object as they were written."""


def _duplicates(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, item in value:
            below = f"{path}.{key}" if path else key
            if key in seen and below not in found:
                found.append(below)
            seen.add(key)
            _duplicates(item, below, found)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            _duplicates(item, f"{path}[{at}]", found)


_MOST_NODES = 1_000_000
_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+)", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", re.ASCII
)
_BOOLEAN = re.compile("y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF")


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML as Kubernetes reads it: the booleans of YAML 1.1, times and 12:30 stay text, duplicate keys are noted."""

    duplicates: list[str]


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = _text(loader, node).replace("_", "").lower()
    digits = text.lstrip("+-")
    base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2]) or (8 if len(digits) > 1 and digits[0] == "0" else 10)
    return int(text, base)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    number = float(_text(loader, node).replace("_", ""))
    return int(number) if number.is_integer() else number


def _boolean(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    return _text(loader, node).lower() in ("y", "yes", "true", "on")


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)
    made: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        text = key if isinstance(key, str) else json.dumps(key)
        if text in made:
            line = key_node.start_mark.line + 1
            loader.duplicates.append(f'  line {line}: key "{text}" already set in map')
        made[text] = loader.construct_object(value_node, deep=True)
    return made


_OURS = {_TAG + name for name in ("bool", "int", "float", "timestamp", "value")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag not in _OURS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _form, _first in (
    ("bool", _BOOLEAN, "yYnNtTfFoO"),
    ("int", _INTEGER, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_form.pattern})$", re.ASCII), list(_first))
_Loader.add_constructor(_TAG + "bool", _boolean)
_Loader.add_constructor(_TAG + "int", _integer)
_Loader.add_constructor(_TAG + "float", _float)
_Loader.add_constructor(_TAG + "map", _mapping)
_Loader.add_constructor(_TAG + "timestamp", _text)
_Loader.add_constructor(_TAG + "binary", _text)


class _Dumper(yaml.CSafeDumper if hasattr(yaml, "CSafeDumper") else yaml.SafeDumper):  # type: ignore[misc]
    """Quotes what any reader, of YAML 1.1 or 1.2, would take for something else than text: `n`, `0o7`, a time."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {
        first: [
            *yaml.SafeLoader.yaml_implicit_resolvers.get(first, ()),
            *_Loader.yaml_implicit_resolvers.get(first, ()),
        ]
        for first in {*yaml.SafeLoader.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
    }


def dump_yaml(value: Any, *, sort_keys: bool = True) -> bytes:
    """JSON values as a YAML document."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, allow_unicode=True, default_flow_style=False, sort_keys=sort_keys
    )
    return text.encode()


def load_yaml(body: bytes) -> Any:
    """A YAML document as JSON values; raises DecodeError."""
    return _load(body)[0]


def _load(body: bytes) -> tuple[Any, list[str]]:
    """A YAML document and the keys that occur twice in it."""
    try:
        loader = _Loader(body)
        loader.duplicates = []
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as wrong:
        mark = getattr(wrong, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        problem = getattr(wrong, "problem", None) or str(wrong)
        raise DecodeError(f"error converting YAML to JSON: yaml: {where}{problem}") from None
    if b"*" in body and b"&" in body:
        _unfold(value)
    return value, loader.duplicates


def _unfold(value: Any) -> None:
    """Refuses a document whose aliases make it explode or go round in a circle."""
    waiting, seen = [value], 0
    while waiting:
        one = waiting.pop()
        seen += 1
        if seen > _MOST_NODES:
            raise DecodeError("error converting YAML to JSON: yaml: document contains excessive aliasing")
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _parse_yaml(body: bytes, kind: str) -> Body:
    try:
        value, duplicates = _load(body)
    except DecodeError as wrong:
        raise _unrecognized(body, kind, str(wrong)) from None
    lines = "\n".join(duplicates)
    return Body(_checked(value, body, kind), (f"yaml: unmarshal errors:\n{lines}",) if duplicates else ())
