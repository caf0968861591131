"""From what a client sent to the canonical object: types checked, unknown fields dropped or refused, zeros removed.

The canonical form is the one that the real server's wire format has after a round trip through its Go types: fields
that must be there are there (as null, {} or 0), empty ones that nobody can tell from absent are gone, quantities and
times are in their one spelling. Two objects are equal when their canonical forms are, and everything behind this
module (patches, managed fields, the store) works on canonical objects only and treats them as immutable.

Each type is compiled once into a closure. Defaults and rules about values are not here: see `defaults`, `validate`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from kubesim import errors
from kubesim.errors import JsonObject
from kubesim.schema import gojson
from kubesim.schema.bodies import Body as Body
from kubesim.schema.bodies import DecodeError as DecodeError
from kubesim.schema.bodies import duplicate_keys as duplicate_keys
from kubesim.schema.bodies import load_json as load_json
from kubesim.schema.bodies import load_yaml as load_yaml
from kubesim.schema.bodies import parse_body as parse_body
from kubesim.schema.quantity import InvalidQuantity, canonical
from kubesim.schema.registry import ResourceType
from kubesim.schema.structural import Structure, prune
from kubesim.schema.types import (
    NULL,
    PLAIN,
    ZERO,
    Field,
    ListType,
    MapType,
    ObjectType,
    Scalar,
    Type,
    go_name,
    kind_type,
    object_meta,
    type_of,
)

SCHEME = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"


@dataclass(slots=True)
class Findings:
    """What a decoding met on its way: unknown fields, in the order of the document."""

    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A canonical object and the warnings that go into the answer's headers."""

    obj: JsonObject
    warnings: list[str]


Decoder = Callable[[Any, str, Findings], Any]

_INDEX = re.compile(r"\[\d+\]")
_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_LIMITS = {"int32": 2**31, "int64": 2**63}


def _mismatch(value: object, struct: str, path: str, go: str) -> DecodeError:
    name = gojson.value_name(value)
    if name == "number" and (isinstance(value, float) or go in _LIMITS):
        name = f"number {value}"
    where = f"Go struct field {struct}.{_INDEX.sub('', path)}" if path else "Go value"
    return DecodeError(f"json: cannot unmarshal {name} into {where} of type {go}")


def _time(value: Any, path: str, findings: Findings) -> str | None:
    if value is None:
        return None
    if type(value) is not str:
        name = gojson.value_name(value)
        raise DecodeError(f"json: cannot unmarshal {name} into Go value of type string")
    try:
        if _SECONDS.fullmatch(value):
            datetime.fromisoformat(value)
            return value
        if not gojson.time_error(value):
            moment = datetime.fromisoformat(value.replace(",", ".")).astimezone(UTC)
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        pass
    raise DecodeError(gojson.time_error(value) or f'parsing time "{value}": day out of range')


def _micro_time(value: Any, path: str, findings: Findings) -> str | None:
    if value is None:
        return None
    if type(value) is not str:
        name = gojson.value_name(value)
        raise DecodeError(f"json: cannot unmarshal {name} into Go value of type string")
    why = gojson.time_error(value, micro=True)
    if why:
        raise DecodeError(why)
    if value.endswith("Z"):
        return value
    return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _quantity(value: Any, path: str, findings: Findings) -> str:
    if value is None:
        return "0"
    if type(value) is str:
        text = value.strip()
    elif isinstance(value, bool) or not isinstance(value, int | float):
        text = json.dumps(value)
    else:
        text = repr(value)
    try:
        return canonical(text)
    except InvalidQuantity as wrong:
        raise DecodeError(str(wrong)) from None


def _int_or_string(value: Any, path: str, findings: Findings) -> int | str:
    if type(value) is str:
        return value
    if value is None:
        return 0
    if type(value) is not int or not -(2**31) <= value < 2**31:
        name = gojson.value_name(value)
        shown = f"number {value}" if name == "number" else name
        raise DecodeError(f"json: cannot unmarshal {shown} into Go value of type int32")
    return value


def _bytes(value: Any, path: str, findings: Findings) -> str:
    if value is None:
        return ""
    if type(value) is not str:
        raise DecodeError(f"json: cannot unmarshal {gojson.value_name(value)} into Go value of type []uint8")
    text = value.replace("\r", "").replace("\n", "")
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError(f"illegal base64 data at input byte {_bad_base64(text)}") from None
    return text


def _bad_base64(text: str) -> int:
    for at, character in enumerate(text):
        if character == "=":
            return at if (at % 4) < 2 else len(text)
        if not (character.isascii() and (character.isalnum() or character in "+/")):
            return at
    return len(text) - len(text) % 4


def _any(value: Any, path: str, findings: Findings) -> Any:
    return value


_SPECIAL: dict[str, Decoder] = {
    "time": _time,
    "micro-time": _micro_time,
    "quantity": _quantity,
    "int-or-string": _int_or_string,
    "bytes": _bytes,
    "any": _any,
}
_ZEROS: dict[str, Any] = {
    "string": "",
    "boolean": False,
    "int32": 0,
    "int64": 0,
    "number": 0,
    "bytes": "",
    "quantity": "0",
    "int-or-string": 0,
    "time": None,
    "micro-time": None,
    "any": None,
}


def zero(type_: Type) -> Any:
    """The value of a field that nobody set."""
    if isinstance(type_, Scalar):
        return _ZEROS[type_.kind]
    if isinstance(type_, ObjectType):
        return _zero_object(type_)
    return None


@cache
def _zero_object(type_: ObjectType) -> JsonObject:
    return dict(_always(type_))


def _always(type_: ObjectType) -> list[tuple[str, Any]]:
    """The fields that an object has even if nobody gave them, with their values."""
    found: list[tuple[str, Any]] = []
    for one in type_.fields.values():
        if one.empty == ZERO:
            found.append((one.name, zero(one.type)))
        elif one.empty == NULL:
            found.append((one.name, None))
    return found


def _scalar(type_: Scalar, struct: str, go: str) -> Decoder:
    special = _SPECIAL.get(type_.kind)
    if special is not None:
        return special
    go = go or type_.go
    if type_.kind == "string":

        def decode_string(value: Any, path: str, findings: Findings) -> Any:
            if type(value) is str:
                return value
            if value is None:
                return ""
            raise _mismatch(value, struct, path, go)

        return decode_string
    if type_.kind == "boolean":

        def decode_boolean(value: Any, path: str, findings: Findings) -> Any:
            if type(value) is bool:
                return value
            if value is None:
                return False
            raise _mismatch(value, struct, path, go)

        return decode_boolean
    if type_.kind == "number":

        def decode_number(value: Any, path: str, findings: Findings) -> Any:
            if type(value) is float or type(value) is int:
                return value
            if value is None:
                return 0
            raise _mismatch(value, struct, path, go)

        return decode_number
    limit = _LIMITS[type_.kind]

    def decode_integer(value: Any, path: str, findings: Findings) -> Any:
        if type(value) is int and -limit <= value < limit:
            return value
        if value is None:
            return 0
        raise _mismatch(value, struct, path, go)

    return decode_integer


def _list(type_: ListType, struct: str, go: str) -> Decoder:
    element = type_.element
    decode = _decoder(element, struct, go)
    named = "[]" + (go or go_name(element))
    plain = isinstance(element, Scalar)

    def decode_list(value: Any, path: str, findings: Findings) -> Any:
        if type(value) is not list:
            if value is None:
                return None
            raise _mismatch(value, struct, path, named)
        if plain:
            return [decode(one, path, findings) for one in value]
        return [decode(one, f"{path}[{at}]", findings) for at, one in enumerate(value)]

    return decode_list


def _map(type_: MapType, struct: str, go: str) -> Decoder:
    value_type = type_.value
    decode = _decoder(value_type, struct, go)
    named = "map[string]" + (go or go_name(value_type))
    text = isinstance(value_type, Scalar) and value_type.kind == "string"
    plain = isinstance(value_type, Scalar)

    def decode_map(value: Any, path: str, findings: Findings) -> Any:
        if type(value) is not dict:
            if value is None:
                return None
            raise _mismatch(value, struct, path, named)
        if text and all(type(one) is str for one in value.values()):
            return value
        if plain:
            return {key: decode(one, path, findings) for key, one in value.items()}
        return {key: decode(one, f"{path}.{key}", findings) for key, one in value.items()}

    return decode_map


def _keeps_zero(one: Field) -> bool:
    """Whether a zero value that was given is written."""
    if isinstance(one.type, ListType | MapType):
        return False
    if isinstance(one.type, Scalar) and one.type.kind in ("time", "micro-time"):
        return False
    return one.empty != PLAIN


class _Object:
    """The decoder of one object type; its plan is made at the first use, because types may be recursive."""

    def __init__(self, type_: ObjectType) -> None:
        self.type = type_
        self.plan: dict[str, tuple[str, Decoder, bool]] | None = None
        self.always: list[tuple[str, Any]] = []

    def prepare(self) -> dict[str, tuple[str, Decoder, bool]]:
        struct = self.type.short
        plan = {}
        for one in self.type.fields.values():
            kind = one.type.kind if isinstance(one.type, Scalar) and not one.go else ""
            plan[one.name] = (kind, _decoder(one.type, struct, one.go), _keeps_zero(one))
        self.always = _always(self.type)
        self.plan = plan
        return plan

    def __call__(self, value: Any, path: str, findings: Findings) -> Any:
        plan = self.plan or self.prepare()
        if type(value) is not dict:
            if value is None:
                return _zero_object(self.type)
            raise self.wrong(value, path)
        made: JsonObject = {}
        for key, item in value.items():
            if item is None:
                if key not in plan:
                    self.unknown(key, item, made, path, findings)
                continue
            known = plan.get(key)
            if known is None:
                self.unknown(key, item, made, path, findings)
                continue
            kind, decode, keep = known
            if kind != "string" or type(item) is not str:
                item = decode(item, f"{path}.{key}" if path else key, findings)
            if item or keep:
                made[key] = item
        for key, filler in self.always:
            if key not in made:
                made[key] = filler
        return made

    def unknown(self, key: str, item: Any, made: JsonObject, path: str, findings: Findings) -> None:
        if self.type.preserve:
            made[key] = item
        else:
            findings.unknown.append(f"{path}.{key}" if path else key)

    def wrong(self, value: object, path: str) -> DecodeError:
        parent = _INDEX.sub("", path)
        where = f"Go struct field .{parent}" if path else "Go value"
        return DecodeError(
            f"json: cannot unmarshal {gojson.value_name(value)} into {where} of type {self.type.go}"
        )


@cache
def _object(type_: ObjectType) -> _Object:
    return _Object(type_)


def _decoder(type_: Type, struct: str, go: str = "") -> Decoder:
    if isinstance(type_, ObjectType):
        return _object(type_)
    if isinstance(type_, ListType):
        return _list(type_, struct, go)
    if isinstance(type_, MapType):
        return _map(type_, struct, go)
    return _scalar(type_, struct, go)


def convert(type_: ObjectType, value: Any) -> tuple[JsonObject, list[str]]:
    """The canonical form and the unknown fields; raises DecodeError."""
    findings = Findings()
    if type_.structure is not None:
        return _convert_custom(type_.structure, value, findings)
    made: JsonObject = _object(type_)(value, "", findings)
    return made, findings.unknown


def _convert_custom(
    structure: Structure, value: JsonObject, findings: Findings
) -> tuple[JsonObject, list[str]]:
    """A custom resource: only its metadata has Go types behind it, the rest is pruned and not looked into."""
    decode_meta = _object(object_meta())

    def metadata(meta: Any, path: str) -> JsonObject:
        made: JsonObject = decode_meta(meta, path, findings)
        return made

    made: JsonObject = prune(structure, {"metadata": None} | value, "", findings.unknown, metadata)
    return made, sorted(findings.unknown)


def canonical_object(rt: ResourceType, value: JsonObject) -> JsonObject:
    """The canonical form of an object that the server itself made; unknown fields are dropped."""
    return _head(rt, convert(type_of(rt), value)[0])


def _head(rt: ResourceType, obj: JsonObject) -> JsonObject:
    """kind and apiVersion first, as people expect them."""
    return {"kind": rt.kind, "apiVersion": rt.api_version} | obj


def strict_texts(unknown: Sequence[str], duplicates: Sequence[str]) -> list[str]:
    """The parts of a strict decoding error, which are also the warnings."""
    return [*duplicates, *(f'unknown field "{path}"' for path in unknown)]


def decode(
    rt: ResourceType, raw: JsonObject, validation: str = "Warn", duplicates: Sequence[str] = ()
) -> Decoded:
    """The body of a create or an update; raises StatusError(400) in the real server's words."""
    kind = raw.get("kind") or rt.kind
    api_version = raw.get("apiVersion") or rt.api_version
    check_kind(rt, str(api_version), str(kind))
    try:
        obj, unknown = convert(type_of(rt), raw)
    except DecodeError as wrong:
        raise cannot_handle(rt, str(wrong)) from None
    texts = strict_texts(unknown, duplicates) if validation != "Ignore" else []
    if texts and validation == "Strict":
        raise cannot_handle(rt, f"strict decoding error: {', '.join(texts)}")
    return Decoded(_head(rt, obj), [text.replace("\n", " ") for text in texts])


def decode_patched(
    rt: ResourceType,
    raw: JsonObject,
    shown: Callable[[], str],
    validation: str = "Warn",
    duplicates: Sequence[str] = (),
) -> Decoded:
    """The object that a patch made. What is wrong with it is 422 with the cause `patch` and the document in it."""
    kind, api_version = raw.get("kind", rt.kind), raw.get("apiVersion", rt.api_version)
    if kind != rt.kind or api_version != rt.api_version:
        why = f'no kind "{kind}" is registered for version "{api_version}" in scheme "{SCHEME}"'
        raise errors.invalid_patch(shown(), why)
    try:
        obj, unknown = convert(type_of(rt), raw)
    except DecodeError as wrong:
        raise errors.invalid_patch(shown(), str(wrong)) from None
    texts = strict_texts(unknown, duplicates) if validation != "Ignore" else []
    if texts and validation == "Strict":
        raise errors.invalid_patch(shown(), f"strict decoding error: {', '.join(texts)}")
    return Decoded(_head(rt, obj), [text.replace("\n", " ") for text in texts])


def cannot_handle(rt: ResourceType, why: str, *, kind: str = "", version: str = "") -> errors.StatusError:
    return errors.bad_request(
        f'{kind or rt.kind} in version "{version or rt.version}" cannot be handled as a {rt.kind}: {why}'
    )


def check_kind(rt: ResourceType, api_version: str, kind: str) -> None:
    """Whether a body of this kind may be written to this resource."""
    if kind == rt.kind and api_version == rt.api_version:
        return
    group, _, version = api_version.rpartition("/")
    if rt.custom:
        _check_custom_kind(rt, api_version, kind)
    if kind_type(group, version, kind) is None:
        why = f'no kind "{kind}" is registered for version "{api_version}" in scheme "{SCHEME}"'
        raise cannot_handle(rt, why, kind=kind, version=version)
    if kind == rt.kind and group == rt.group:
        raise errors.bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version ({rt.api_version})"
        )
    internal = rt.group.partition(".")[0] or "core"
    why = f"converting ({version}.{kind}) to ({internal}.{rt.kind}): unknown conversion"
    raise cannot_handle(rt, why, kind=kind, version=version)


def _check_custom_kind(rt: ResourceType, api_version: str, kind: str) -> None:
    """Bodies of custom resources are decoded without a type: a foreign kind is a matter of validation."""
    if api_version != rt.api_version:
        raise errors.bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version ({rt.api_version})"
        )
    raise errors.invalid(rt.group_kind, "", [errors.invalid_value("kind", kind, f"must be {rt.kind}")])
