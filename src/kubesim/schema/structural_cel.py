"""`x-kubernetes-validations`: rules in CEL about a value, and about its change.

The language is `schema.cel`'s; here a schema becomes the types of `self` and `oldSelf`, and a broken rule the error
that the real server has for it. A rule that cannot be compiled is refused with the definition.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from kubesim import errors
from kubesim.errors import FieldError, JsonObject
from kubesim.schema import cel
from kubesim.schema.cel import Budget, CelError, CelSyntax, Kind, Optional
from kubesim.schema.cel.functions import duration
from kubesim.schema.cel.syntax import RESERVED
from kubesim.schema.structural_rules import ABSENT, Schema, element_key, elements, type_name

RULES = "x-kubernetes-validations"
_BLOCKING = frozenset({errors.REQUIRED, errors.TOO_LONG, errors.TOO_MANY, errors.TYPE_INVALID})
_BUDGET = 10_000_000
"""What all rules of one object may cost together, as in the real server."""
_META = cel.object_of("object", {"name": cel.STRING, "generateName": cel.STRING})
_SCALARS = {
    **{
        ("string", ""): "s",
        ("string", "byte"): "y",
        ("string", "date-time"): "t",
        ("string", "datetime"): "t",
    },
    **{("string", "date"): "t", ("string", "duration"): "D", ("integer", ""): "i", ("number", ""): "d"},
    ("boolean", ""): "b",
}


def kind_of(schema: Schema, *, root: bool = False) -> Kind:
    """The type that CEL sees in a schema."""
    if schema.get("x-kubernetes-int-or-string"):
        return cel.DYN
    type_, format_ = schema.get("type") or "", schema.get("format") or ""
    letter = _SCALARS.get((type_, format_)) or _SCALARS.get((type_, ""))
    if letter:
        return Kind(letter)
    if type_ == "array":
        items = schema.get("items")
        return cel.list_of(kind_of(items) if isinstance(items, dict) else cel.DYN)
    if type_ != "object":
        return cel.DYN
    properties, more = schema.get("properties"), schema.get("additionalProperties")
    if isinstance(more, dict):
        return cel.map_of(kind_of(more))
    if schema.get("x-kubernetes-preserve-unknown-fields") or (more and not properties):
        return cel.DYN
    fields = {escaped(name): kind_of(one) for name, one in (properties or {}).items()}
    if root or schema.get("x-kubernetes-embedded-resource"):
        fields |= {"apiVersion": cel.STRING, "kind": cel.STRING, "metadata": _META}
    return cel.object_of("object", fields)


@lru_cache(maxsize=4096)
def _program(expression: str) -> cel.Program:
    """Any rule that has been accepted; types were looked at then."""
    return cel.compile_(expression, {"self": cel.DYN, "oldSelf": cel.DYN})


# What a rule may look like


def compile_error(
    rule: str, schema: Schema, result: str = "b", *, root: bool = False, optional: bool = False
) -> str:
    """Why a rule (or, with `s` for its result, a message expression) is refused, empty where it is not."""
    kind = kind_of(schema, root=root)
    try:
        made = cel.compile_(rule, {"self": kind, "oldSelf": Kind("o", kind) if optional else kind})
    except CelSyntax as wrong:
        return f"compilation failed: {wrong}"
    if made.result in (result, "*"):
        return ""
    return f"cel expression must evaluate to a {'bool' if result == 'b' else 'string'}"


# Evaluation


def broken_rules(schema: Schema, value: JsonObject, old: Any, found: list[FieldError]) -> list[FieldError]:
    """The rules that an object breaks; `found` is what is wrong with it already."""
    if any(one.type in _BLOCKING for one in found):
        why = "some validation rules were not checked because the object was invalid; correct the existing errors "
        return [errors.invalid_value("<nil>", "null", why + "to complete validation")]
    return list(_broken(schema, value, "", old, Budget(_BUDGET)))


def _broken(schema: Schema, value: Any, path: str, old: Any, budget: Budget) -> Iterator[FieldError]:
    if value is None or (old is not ABSENT and old == value):
        return
    for rule in schema.get(RULES) or ():
        yield from _judged(schema, rule, value, path, old, budget)
    if isinstance(value, dict):
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, item in value.items():
            known = properties.get(name, more if isinstance(more, dict) else None)
            if known is not None:
                was = old.get(name, ABSENT) if isinstance(old, dict) else ABSENT
                yield from _broken(known, item, f"{path}.{name}" if path else name, was, budget)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        before = elements(schema, old)
        for at, item in enumerate(value):
            was = before.get(element_key(schema, item), ABSENT) if before else ABSENT
            yield from _broken(schema["items"], item, f"{path}[{at}]", was, budget)


def _judged(
    schema: Schema, rule: JsonObject, value: Any, path: str, old: Any, budget: Budget
) -> Iterator[FieldError]:
    text = rule["rule"].strip()
    said = (rule.get("message") or "").strip()
    try:
        program = _program(rule["rule"])
        context: JsonObject = {"self": _seen(schema, value)}
        if "oldSelf" in program.names:
            optional = rule.get("optionalOldSelf")
            if old is ABSENT and not optional:
                return
            before = _seen(schema, old) if old is not ABSENT else None
            context["oldSelf"] = Optional(before, old is not ABSENT) if optional else before
        holds = program.run(context, budget)
    except CelError as wrong:
        yield errors.invalid_value(path, type_name(value), f"{wrong} evaluating rule: {said or text}")
        return
    except CelSyntax:  # of a definition that was stored by an older version of this server
        yield errors.invalid_value(path, type_name(value), f"rule compile error: {said or text}")
        return
    if holds is True:
        return
    if rule.get("messageExpression"):
        said = _message(rule["messageExpression"], context, budget) or said
    yield _failure(rule, said or f"failed rule: {text}", value, path)


def _message(expression: str, context: JsonObject, budget: Budget) -> str:
    try:
        made = _program(expression).run(context, budget)
    except (CelError, CelSyntax):
        return ""
    return made.strip() if isinstance(made, str) and "\n" not in made else ""


def _failure(rule: JsonObject, why: str, value: Any, path: str) -> FieldError:
    where = path + (rule.get("fieldPath") or "")
    where = where.removeprefix(".")
    shown = errors.OMITTED if isinstance(value, dict | list) or rule.get("fieldPath") else value
    match rule.get("reason"):
        case "FieldValueForbidden":
            return errors.forbidden_field(where, why)
        case "FieldValueRequired":
            return errors.required(where, why)
        case "FieldValueDuplicate":
            return FieldError(errors.DUPLICATE, where, why, shown)
    return errors.invalid_value(where, shown, why)


def escaped(name: str) -> str:
    """How a rule names a property whose name is no identifier."""
    if name in RESERVED or name in ("true", "false", "null", "in"):
        return f"__{name}__"
    for sign, word in (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        name = name.replace(sign, word)
    return name


def _seen(schema: Schema, value: Any) -> Any:
    """The value as CEL has it: times and durations are what their format says."""
    if isinstance(value, dict):
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        rest = more if isinstance(more, dict) else {}
        return {
            (escaped(name) if name in properties else name): _seen(properties.get(name, rest), item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        items = schema.get("items")
        return [_seen(items if isinstance(items, dict) else {}, one) for one in value]
    if isinstance(value, str):
        return _typed(schema.get("format"), value) if schema.get("type") == "string" else value
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _typed(format_: Any, text: str) -> Any:
    try:
        match format_:
            case "date-time" | "datetime" | "date":
                made = datetime.fromisoformat(text)
                return made if made.tzinfo else made.replace(tzinfo=UTC)
            case "duration":
                return _duration(text)
            case "byte":
                return base64.b64decode(text)
    except (ValueError, binascii.Error):
        return text
    return text


def _duration(text: str) -> timedelta | str:
    try:
        return duration(text)
    except CelError:
        return text
