"""What is wrong with the expressions of an admission policy for the built-in kinds that it is for: warnings, no errors.

A policy is taken whatever its `object` may be; its status then says which fields the kinds that it names do not have.
Rules with wildcards name no kind, and what custom resources look like is not looked into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kubesim.errors import JsonObject
from kubesim.schema import cel
from kubesim.schema.admission_cel import kinds_of
from kubesim.schema.cel import CelSyntax, Kind
from kubesim.schema.registry import Registry, ResourceType
from kubesim.schema.types import Field, ListType, MapType, ObjectType, Scalar, Type, type_of

MOST_KINDS = 10
_LETTERS = {
    **{"string": "s", "boolean": "b", "int32": "i", "int64": "i", "number": "d", "bytes": "y"},
    **{"quantity": "s", "time": "t", "micro-time": "t"},
}


class _Fields(Mapping[str, Kind]):
    """The fields of an object type, whose types are made when they are asked for: some are recursive."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> Kind:
        return kind_of(self._fields[name].type)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def kind_of(type_: Type) -> Kind:
    """A type of the schema as CEL knows it."""
    if isinstance(type_, Scalar):
        letter = _LETTERS.get(type_.kind)
        return Kind(letter) if letter else cel.DYN
    if isinstance(type_, ListType):
        return cel.list_of(kind_of(type_.element))
    if isinstance(type_, MapType):
        return cel.map_of(kind_of(type_.value))
    return _object(type_)


def _object(type_: ObjectType) -> Kind:
    return cel.object_of(type_.short, _Fields(type_.fields)) if type_.fields else cel.DYN


def type_warnings(policy: JsonObject, registry: Registry) -> list[JsonObject]:
    """The `expressionWarnings` of a ValidatingAdmissionPolicy's status."""
    spec = policy.get("spec") or {}
    types = list(_types(spec, registry))[:MOST_KINDS]
    params = _params(spec, registry)
    found: list[JsonObject] = []
    for field, expression in _expressions(spec):
        said: list[str] = []
        for rt in types:
            why = _wrong(expression, spec, _object(type_of(rt)), params)
            if why:
                said.append(f"{rt.api_version}, Kind={rt.kind}: {why}")
        if said:
            found.append({"fieldRef": field, "warning": "\n".join(said)})
    return found


def _types(spec: JsonObject, registry: Registry) -> Iterator[ResourceType]:
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        for group in rule.get("apiGroups") or ():
            for version in rule.get("apiVersions") or ():
                for plural in rule.get("resources") or ():
                    rt = registry.find(group, version, plural)
                    if rt is not None and not rt.custom:
                        yield rt


def _params(spec: JsonObject, registry: Registry) -> Kind | None:
    kind = spec.get("paramKind")
    if kind is None:
        return None
    group, _, version = (kind.get("apiVersion") or "").rpartition("/")
    rt = registry.by_kind(group, version, kind.get("kind") or "")
    return _object(type_of(rt)) if rt is not None and not rt.custom else cel.DYN


def _expressions(spec: JsonObject) -> Iterator[tuple[str, str]]:
    for at, one in enumerate(spec.get("validations") or ()):
        yield f"spec.validations[{at}].expression", one["expression"]
        if one.get("messageExpression"):
            yield f"spec.validations[{at}].messageExpression", one["messageExpression"]


def _wrong(expression: str, spec: JsonObject, kind: Kind, params: Kind | None) -> str:
    declared = tuple(one["name"] for one in spec.get("variables") or ())
    kinds = kinds_of(policy=True, params=params is not None, declared=declared)
    kinds |= {"object": kind, "oldObject": kind}
    if params is not None:
        kinds["params"] = params
    try:
        cel.compile_(expression, kinds)
    except CelSyntax as wrong:
        return str(wrong)
    return ""
