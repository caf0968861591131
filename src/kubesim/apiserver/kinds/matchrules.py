"""What webhook configurations and admission policies have in common: rules, selectors, match conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kubesim.apiserver.kinds.placement import label_selector
from kubesim.apiserver.kinds.pod_defaults import filled
from kubesim.errors import FieldError, JsonObject, duplicate, invalid_value, not_supported, required, too_many
from kubesim.schema import cel
from kubesim.schema.admission_cel import mistake
from kubesim.schema.meta import qualified_name

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_MOST_CONDITIONS = 64
Compile = Callable[[str], cel.Program]


def rule_defaults(rule: JsonObject) -> JsonObject:
    return filled(rule, {"scope": "*"})


def rule_errors(rule: JsonObject, path: str) -> Iterator[FieldError]:
    """Of one rule with operations."""
    operations = rule.get("operations") or []
    yield from _wild(operations, f"{path}.operations", "operations")
    for at, one in enumerate(operations):
        if one not in _OPERATIONS:
            yield not_supported(f"{path}.operations[{at}]", one, _OPERATIONS)
    for key, words in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        yield from _wild(rule.get(key) or [], f"{path}.{key}", words)
    for at, one in enumerate(rule.get("apiVersions") or ()):
        if not one:
            yield required(f"{path}.apiVersions[{at}]")
    yield from _resource_errors(rule.get("resources") or [], f"{path}.resources")
    if rule.get("scope") is not None and rule["scope"] not in _SCOPES:
        yield not_supported(f"{path}.scope", rule["scope"], _SCOPES)


def _wild(listed: Sequence[str], path: str, words: str) -> Iterator[FieldError]:
    if not listed:
        yield required(path)
    elif len(listed) > 1 and "*" in listed:
        yield invalid_value(path, list(listed), f"if '*' is present, must not specify other {words}")


def _resource_errors(listed: list[str], path: str) -> Iterator[FieldError]:
    if not listed:
        yield required(path)
    anything: set[str] = set()
    subs: set[str] = set()
    for at, one in enumerate(listed):
        where = f"{path}[{at}]"
        if not one:
            yield required(where)
            continue
        if one == "*/*" and len(listed) > 1:
            yield invalid_value(path, listed, "if '*/*' is present, must not specify other resources")
        name, slash, sub = one.partition("/")
        if slash and sub in subs:
            yield invalid_value(where, one, f"if '*/{sub}' is present, must not specify {one}")
        if slash and name in anything:
            yield invalid_value(where, one, f"if '{name}/*' is present, must not specify {one}")
        if slash and name == "*":
            subs.add(sub)
        if slash and sub == "*":
            anything.add(name)
    if len(listed) > 1 and "*" in listed and not any("/" in one for one in listed):
        why = "if '*' is present, must not specify other resources without subresources"
        yield invalid_value(path, listed, why)


def selector_errors(hook: JsonObject, path: str) -> Iterator[FieldError]:
    for key in ("namespaceSelector", "objectSelector"):
        yield from label_selector(hook.get(key), f"{path}.{key}")


def condition_errors(
    conditions: list[JsonObject] | None, path: str, compiled: Compile
) -> Iterator[FieldError]:
    """Of `matchConditions`."""
    listed = conditions or []
    if len(listed) > _MOST_CONDITIONS:
        yield too_many(path, len(listed), _MOST_CONDITIONS)
    seen: set[str] = set()
    for at, one in enumerate(listed):
        name, where = one.get("name") or "", f"{path}[{at}]"
        yield from expression_errors(one.get("expression"), f"{where}.expression", compiled, "b")
        if not name:
            yield required(f"{where}.name")
            continue
        yield from (invalid_value(f"{where}.name", name, why) for why in qualified_name(name))
        if name in seen:
            yield duplicate(f"{where}.name", name)
        seen.add(name)


def expression_errors(
    expression: Any, path: str, compiled: Compile, result: str, missing: str = ""
) -> Iterator[FieldError]:
    """Of an expression that has to be there, and to compile to a type."""
    text = expression or ""
    if not text.strip():
        yield required(path, missing)
    elif why := mistake(lambda: compiled(text), result):
        yield invalid_value(path, text, why)
