"""Request bodies: JSON and YAML texts as documents, with the keys that occur twice, in the real server's words.

What a document means is `decode`'s business; here it only has to be an object, or to be refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson
import yaml

from kubesim import errors
from kubesim.errors import JsonObject
from kubesim.schema import gojson


class DecodeError(ValueError):
    """The document does not fit the type; the message is what the real decoder says."""


@dataclass(frozen=True, slots=True)
class Body:
    """A parsed request body; `duplicates` are the paths of keys that occurred twice."""

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
    """The paths of keys that occur twice in a JSON text, of which `value` is the parsed form.

    Nearly always there is none, and then the text has as many `":` as the value written again: cheap to see.
    """
    if b'" :' not in body and body.count(b'":') == orjson.dumps(value).count(b'":'):
        return ()
    found: list[str] = []
    _duplicates(json.loads(body, object_pairs_hook=_Pairs), "", found)
    return tuple(found)


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


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML as Kubernetes reads it: YAML 1.1 booleans, times stay text, duplicate keys are noted."""

    duplicates: list[str]


def _timestamp(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)
    made: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        text = key if isinstance(key, str) else json.dumps(key)
        if text in made:
            line = key_node.start_mark.line + 1
            loader.duplicates.append(
                f'yaml: unmarshal errors:\n  line {line}: key "{text}" already set in map'
            )
        made[text] = loader.construct_object(value_node, deep=True)
    return made


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _timestamp)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:[yYnN])$"), list("yYnN"))


def _boolean(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)).lower() in ("y", "yes", "true", "on")


_Loader.add_constructor("tag:yaml.org,2002:bool", _boolean)


def load_yaml(body: bytes) -> Any:
    """A YAML document as JSON values; raises DecodeError."""
    try:
        loader = _Loader(body)
        loader.duplicates = []
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as wrong:
        mark = getattr(wrong, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise DecodeError(
            f"error converting YAML to JSON: yaml: {where}{getattr(wrong, 'problem', wrong)}"
        ) from None
    return value


def _parse_yaml(body: bytes, kind: str) -> Body:
    try:
        value = load_yaml(body)
    except DecodeError as wrong:
        raise _unrecognized(body, kind, str(wrong)) from None
    return Body(_checked(value, body, kind))
