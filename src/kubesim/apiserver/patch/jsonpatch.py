"""JSON Patch (RFC 6902), with the few liberties of the library behind the real server.

Whatever cannot be applied is one and the same 422 that says nothing, as the real server answers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from kubesim import errors

MOST_OPERATIONS = 10_000
MOST_COPIED = 3 * 1024 * 1024


class _Refused(Exception):
    """An operation that cannot be applied."""


class Copies:
    """How much the copies of one request may still add: a few dozen could double a document beyond any memory."""

    def __init__(self) -> None:
        self._left = MOST_COPIED

    def count(self, value: Any) -> Any:
        self._left -= len(orjson.dumps(value))
        if self._left < 0:
            raise _Refused
        return value


def json_patch(document: Any, operations: Sequence[Any], copies: Copies | None = None) -> Any:
    """The document after all operations, or StatusError and no change at all."""
    copies = copies or Copies()
    if len(operations) > MOST_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {len(operations)}"
        raise errors.StatusError(413, "RequestEntityTooLarge", text)
    try:
        for operation in operations:
            document = _apply(document, operation, copies)
    except _Refused:
        raise errors.unprocessable() from None
    return document


def _apply(document: Any, operation: Any, copies: Copies) -> Any:
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
        raise _Refused
    path = _pointer(operation["path"])
    match operation.get("op"):
        case "add":
            return _add(document, path, _value(operation))
        case "remove":
            return _remove(document, path)[0]
        case "replace":
            _get(document, path)
            return _set(document, path, _value(operation))
        case "move":
            rest, value = _remove(document, _pointer(operation.get("from")))
            return _add(rest, path, value)
        case "copy":
            return _add(document, path, copies.count(_get(document, _pointer(operation.get("from")))))
        case "test":
            if _found(document, path) != operation.get("value"):
                raise _Refused
            return document
        case _:
            raise _Refused


def _value(operation: dict[str, Any]) -> Any:
    return operation.get("value")


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise _Refused
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(key: str, length: int) -> int:
    """The position that a key of a list names; negative ones count from the end."""
    try:
        at = int(key)
    except ValueError:
        raise _Refused from None
    if at < 0:
        at += length
    if not 0 <= at < length:
        raise _Refused
    return at


def _child(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        if key not in value:
            raise _Refused
        return value[key]
    if isinstance(value, list):
        return value[_index(key, len(value))]
    raise _Refused


def _get(document: Any, path: list[str]) -> Any:
    for key in path:
        document = _child(document, key)
    return document


def _found(document: Any, path: list[str]) -> Any:
    """The value at a path; a member that is not there tests as null."""
    if not path:
        return document
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        return parent.get(path[-1])
    return _child(parent, path[-1])


def _with(value: Any, key: str, made: Any) -> Any:
    """A container with one child replaced."""
    if isinstance(value, dict):
        return {**value, key: made}
    copy = list(value)
    copy[_index(key, len(copy))] = made
    return copy


def _set(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    key, rest = path[0], path[1:]
    return _with(document, key, _set(_child(document, key), rest, value))


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    key, rest = path[0], path[1:]
    if rest:
        return _with(document, key, _add(_child(document, key), rest, value))
    if isinstance(document, dict):
        return {**document, key: value}
    if not isinstance(document, list):
        raise _Refused
    copy = list(document)
    if key == "-":
        copy.append(value)
    else:
        copy.insert(_index(key, len(copy) + 1), value)
    return copy


def _remove(document: Any, path: list[str]) -> tuple[Any, Any]:
    """The document without the value at a path, and that value."""
    if not path:
        raise _Refused
    key, rest = path[0], path[1:]
    if rest:
        below, value = _remove(_child(document, key), rest)
        return _with(document, key, below), value
    value = _child(document, key)
    if isinstance(document, dict):
        return {name: one for name, one in document.items() if name != key}, value
    at = _index(key, len(document))
    return document[:at] + document[at + 1 :], value
