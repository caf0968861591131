"""Admission policies, validating and mutating, and their bindings: defaults, and rules in the real server's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from kubesim.apiserver.kinds.base import Strategy
from kubesim.apiserver.kinds.matchrules import (
    condition_errors,
    expression_errors,
    rule_defaults,
    rule_errors,
    selector_errors,
)
from kubesim.apiserver.kinds.placement import label_selector
from kubesim.apiserver.kinds.pod_defaults import each, filled, replaced
from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.admission_cel import compiled
from kubesim.schema.meta import dns_subdomain, qualified_name
from kubesim.schema.registry import ResourceType

_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_ACTIONS = ("Audit", "Deny", "Warn")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _resources(value: Any) -> JsonObject:
    made = filled(value, {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}})
    for key in ("resourceRules", "excludeResourceRules"):
        made = replaced(made, key, each(rule_defaults))
    return made


class PolicyStrategy(Strategy):
    generation = True
    status_keeps_metadata = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        def spec(one: JsonObject) -> JsonObject:
            return replaced(filled(one, {"failurePolicy": "Fail"}), "matchConstraints", _resources)

        return replaced(obj, "spec", spec)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        mutating = rt.kind == "MutatingAdmissionPolicy"
        return list(_policy_errors(obj.get("spec") or {}, mutating))


class PolicyBindingStrategy(Strategy):
    generation = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        return replaced(obj, "spec", lambda one: replaced(one, "matchResources", _resources))

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        return list(_binding_errors(obj.get("spec") or {}, rt.kind == "ValidatingAdmissionPolicyBinding"))


def _policy_errors(spec: JsonObject, mutating: bool) -> Iterator[FieldError]:
    if spec.get("failurePolicy") not in ("Fail", "Ignore"):
        yield not_supported("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
    kind = spec.get("paramKind")
    if kind is not None:
        for key in ("apiVersion", "kind"):
            if not kind.get(key):
                yield required(f"spec.paramKind.{key}")
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield required("spec.matchConstraints")
    else:
        yield from _match_errors(constraints, "spec.matchConstraints", needs_rules=True)
    known = partial(compiled, policy=True, params=kind is not None)
    yield from condition_errors(spec.get("matchConditions"), "spec.matchConditions", known)
    declared: list[str] = []
    for at, one in enumerate(spec.get("variables") or ()):
        yield from _variable_errors(
            one, f"spec.variables[{at}]", partial(known, declared=tuple(declared)), declared
        )
        declared.append(one.get("name") or "")
    known = partial(known, declared=tuple(declared))
    yield from _mutations(spec, known) if mutating else _validations(spec, known)


def _variable_errors(one: JsonObject, path: str, known: Any, declared: list[str]) -> Iterator[FieldError]:
    name = one.get("name") or ""
    if not name.strip():
        yield required(f"{path}.name", "name is not specified")
    elif not _IDENTIFIER.fullmatch(name):
        yield invalid_value(f"{path}.name", name, "name is not a valid CEL identifier")
    elif name in declared:
        yield duplicate(f"{path}.name", name)
    yield from expression_errors(
        one.get("expression"), f"{path}.expression", known, "*bidsuyltmDTonQUPCVFX", _MISSING
    )


_MISSING = "expression is not specified"
_NEITHER = "validations or auditAnnotations must contain at least one item"


def _validations(spec: JsonObject, known: Any) -> Iterator[FieldError]:
    checks, notes = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not checks and not notes:
        yield required("spec.validations", _NEITHER)
        yield required("spec.auditAnnotations", _NEITHER)
    for at, one in enumerate(checks):
        yield from _validation_errors(one, f"spec.validations[{at}]", known)
    keys: set[str] = set()
    for at, one in enumerate(notes):
        path, key = f"spec.auditAnnotations[{at}]", one.get("key") or ""
        yield from (invalid_value(f"{path}.key", key, why) for why in qualified_name(key))
        if key in keys:
            yield duplicate(f"{path}.key", key)
        keys.add(key)
        missing = "valueExpression is not specified"
        yield from expression_errors(
            one.get("valueExpression"), f"{path}.valueExpression", known, "sn", missing
        )


def _validation_errors(one: JsonObject, path: str, known: Any) -> Iterator[FieldError]:
    expression, message = (one.get("expression") or "").strip(), one.get("message")
    yield from expression_errors(expression, f"{path}.expression", known, "b", _MISSING)
    if one.get("messageExpression"):
        yield from expression_errors(one["messageExpression"], f"{path}.messageExpression", known, "s")
    if message is not None and message and not message.strip():
        yield invalid_value(f"{path}.message", message, "message must be non-empty if specified")
    elif message and "\n" in message:
        yield invalid_value(f"{path}.message", message, "message must not contain line breaks")
    elif "\n" in expression and not message:
        yield required(f"{path}.message", "message must be specified if expression contains line breaks")
    if one.get("reason") is not None and one["reason"] not in _REASONS:
        yield not_supported(f"{path}.reason", one["reason"], _REASONS)


def _mutations(spec: JsonObject, known: Any) -> Iterator[FieldError]:
    listed = spec.get("mutations") or []
    if not listed:
        yield required("spec.mutations", "mutations must contain at least one item")
    if spec.get("reinvocationPolicy") not in ("IfNeeded", "Never"):
        if not spec.get("reinvocationPolicy"):
            yield required("spec.reinvocationPolicy")
        else:
            yield not_supported("spec.reinvocationPolicy", spec["reinvocationPolicy"], ("IfNeeded", "Never"))
    for at, one in enumerate(listed):
        path, type_ = f"spec.mutations[{at}]", one.get("patchType") or ""
        key, result = ("applyConfiguration", "m") if type_ == "ApplyConfiguration" else ("jsonPatch", "l")
        if not type_:
            yield required(f"{path}.patchType")
        elif type_ not in ("ApplyConfiguration", "JSONPatch"):
            yield not_supported(f"{path}.patchType", type_, ("ApplyConfiguration", "JSONPatch"))
        elif one.get(key) is None:
            yield required(f"{path}.{key}", f"must be specified when patchType is {type_}")
        else:
            makes = partial(known, makes=True)
            where = f"{path}.{key}.expression"
            yield from expression_errors(one[key].get("expression"), where, makes, result, _MISSING)


def _match_errors(one: JsonObject, path: str, *, needs_rules: bool) -> Iterator[FieldError]:
    policy = one.get("matchPolicy")
    if policy not in (None, "Equivalent", "Exact"):
        yield not_supported(f"{path}.matchPolicy", policy, ("Equivalent", "Exact"))
    yield from selector_errors(one, path)
    if needs_rules and not one.get("resourceRules"):
        yield required(f"{path}.resourceRules")
    for key in ("resourceRules", "excludeResourceRules"):
        for at, rule in enumerate(one.get(key) or ()):
            yield from rule_errors(rule, f"{path}.{key}[{at}]")


def _binding_errors(spec: JsonObject, validating: bool) -> Iterator[FieldError]:
    name = spec.get("policyName") or ""
    if not name:
        yield required("spec.policyName")
    else:
        yield from (invalid_value("spec.policyName", name, why) for why in dns_subdomain(name))
    reference = spec.get("paramRef")
    if reference is not None:
        yield from _reference_errors(reference)
    if spec.get("matchResources") is not None:
        yield from _match_errors(spec["matchResources"], "spec.matchResources", needs_rules=False)
    if validating:
        yield from _action_errors(spec.get("validationActions") or [])


def _reference_errors(reference: JsonObject) -> Iterator[FieldError]:
    name, selector = reference.get("name"), reference.get("selector")
    if name and selector is not None:
        for key in ("name", "selector"):
            yield forbidden_field(f"spec.paramRef.{key}", "name and selector are mutually exclusive")
    elif not name and selector is None:
        yield required("spec.paramRef", "one of name or selector must be specified")
    elif selector is not None:
        yield from label_selector(selector, "spec.paramRef.selector")
    action = reference.get("parameterNotFoundAction")
    if action is None:
        yield required("spec.paramRef.parameterNotFoundAction")
    elif action not in ("Allow", "Deny"):
        yield not_supported("spec.paramRef.parameterNotFoundAction", action, ("Deny", "Allow"))


def _action_errors(actions: list[str]) -> Iterator[FieldError]:
    path = "spec.validationActions"
    if not actions:
        yield required(path)
    for at, one in enumerate(actions):
        if one not in _ACTIONS:
            yield not_supported(f"{path}[{at}]", one, _ACTIONS)
        if one in actions[:at]:
            yield duplicate(f"{path}[{at}]", one)
    if "Deny" in actions and "Warn" in actions:
        why = "must not contain both Deny and Warn (repeating the same validation failure information in the API "
        why += "response and headers serves no purpose)"
        yield invalid_value(path, actions, why)
