"""What an openAPIV3Schema may look like: structural, which means that every value has exactly one place that
says its type, and that pruning and defaulting need look at nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubesim.errors import (
    FieldError,
    JsonObject,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.expressions import InvalidExpression, expression
from kubesim.schema.structural_cel import compile_error
from kubesim.schema.structural_rules import violations

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_LIST_TYPES = ("atomic", "map", "set")
_MAP_TYPES = ("atomic", "granular")
_JUNCTORS = ("allOf", "anyOf", "oneOf")
_STRUCTURE = (
    "additionalProperties",
    "default",
    "description",
    "nullable",
    "title",
    "type",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
)
"""What only the structure may say, not the conditions below allOf, anyOf, oneOf and not."""
_NOT_SUPPORTED = ("definitions", "dependencies", "patternProperties", "id", "$schema", "additionalItems")
_REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")


def schema_errors(schema: JsonObject, path: str) -> list[FieldError]:
    """What is wrong with the schema of a version."""
    found: list[FieldError] = []
    if not schema.get("type"):
        found.append(required(f"{path}.type", "must not be empty at the root"))
    elif schema["type"] != "object":
        found.append(invalid_value(f"{path}.type", schema["type"], "must be object at the root"))
    if schema.get("nullable"):
        found.append(forbidden_field(f"{path}.nullable", "nullable cannot be true at the root"))
    meta = (schema.get("properties") or {}).get("metadata") or {}
    if {*meta, *(meta.get("properties") or {})} - {
        "type",
        "description",
        "properties",
        "name",
        "generateName",
    }:
        why = (
            "must not specify anything other than name and generateName, but metadata is implicitly specified"
        )
        found.append(forbidden_field(f"{path}.properties[metadata]", why))
    found.extend(_errors(schema, path, "root"))
    return found


def _errors(schema: JsonObject, path: str, place: str) -> Iterator[FieldError]:
    yield from _plain_errors(schema, path)
    yield from _type_errors(schema, path, place)
    yield from _list_errors(schema, path)
    yield from _rule_errors(schema, path)
    for name, one in (schema.get("properties") or {}).items():
        yield from _errors(one, f"{path}.properties[{name}]", "object fields")
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        yield from _errors(more, f"{path}.additionalProperties", "object fields")
    items = schema.get("items")
    if isinstance(items, dict):
        yield from _errors(items, f"{path}.items", "array items")
    int_or_string = bool(schema.get("x-kubernetes-int-or-string"))
    for key in _JUNCTORS:
        for at, one in enumerate(schema.get(key) or ()):
            if int_or_string and key in ("anyOf", "allOf") and _names_both(schema, key, one):
                continue
            yield from _condition_errors(one, f"{path}.{key}[{at}]")
    if isinstance(schema.get("not"), dict):
        yield from _condition_errors(schema["not"], f"{path}.not")
    default = schema.get("default")
    if default is not None:
        yield from violations(schema, default, f"{path}.default")


_BOTH = [{"type": "integer"}, {"type": "string"}]


def _names_both(schema: JsonObject, key: str, one: Any) -> bool:
    """The form in which generators write int-or-string: `anyOf: [{type: integer}, {type: string}]`."""
    if key == "anyOf":
        return bool(schema["anyOf"] == _BOTH)
    return bool(isinstance(one, dict) and one.get("anyOf") == _BOTH)


def _plain_errors(schema: JsonObject, path: str) -> Iterator[FieldError]:
    if schema.get("$ref"):
        yield forbidden_field(f"{path}.$ref", "$ref is not supported")
    for key in _NOT_SUPPORTED:
        if schema.get(key):
            yield forbidden_field(f"{path}.{key}", f"{key} is not supported")
    if schema.get("uniqueItems"):
        why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield forbidden_field(f"{path}.uniqueItems", why)
    if schema.get("pattern"):
        try:
            expression(schema["pattern"])
        except InvalidExpression as wrong:
            why = f"must be a valid regular expression, but isn't: {wrong}"
            yield invalid_value(f"{path}.pattern", schema["pattern"], why)
    if schema.get("additionalProperties") is False:
        yield forbidden_field(f"{path}.additionalProperties", "additionalProperties cannot be set to false")
    if schema.get("properties") and schema.get("additionalProperties") not in (None, False):
        why = "additionalProperties and properties are mutual exclusive"
        yield forbidden_field(f"{path}.additionalProperties", why)
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        yield invalid_value(
            f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined"
        )
    if isinstance(schema.get("items"), list):
        why = "items must be a schema object and not an array"
        yield forbidden_field(f"{path}.items", why)


def _type_errors(schema: JsonObject, path: str, place: str) -> Iterator[FieldError]:
    kind = schema.get("type") or ""
    int_or_string = schema.get("x-kubernetes-int-or-string")
    preserve = schema.get("x-kubernetes-preserve-unknown-fields")
    if kind and kind not in _TYPES:
        yield not_supported(f"{path}.type", kind, _TYPES)
    if not kind and not int_or_string and not preserve and place != "root":
        yield required(f"{path}.type", f"must not be empty for specified {place}")
    if kind and int_or_string:
        why = "must be empty if x-kubernetes-int-or-string is true"
        yield invalid_value(f"{path}.type", kind, why)
    if kind == "array" and not schema.get("items"):
        yield required(f"{path}.items", "must be specified")
    if schema.get("x-kubernetes-embedded-resource"):
        if kind != "object":
            why = "must be object if x-kubernetes-embedded-resource is true"
            yield (invalid_value(f"{path}.type", kind, why) if kind else required(f"{path}.type", why))
        if not preserve and not schema.get("properties"):
            yield required(
                f"{path}.properties",
                "must not be empty if x-kubernetes-embedded-resource is true without "
                "x-kubernetes-preserve-unknown-fields",
            )


def _list_errors(schema: JsonObject, path: str) -> Iterator[FieldError]:
    kind, map_type = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-map-type")
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if kind is not None:
        if kind not in _LIST_TYPES:
            yield not_supported(f"{path}.x-kubernetes-list-type", kind, _LIST_TYPES)
        if schema.get("type") != "array":
            why = "must be array if x-kubernetes-list-type is specified"
            yield invalid_value(f"{path}.type", schema.get("type", ""), why)
    if map_type is not None:
        if map_type not in _MAP_TYPES:
            yield not_supported(f"{path}.x-kubernetes-map-type", map_type, _MAP_TYPES)
        if schema.get("type") != "object":
            why = "must be object if x-kubernetes-map-type is specified"
            yield invalid_value(f"{path}.type", schema.get("type", ""), why)
    where = f"{path}.x-kubernetes-list-map-keys"
    if kind == "map" and not keys:
        yield required(where, "must not be empty if x-kubernetes-list-type is map")
    if keys and kind != "map":
        yield forbidden_field(where, "must not be specified if x-kubernetes-list-type is not map")
    items = schema.get("items")
    if kind == "map" and isinstance(items, dict):
        if items.get("type") != "object":
            why = "must be object if parent array's x-kubernetes-list-type is map"
            yield invalid_value(f"{path}.items.type", items.get("type", ""), why)
        properties = items.get("properties") or {}
        for at, key in enumerate(keys):
            if key not in properties:
                yield invalid_value(
                    f"{where}[{at}]",
                    key,
                    "must be the name of an item's property if x-kubernetes-list-type is map",
                )
            elif key not in (items.get("required") or ()) and properties[key].get("default") is None:
                yield required(
                    f"{path}.items.properties[{key}].default",
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required "
                    "property",
                )


def _condition_errors(schema: JsonObject, path: str) -> Iterator[FieldError]:
    """Below allOf, anyOf, oneOf and not there are conditions only."""
    for key in _STRUCTURE:
        value = schema.get(key)
        if value or (key == "default" and value is not None):
            yield forbidden_field(f"{path}.{key}", "must be empty to be structural")
    for name, one in (schema.get("properties") or {}).items():
        yield from _condition_errors(one, f"{path}.properties[{name}]")
    if isinstance(schema.get("items"), dict):
        yield from _condition_errors(schema["items"], f"{path}.items")
    for key in _JUNCTORS:
        for at, one in enumerate(schema.get(key) or ()):
            yield from _condition_errors(one, f"{path}.{key}[{at}]")
    if isinstance(schema.get("not"), dict):
        yield from _condition_errors(schema["not"], f"{path}.not")


def _expression_errors(
    schema: JsonObject, rule: JsonObject, where: str, *, root: bool
) -> Iterator[FieldError]:
    optional = bool(rule.get("optionalOldSelf"))
    why = compile_error(rule["rule"], schema, root=root, optional=optional)
    if why:
        yield invalid_value(f"{where}.rule", rule["rule"], why)
    expression = rule.get("messageExpression")
    if expression is not None:
        why = compile_error(expression, schema, "s", root=root, optional=optional)
        if why:
            yield invalid_value(f"{where}.messageExpression", expression, f"messageExpression {why}")


def _rule_errors(schema: JsonObject, path: str) -> Iterator[FieldError]:
    for at, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        where = f"{path}.x-kubernetes-validations[{at}]"
        if not (rule.get("rule") or "").strip():
            yield required(f"{where}.rule", "rule is not specified")
        else:
            yield from _expression_errors(schema, rule, where, root=path.endswith("openAPIV3Schema"))
        message = rule.get("message")
        if message is not None and "\n" in message:
            yield invalid_value(f"{where}.message", message, "message must not contain line breaks")
        if rule.get("reason") and rule["reason"] not in _REASONS:
            yield not_supported(f"{where}.reason", rule["reason"], _REASONS)
