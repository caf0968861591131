"""Request bodies: JSON and YAML texts as documents, with the keys that occur twice, in the real server's words.

What a document means is `decode`'s business; here it only has to be an object, or to be refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from kubesim import errors
from kubesim.errors import JsonObject
from kubesim.schema import gojson
from kubesim.schema.yamltext import MOST_DEPTH, InvalidYaml, read_yaml

_WRITABLE = 254
ReadYaml = Callable[[], tuple[Any, list[str]]]


class DecodeError(ValueError):
    """The document does not fit the type; the message is what the real decoder says."""


@dataclass(frozen=True, slots=True)
class Body:
    """A parsed request body; `duplicates` are sentences about keys that occurred twice."""

    value: JsonObject
    duplicates: tuple[str, ...] = ()


def parse_body(content_type: str, body: bytes, kind: str = "", known: ReadYaml | None = None) -> Body:
    """The document in a request body, JSON or YAML; `kind` is what the message names if it cannot be read, `known`
    gives the YAML that was read before."""
    media = content_type.partition(";")[0].strip().lower()
    if media in ("application/yaml", "application/apply-patch+yaml"):
        return _parse_yaml(known or (lambda: _load(body)), body, kind)
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
        value = load_json(body)
    except DecodeError as wrong:
        raise _unrecognized(body, kind, f"json parse error: {wrong}") from None
    return Body(_checked(value, body, kind), duplicate_keys(value, body))


def load_json(body: bytes) -> Any:
    """A JSON document; raises DecodeError with what Go says."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            why = gojson.syntax_error(body) or "invalid UTF-8 in string"
        except RecursionError:
            why = "exceeded max depth"
        raise DecodeError(why) from None
    check_depth(value, body)
    return value


def check_depth(value: Any, body: bytes) -> None:
    """Raises DecodeError for a document, read from `body`, which is too deep to be worked with."""
    if body.count(b"{") + body.count(b"[") > MOST_DEPTH and deeper(value, MOST_DEPTH):
        raise DecodeError("exceeded max depth")


def deeper(value: Any, depth: int) -> bool:
    """Whether a document is deeper than this, which is at most what orjson can write (254): it sees that by itself."""
    for _ in range(_WRITABLE - depth):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        return True
    return False


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


def load_yaml(body: bytes) -> Any:
    """A YAML document as JSON values; raises DecodeError."""
    return _load(body)[0]


def yaml_read_before(body: bytes) -> ReadYaml:
    """Read it now, which takes seconds for a large one and needs no event loop; the result gives it, or raises."""
    try:
        read = _load(body)
    except DecodeError as wrong:
        refusal = str(wrong)

        def refuse() -> tuple[Any, list[str]]:
            raise DecodeError(refusal)

        return refuse
    return lambda: read


def _load(body: bytes) -> tuple[Any, list[str]]:
    """A YAML document and the keys that occur twice in it."""
    try:
        return read_yaml(body)
    except InvalidYaml as wrong:
        raise DecodeError(f"error converting YAML to JSON: {wrong}") from None


def _parse_yaml(read: ReadYaml, body: bytes, kind: str) -> Body:
    try:
        value, duplicates = read()
    except DecodeError as wrong:
        raise _unrecognized(body, kind, str(wrong)) from None
    lines = "\n".join(duplicates)
    return Body(_checked(value, body, kind), (f"yaml: unmarshal errors:\n{lines}",) if duplicates else ())
