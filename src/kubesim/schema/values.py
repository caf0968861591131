"""What the schema says about values: required strings, enums, and defaults that are plain constants.

Most rules of Kubernetes are code, and that code is in `apiserver.kinds`. This is what is left for kinds, and parts
of kinds, that have none of their own.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from kubesim.errors import FieldError, JsonObject, not_supported, required
from kubesim.schema import structural
from kubesim.schema.types import Field, ListType, MapType, ObjectType, Scalar, Type


def check_field(field: Field, value: Any, path: str, found: list[FieldError]) -> None:
    """Collect the errors of one field and of all below it."""
    type_ = field.type
    if isinstance(type_, Scalar):
        if type_.kind == "string":
            if field.required and value == "":
                found.append(required(path))
            elif field.enum and value and value not in field.enum:
                found.append(not_supported(path, value, sorted(field.enum)))
        return
    if value is not None:
        _check(type_, value, path, found)


def _check(type_: Type, value: Any, path: str, found: list[FieldError]) -> None:
    if isinstance(type_, ObjectType):
        if not interesting(type_):
            return
        for name, one in value.items():
            known = type_.fields.get(name)
            if known is not None:
                check_field(known, one, f"{path}.{name}" if path else name, found)
    elif isinstance(type_, ListType):
        if not isinstance(type_.element, Scalar):
            for at, one in enumerate(value):
                _check(type_.element, one, f"{path}[{at}]", found)
    elif isinstance(type_, MapType) and not isinstance(type_.value, Scalar):
        for key, one in value.items():
            _check(type_.value, one, f"{path}[{key}]", found)


@cache
def interesting(type_: ObjectType) -> bool:
    """Whether anything in or below this type can be wrong by the schema alone."""
    return _interesting(type_, set())


def _interesting(type_: Type, seen: set[int]) -> bool:
    if isinstance(type_, ListType):
        return _interesting(type_.element, seen)
    if isinstance(type_, MapType):
        return _interesting(type_.value, seen)
    if not isinstance(type_, ObjectType) or id(type_) in seen:
        return False
    seen.add(id(type_))
    return any(
        (field.required or bool(field.enum))
        if isinstance(field.type, Scalar)
        else _interesting(field.type, seen)
        for field in type_.fields.values()
    )


def constant_defaults(type_: Type, value: Any) -> Any:
    """The value with the constant defaults of its schema (`protocol: TCP`); shares what did not change."""
    if value is None:
        return value
    if isinstance(type_, ObjectType):
        if type_.structure is not None:
            return structural.filled(type_.structure, value)
        return _object_defaults(type_, value) if has_defaults(type_) else value
    if isinstance(type_, ListType):
        if isinstance(type_.element, Scalar):
            return value
        made = [constant_defaults(type_.element, one) for one in value]
        return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
    if isinstance(type_, MapType) and not isinstance(type_.value, Scalar):
        filled = {key: constant_defaults(type_.value, one) for key, one in value.items()}
        return filled if any(filled[key] is not value[key] for key in value) else value
    return value


def _object_defaults(type_: ObjectType, value: JsonObject) -> JsonObject:
    changes: JsonObject = {}
    for name, field in type_.fields.items():
        if name in value:
            filled = constant_defaults(field.type, value[name])
            if filled is not value[name]:
                changes[name] = filled
        elif field.default is not None:
            changes[name] = field.default
    return {**value, **changes} if changes else value


@cache
def has_defaults(type_: ObjectType) -> bool:
    """Whether anything in or below this type has a constant default."""
    return _has_defaults(type_, set())


def _has_defaults(type_: Type, seen: set[int]) -> bool:
    if isinstance(type_, ListType):
        return _has_defaults(type_.element, seen)
    if isinstance(type_, MapType):
        return _has_defaults(type_.value, seen)
    if not isinstance(type_, ObjectType) or id(type_) in seen:
        return False
    seen.add(id(type_))
    return any(
        field.default is not None or _has_defaults(field.type, seen) for field in type_.fields.values()
    )
