"""`x-kubernetes-validations`: rules in CEL about a value, and about its change.

The engine is imported when the first rule is met; where it is not installed rules are not evaluated, and whoever
writes a definition with rules is told so (`missing`). A rule that needs a function or a syntax that the engine does
not have is left out as well, and not taken for a mistake. Types are not checked beyond the names of members of
`self`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

from kubesim import errors
from kubesim.errors import FieldError, JsonObject
from kubesim.schema.structural_rules import ABSENT, Schema, element_key, elements, type_name

RULES = "x-kubernetes-validations"
_BLOCKING = frozenset({errors.REQUIRED, errors.TOO_LONG, errors.TOO_MANY, errors.TYPE_INVALID})
_MEMBER = re.compile(r"(?<![\w.])(?:self|oldSelf)\.([A-Za-z_]\w*)(?!\w)(?!\s*\()")
_NOT_HAD = ("Undefined variable or function", "unsupported syntax")


@cache
def available() -> bool:
    """Whether rules can be evaluated here."""
    return find_spec("cel") is not None


def missing() -> str:
    """What a definition with rules is warned of, empty where they are evaluated."""
    if available():
        return ""
    return (
        f"kubesim does not evaluate {RULES} without the package for CEL: "
        "pip install common-expression-language"
    )


@cache
def _engine() -> Any:
    return import_module("cel")


def _is_sorted(values: list[Any]) -> bool:
    return all(one <= other for one, other in pairwise(values))


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found[0] if found else ""


@cache
def _functions() -> dict[str, Callable[..., Any]]:
    library: dict[str, Callable[..., Any]] = dict(import_module("cel.stdlib").STDLIB_FUNCTIONS)
    return {
        **library,
        "isSorted": _is_sorted,
        "sum": lambda values: sum(values),
        "min": lambda values: min(values),
        "max": lambda values: max(values),
        "find": _find,
        "findAll": lambda text, pattern: [one[0] for one in re.finditer(pattern, text)],
    }


@lru_cache(maxsize=2048)
def _program(expression: str) -> Any:
    return _engine().compile(expression)


# What a rule may look like


def compile_error(rule: str, schema: Schema) -> str:
    """Why a rule is refused, empty where it is not."""
    if not available():
        return ""
    try:
        _program(rule)
    except ValueError as wrong:
        text = str(wrong)
        if any(one in text for one in _NOT_HAD):
            return ""
        return "compilation failed: " + text.partition(": ")[2]
    if schema.get("type") != "object" or schema.get("x-kubernetes-preserve-unknown-fields"):
        return ""
    known = {*(schema.get("properties") or {}), "apiVersion", "kind", "metadata"}
    if schema.get("additionalProperties"):
        return ""
    text = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", lambda found: " " * len(found[0]), rule)
    for found in _MEMBER.finditer(text):
        name = found[1]
        if name not in known and not (name.startswith("__") and name.endswith("__")):
            at = found.start(1) - 1
            where = f"ERROR: <input>:1:{at + 1}: undefined field '{name}'"
            return f"compilation failed: {where}\n | {rule}\n | {'.' * at}^"
    return ""


# Evaluation


def broken_rules(schema: Schema, value: JsonObject, old: Any, found: list[FieldError]) -> list[FieldError]:
    """The rules that an object breaks; `found` is what is wrong with it already."""
    if not available():
        return []
    if any(one.type in _BLOCKING for one in found):
        why = "some validation rules were not checked because the object was invalid; correct the existing errors "
        return [errors.invalid_value("<nil>", "null", why + "to complete validation")]
    return list(_broken(schema, value, "", old))


def has_rules(schema: Any) -> bool:
    """Whether there is a rule anywhere in a schema."""
    if isinstance(schema, Mapping):
        return bool(schema.get(RULES)) or any(has_rules(one) for one in schema.values())
    return isinstance(schema, list) and any(has_rules(one) for one in schema)


def _broken(schema: Schema, value: Any, path: str, old: Any) -> Iterator[FieldError]:
    if value is None or (old is not ABSENT and old == value):
        return
    for rule in schema.get(RULES) or ():
        yield from _judged(schema, rule, value, path, old)
    if isinstance(value, dict):
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, item in value.items():
            known = properties.get(name, more if isinstance(more, dict) else None)
            if known is not None:
                was = old.get(name, ABSENT) if isinstance(old, dict) else ABSENT
                yield from _broken(known, item, f"{path}.{name}" if path else name, was)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        before = elements(schema, old)
        for at, item in enumerate(value):
            was = before.get(element_key(schema, item), ABSENT) if before else ABSENT
            yield from _broken(schema["items"], item, f"{path}[{at}]", was)


def _judged(schema: Schema, rule: JsonObject, value: Any, path: str, old: Any) -> Iterator[FieldError]:
    text = rule["rule"].strip()
    said = (rule.get("message") or "").strip()
    try:
        program = _program(rule["rule"])
        context: JsonObject = {"self": _seen(schema, value)}
        if "oldSelf" in program.variables():
            optional = rule.get("optionalOldSelf")
            if old is ABSENT and not optional:
                return
            before = _seen(schema, old) if old is not ABSENT else None
            if optional:
                kind = _engine().OptionalValue
                before = kind.none() if old is ABSENT else kind.of(before)
            context["oldSelf"] = before
        holds = _evaluated(rule["rule"], context)
    except (ValueError, RuntimeError, KeyError, TypeError, ArithmeticError) as wrong:
        if any(one in str(wrong) for one in _NOT_HAD):
            return
        why = f"no such key: {wrong.args[0]}" if isinstance(wrong, KeyError) else str(wrong)
        yield errors.invalid_value(path, type_name(value), f"{why} evaluating rule: {said or text}")
        return
    if holds is True:
        return
    if rule.get("messageExpression"):
        said = _message(rule["messageExpression"], context) or said
    yield _failure(rule, said or f"failed rule: {text}", value, path)


def _evaluated(expression: str, context: JsonObject) -> Any:
    return _program(expression).execute(_engine().Context(variables=context, functions=_functions()))


def _message(expression: str, context: JsonObject) -> str:
    try:
        made = _evaluated(expression, context)
    except (ValueError, RuntimeError, KeyError, TypeError, ArithmeticError):
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


_RESERVED = frozenset(
    (
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    )
)


def _seen(schema: Schema, value: Any) -> Any:
    """The value as CEL has it: times and durations are what their format says."""
    if isinstance(value, dict):
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        rest = more if isinstance(more, dict) else {}
        made = {name: _seen(properties.get(name, rest), item) for name, item in value.items()}
        for name in made.keys() & _RESERVED & properties.keys():
            made[f"__{name}__"] = made[name]
        return made
    if isinstance(value, list):
        items = schema.get("items")
        return [_seen(items if isinstance(items, dict) else {}, one) for one in value]
    if isinstance(value, str):
        return _typed(schema.get("format"), value)
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def _typed(format_: Any, text: str) -> Any:
    if format_ in ("date-time", "datetime"):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return text
    if format_ == "duration":
        parts = _PART.findall(text)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        return timedelta(seconds=-seconds if text.startswith("-") else seconds)
    return text
