"""Whether a value obeys its openAPIV3Schema, in the words of the real server's validator.

    violations(schema, value, path, old)

On an update, what has not changed is not looked at again (ratcheting): an object that became invalid by a new
schema can still be written as long as nobody touches what is wrong. Elements of a list are compared with their
old selves only where the list is a map. CEL rules are `structural_cel`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from kubesim import errors
from kubesim.errors import FieldError, JsonObject
from kubesim.schema import expressions
from kubesim.schema.formats import fits

Schema = Mapping[str, Any]


class Absent:
    """There is no old value."""


ABSENT = Absent()


def violations(schema: Schema, value: Any, path: str = "", old: Any = ABSENT) -> list[FieldError]:
    """What is wrong with a value by its schema."""
    return list(_violations(schema, value, path, old))


def _violations(schema: Schema, value: Any, path: str, old: Any) -> Iterator[FieldError]:
    if old is not ABSENT and type(old) is type(value) and old == value:
        return
    if value is None and schema.get("nullable"):
        return
    yield from _type_errors(schema, value, path)
    enum = schema.get("enum")
    if enum and value not in enum:
        shown = [one if isinstance(one, str) else orjson.dumps(one).decode() for one in enum]
        yield errors.not_supported(path, value, shown)
    if value is None:
        return
    if isinstance(value, str):
        yield from _string_errors(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_errors(schema, value, path)
    elif isinstance(value, list):
        yield from _list_errors(schema, value, path, old)
    elif isinstance(value, dict):
        yield from _object_errors(schema, value, path, old)
    yield from _junctor_errors(schema, value, path)


def type_name(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if float(value).is_integer() else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _body(path: str) -> str:
    return f"{path} in body"


def _type_errors(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    wanted = (
        ("integer", "string") if schema.get("x-kubernetes-int-or-string") else (schema.get("type") or "",)
    )
    if wanted == ("",):
        return
    given = type_name(value)
    if given in wanted or (given == "integer" and wanted == ("number",)):
        format_ = schema.get("format") or ""
        if isinstance(value, str) and format_ and not fits(format_, value):
            why = f"{_body(path)} must be of type {format_}: {errors.quoted(value)}"
            yield FieldError(errors.TYPE_INVALID, path, why, value)
        return
    why = f'{_body(path)} must be of type {",".join(wanted)}: "{given}"'
    yield FieldError(errors.TYPE_INVALID, path, why, given)


def _string_errors(schema: Schema, value: str, path: str) -> Iterator[FieldError]:
    """Only the first mistake of a string is named."""
    most, least, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if most is not None and len(value) > most:
        yield errors.too_long(path, most)
    elif least is not None and len(value) < least:
        yield errors.invalid_value(path, value, f"{_body(path)} should be at least {least} chars long")
    elif pattern and not _fits(pattern, value):
        yield errors.invalid_value(path, value, f"{_body(path)} should match '{pattern}'")


def _fits(pattern: str, value: str) -> bool:
    """A definition with a pattern that is none is refused; one that was stored before that asks for nothing."""
    try:
        return expressions.matches(pattern, value)
    except expressions.InvalidExpression:
        return True


def _shown(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else repr(number)


def _number_errors(schema: Schema, value: float, path: str) -> Iterator[FieldError]:
    step, most, least = schema.get("multipleOf"), schema.get("maximum"), schema.get("minimum")
    if step and not math.isclose(value / step, round(value / step), rel_tol=1e-12, abs_tol=1e-12):
        yield errors.invalid_value(path, value, f"{_body(path)} should be a multiple of {_shown(step)}")
    if most is not None:
        exclusive = schema.get("exclusiveMaximum")
        if value > most or (exclusive and value == most):
            than = "less than" if exclusive else "less than or equal to"
            yield errors.invalid_value(path, value, f"{_body(path)} should be {than} {_shown(most)}")
    if least is not None:
        exclusive = schema.get("exclusiveMinimum")
        if value < least or (exclusive and value == least):
            than = "greater than" if exclusive else "greater than or equal to"
            yield errors.invalid_value(path, value, f"{_body(path)} should be {than} {_shown(least)}")


def _list_errors(schema: Schema, value: list[Any], path: str, old: Any) -> Iterator[FieldError]:
    least, most = schema.get("minItems"), schema.get("maxItems")
    if least is not None and len(value) < least:
        yield errors.invalid_value(path, len(value), f"{_body(path)} should have at least {least} items")
    if most is not None and len(value) > most:
        yield errors.too_many(path, len(value), most)
    items = schema.get("items")
    if not isinstance(items, dict):
        return
    before = elements(schema, old)
    for at, item in enumerate(value):
        was = before.get(element_key(schema, item), ABSENT) if before else ABSENT
        yield from _violations(items, item, f"{path}[{at}]", was)


def element_key(schema: Schema, item: Any) -> str:
    """How an element of a list of type map is told from the others; empty for what cannot be."""
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if not keys or not isinstance(item, dict):
        return ""
    defaults = ((schema.get("items") or {}).get("properties")) or {}
    found = {
        key: item[key] if key in item else defaults.get(key, {}).get("default")
        for key in keys
        if key in item or defaults.get(key, {}).get("default") is not None
    }
    return orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode()


def elements(schema: Schema, value: Any) -> dict[str, Any]:
    """The elements of a list of type map by their keys."""
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(value, list):
        return {}
    return {element_key(schema, item): item for item in value}


def _object_errors(schema: Schema, value: JsonObject, path: str, old: Any) -> Iterator[FieldError]:
    least, most = schema.get("minProperties"), schema.get("maxProperties")
    if least is not None and len(value) < least:
        yield errors.invalid_value(path, len(value), f"{_body(path)} should have at least {least} properties")
    if most is not None and len(value) > most:
        yield errors.too_many(path, len(value), most)
    for name in schema.get("required") or ():
        if name not in value:
            yield errors.required(f"{path}.{name}" if path else name)
    properties = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    for name, item in value.items():
        known = properties.get(name, more if isinstance(more, dict) else None)
        if known is not None:
            was = old.get(name, ABSENT) if isinstance(old, dict) else ABSENT
            yield from _violations(known, item, f"{path}.{name}" if path else name, was)


def _junctor_errors(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    """allOf, anyOf, oneOf, not: the real server names no field for them."""
    named = errors.quoted(path)
    if all_of := schema.get("allOf"):
        found = [violations(one, value, path) for one in all_of]
        for one in found:
            yield from one
        failed = sum(1 for one in found if one)
        if failed:
            none = ". None validated" if failed == len(found) else ""
            yield _unnamed(f"{named} must validate all the schemas (allOf){none}")
    if any_of := schema.get("anyOf"):
        found = [violations(one, value, path) for one in any_of]
        if all(found):
            yield _unnamed(f"{named} must validate at least one schema (anyOf)")
            yield from min(found, key=len)
    if one_of := schema.get("oneOf"):
        found = [violations(one, value, path) for one in one_of]
        valid = sum(1 for one in found if not one)
        if valid != 1:
            how = f"Found {valid} valid alternatives" if valid else "Found none valid"
            yield _unnamed(f"{named} must validate one and only one schema (oneOf). {how}")
            if not valid:
                yield from min(found, key=len)
    negated = schema.get("not")
    if negated is not None and not violations(negated, value, path):
        yield _unnamed(f"{named} must not validate the schema (not)")


def _unnamed(why: str) -> FieldError:
    return errors.invalid_value("<nil>", "", why)


# Lists that are sets or maps


def twins(schema: Schema, value: Any, path: str = "") -> list[FieldError]:
    """Elements of sets and of lists of type map that occur twice."""
    return list(_twins(schema, value, path))


def _twins(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    if isinstance(value, dict):
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, item in value.items():
            known = properties.get(name, more if isinstance(more, dict) else None)
            if known is not None:
                yield from _twins(known, item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield from _twins_here(schema, value, path)
        items = schema.get("items")
        if isinstance(items, dict):
            for at, item in enumerate(value):
                yield from _twins(items, item, f"{path}[{at}]")


def _twins_here(schema: Schema, value: list[Any], path: str) -> Iterator[FieldError]:
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("set", "map"):
        return
    seen: set[str] = set()
    for at, item in enumerate(value):
        if kind == "map":
            key = element_key(schema, item)
            shown = orjson.loads(key) if key else None
        else:
            key, shown = orjson.dumps(item, option=orjson.OPT_SORT_KEYS).decode(), item
        if not key:
            continue
        if key in seen:
            yield errors.duplicate(f"{path}[{at}]", shown)
        seen.add(key)
