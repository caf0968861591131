"""From a message to the document that it stands for.

Names are those of JSON already; what has a form of its own there (quantities, times, raw extensions) is written by a
function of its own. Go embeds some structs, which protobuf nests and JSON does not (`volumeSource` of a Volume): a
nested message whose name the schema does not know belongs into its parent.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import orjson

from kubesim import errors
from kubesim.errors import JsonObject
from kubesim.schema.types import ListType, MapType, ObjectType, Type, kind_type

MAGIC = b"k8s\0"
_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_META_KINDS = frozenset({"DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "ListOptions"})
_DEPTH = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Malformed(ValueError):
    """The bytes are no message of this type."""


class _Field(NamedTuple):
    name: str
    kind: str
    repeated: bool


@cache
def _messages() -> dict[str, dict[int, _Field]]:
    """All messages; those of maps end in an asterisk."""
    packed = files("kubesim.apiserver.protobuf").joinpath("messages.json.z").read_bytes()
    listed = json.loads(zlib.decompress(packed))
    return {
        name: {number: _Field(field, kind, bool(repeated)) for number, field, kind, repeated in fields}
        for name, fields in listed.items()
    }


def decode_body(body: bytes, kind: str) -> JsonObject:
    """The document in a request body. Raises StatusError 400."""
    if not body.startswith(MAGIC):
        shown = body.hex() if len(body) <= 30 else f"{body[:30].hex()} ..."
        raise errors.bad_request(
            f"the object provided is unrecognized (must be of type {kind}): provided data does not appear to be a "
            f"protobuf message, expected prefix [107 56 115 0] ({shown})"
        )
    try:
        envelope = _object("k8s.io.apimachinery.pkg.runtime.Unknown", body[len(MAGIC) :], None, 0, raw=True)
        head = envelope.get("typeMeta", {})
        api_version, name = head.get("apiVersion", ""), head.get("kind", "")
        group, _, version = api_version.rpartition("/")
        message = _message_name(group, version, name)
        if message not in _messages():
            raise Malformed(f"there is no protobuf form of {name} in {api_version}")
        document = _object(message, envelope.get("raw", b""), kind_type(group, version, name), 0)
    except (Malformed, IndexError, struct.error, UnicodeDecodeError, OverflowError, ValueError) as wrong:
        raise errors.bad_request(
            f"the object provided is unrecognized (must be of type {kind}): {wrong}"
        ) from None
    return {"kind": name, "apiVersion": api_version, **document}


def _message_name(group: str, version: str, kind: str) -> str:
    if kind in _META_KINDS:
        return f"{_META}.{kind}"
    package = group.partition(".")[0] if group else "core"
    return f"k8s.io.api.{package}.{version}.{kind}"


def _pieces(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(number, wire type, value) of each field."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, wire, value
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > end:
                raise Malformed("unexpected EOF")
            yield number, wire, data[at : at + size]
            at += size
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            yield number, wire, data[at : at + size]
            at += size
        else:
            raise Malformed(f"illegal wireType {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise Malformed("integer overflow")


def _object(message: str, data: bytes, type_: Type | None, depth: int, *, raw: bool = False) -> JsonObject:
    if depth > _DEPTH:
        raise Malformed("nested too deeply")
    known = _messages()[message]
    made: JsonObject = {}
    for number, wire, piece in _pieces(data):
        field = known.get(number)
        if field is None:
            continue
        below = _below(type_, field.name)
        entries = _messages().get(field.kind + "*")
        if entries is not None and isinstance(piece, bytes):
            key, value = _entry(field.kind + "*", piece, below, depth)
            made.setdefault(field.name, {})[key] = value
            continue
        if raw and field.kind == "bytes":
            made[field.name] = piece
            continue
        value = _value(field.kind, wire, piece, below, depth)
        if field.repeated:
            made.setdefault(field.name, []).append(value)
        elif _embedded(type_, field) and isinstance(value, dict):
            made.update(value)
        else:
            made[field.name] = value
    return made


def _below(type_: Type | None, name: str) -> Type | None:
    """The schema's type of a member; of a list or map, that of what is in it."""
    if not isinstance(type_, ObjectType):
        return None
    field = type_.fields.get(name)
    if field is None:
        return type_  # an embedded struct: its members are those of the parent
    if isinstance(field.type, ListType):
        return field.type.element
    return field.type.value if isinstance(field.type, MapType) else field.type


def _embedded(type_: Type | None, field: _Field) -> bool:
    return isinstance(type_, ObjectType) and field.name not in type_.fields and field.kind in _messages()


def _entry(message: str, data: bytes, below: Type | None, depth: int) -> tuple[str, Any]:
    """One key and value of a map."""
    known = _messages()[message]
    key, value = "", _empty(known[2].kind)
    for number, wire, piece in _pieces(data):
        if number == 1 and isinstance(piece, bytes):
            key = piece.decode()
        elif number == 2:
            value = _value(known[2].kind, wire, piece, below, depth)
    return key, value


def _empty(kind: str) -> Any:
    if kind in ("string", "bytes"):
        return ""
    return {} if kind in _messages() and kind not in _SPECIAL else None


def _value(kind: str, wire: int, piece: int | bytes, type_: Type | None, depth: int) -> Any:
    if isinstance(piece, int):
        if kind == "bool":
            return bool(piece)
        return piece - (1 << 64) if kind == "int" and piece >= 1 << 63 else piece
    if kind == "string":
        return piece.decode()
    if kind == "bytes":
        return base64.b64encode(piece).decode()
    if kind in ("double", "float"):
        return struct.unpack("<d" if wire == 1 else "<f", piece)[0]
    special = _SPECIAL.get(kind)
    if special is not None:
        return special(_object(kind, piece, None, depth + 1, raw=True))
    if kind not in _messages():
        raise Malformed(f"there is no message {kind}")
    made = _object(kind, piece, type_, depth + 1)
    # A type that is nothing but a list (extra values of users) is a list in JSON.
    return made.get("items", []) if isinstance(type_, ListType) or kind.endswith(".ExtraValue") else made


# Forms of their own


def _time(message: JsonObject) -> str | None:
    if not message:
        return None
    moment = _EPOCH + timedelta(seconds=message.get("seconds", 0))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _micro_time(message: JsonObject) -> str | None:
    if not message:
        return None
    microseconds = message.get("nanos", 0) // 1000
    moment = _EPOCH + timedelta(seconds=message.get("seconds", 0), microseconds=microseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _int_or_string(message: JsonObject) -> int | str:
    if message.get("type", 0) == 1:
        return str(message.get("strVal", ""))
    return int(message.get("intVal", 0))


def _raw(message: JsonObject) -> Any:
    text = message.get("raw") or message.get("Raw")
    return orjson.loads(text) if text else None


_SPECIAL: dict[str, Callable[[JsonObject], Any]] = {
    f"{_META}.Time": _time,
    f"{_META}.MicroTime": _micro_time,
    f"{_META}.Duration": lambda message: f"{message.get('duration', 0) / 1e9:g}s",
    f"{_META}.FieldsV1": _raw,
    f"{_META}.Verbs": lambda message: message.get("items", []),
    "k8s.io.apimachinery.pkg.api.resource.Quantity": lambda message: message.get("string", "0"),
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    "k8s.io.apimachinery.pkg.runtime.RawExtension": _raw,
}
