"""The typed view of a custom resource, by which patches and managed fields see it.

Lists are atomic unless their schema says otherwise, maps are not; below `x-kubernetes-preserve-unknown-fields`
objects are taken apart and everything else is one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubesim.schema.structural import Structure, compile_schema
from kubesim.schema.types import (
    ANY,
    BOOLEAN,
    INT64,
    NUMBER,
    STRING,
    ZERO,
    Field,
    ListType,
    MapType,
    ObjectType,
    Type,
    object_meta,
    object_type,
)

_SCALARS = {"string": STRING, "integer": INT64, "number": NUMBER, "boolean": BOOLEAN}


def custom_type(group: str, version: str, kind: str, schema: Mapping[str, Any]) -> ObjectType:
    """The type of a custom resource by its openAPIV3Schema."""
    structure = compile_schema(schema, root=True)
    made = _object(structure, ".".join([*reversed(group.split(".")), version, kind]))
    made.structure = structure
    return made


def _object(one: Structure, name: str) -> ObjectType:
    fields = [
        _field(key, known, f"{name}.{key}")
        for key, known in one.properties.items()
        if not (one.resource and key in ("apiVersion", "kind", "metadata"))
    ]
    if one.resource:
        fields += [
            Field("apiVersion", STRING),
            Field("kind", STRING),
            Field("metadata", object_meta(), empty=ZERO),
        ]
    atomic = one.schema.get("x-kubernetes-map-type") == "atomic"
    return object_type(name, fields, atomic=atomic, preserve=one.preserve)


def _field(name: str, one: Structure, path: str) -> Field:
    return Field(name, _type(one, path), default=one.default)


def _type(one: Structure, path: str) -> Type:
    schema = one.schema
    if schema.get("x-kubernetes-int-or-string"):
        return ANY
    match schema.get("type"):
        case "array":
            element = _type(one.items, f"{path}.items") if one.items is not None else ANY
            keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
            return ListType(element, schema.get("x-kubernetes-list-type") or "atomic", keys)
        case "object" if one.additional is not None:
            atomic = schema.get("x-kubernetes-map-type") == "atomic"
            return MapType(_type(one.additional, f"{path}.additionalProperties"), atomic)
        case "object" if one.takes_any:
            return MapType(ANY)
        case "object":
            return _object(one, path)
        case scalar if scalar in _SCALARS:
            return _SCALARS[scalar]
    return object_type(path, (), preserve=True) if one.preserve else ANY
