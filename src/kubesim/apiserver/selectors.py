"""Label and field selectors: read as the real server reads them, refused in its words, matched on plain maps.

    parse_label_selector("app in (a,b),!old").matches({"app": "a"})
    parse_field_selector("spec.nodeName=n1", pods).matches(field_values(pods, obj))

Selectors in objects (matchLabels, matchExpressions) become the same LabelSelector through `from_object`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kubesim import errors
from kubesim.errors import FieldError, JsonObject, invalid_value
from kubesim.schema.meta import label_value, qualified_name
from kubesim.schema.registry import ResourceType

# Labels

EQUALS, NOT_EQUALS, IN, NOT_IN, EXISTS, ABSENT, GREATER, LESS = (
    "=",
    "!=",
    "in",
    "notin",
    "exists",
    "!",
    ">",
    "<",
)
_BINARY = "in, notin, =, ==, !=, gt, lt"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator in (EQUALS, IN):
            return value is not None and value in self.values
        if self.operator in (NOT_EQUALS, NOT_IN):
            return value is None or value not in self.values
        if self.operator == EXISTS:
            return value is not None
        if self.operator == ABSENT:
            return value is None
        return self._compares(value)

    def _compares(self, value: str | None) -> bool:
        try:
            number, limit = int(value or ""), int(next(iter(self.values)))
        except ValueError:
            return False
        return number > limit if self.operator == GREATER else number < limit

    def __str__(self) -> str:
        if self.operator == EXISTS:
            return self.key
        if self.operator == ABSENT:
            return "!" + self.key
        if self.operator in (IN, NOT_IN):
            return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
        return f"{self.key}{self.operator}{''.join(self.values)}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements have to match; without any it takes everything, and as `nothing` it takes nothing."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        return not self.nothing and all(one.matches(labels) for one in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(one) for one in sorted(self.requirements, key=lambda one: one.key))


class _Unparsable(ValueError):
    """The text of a refused selector."""


_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^=!(),<> \t\r\n]+|$)")


class _Parser:
    """Follows the grammar of Kubernetes' own parser step by step, because its errors name the step."""

    def __init__(self, text: str) -> None:
        self.tokens = [found for found in _TOKEN.findall(text.rstrip(" \t\r\n")) if found]
        self.at = 0

    @property
    def ahead(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.ahead
        self.at += 1
        return token

    def parse(self) -> tuple[Requirement, ...]:
        found: list[Requirement] = []
        while self.ahead:
            if not (_is_word(self.ahead) or self.ahead == "!"):
                raise _Unparsable(f"found '{self.ahead}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self.requirement())
            except _Unparsable as wrong:
                raise _Unparsable(f"unable to parse requirement: {wrong}") from None
            token = self.take()
            if not token:
                break
            if token != ",":
                raise _Unparsable(f"found '{token}', expected: ',' or 'end of string'")
            if not (_is_word(self.ahead) or self.ahead == "!"):
                raise _Unparsable(f"found '{self.ahead}', expected: identifier after ','")
        return tuple(found)

    def requirement(self) -> Requirement:
        token, absent = self.take(), False
        if token == "!":
            token, absent = self.take(), True
        if not _is_word(token):
            raise _Unparsable(f"found '{token}', expected: identifier")
        wrong = qualified_name(token)
        if wrong:
            raise _Unparsable(f"<nil>: {invalid_value('', token, '; '.join(wrong)).message}")
        if absent:
            return Requirement(token, ABSENT)
        if self.ahead in ("", ","):
            return Requirement(token, EXISTS)
        operator = self.take()
        if operator in ("in", "notin"):
            values = self.listed()
        elif operator in ("=", "==", "!=", ">", "<"):
            values = self.exact()
            operator = "=" if operator == "==" else operator
        else:
            raise _Unparsable(f"found '{operator}', expected: {_BINARY}")
        return _checked(token, operator, values)

    def exact(self) -> list[str]:
        if self.ahead in ("", ","):
            return [""]
        token = self.take()
        if not _is_word(token):
            raise _Unparsable(f"found '{token}', expected: identifier")
        return [token]

    def listed(self) -> list[str]:
        token = self.take()
        if token != "(":
            raise _Unparsable(f"found '{token}' expected: '('")
        if self.ahead == ")":
            self.take()
            return [""]
        if not (_is_word(self.ahead) or self.ahead == ","):
            raise _Unparsable(f"found '{self.ahead}', expected: ',', ')' or identifier")
        values: set[str] = set()
        while True:
            token = self.take()
            if _is_word(token):
                values.add(token)
                if self.ahead not in (",", ")"):
                    raise _Unparsable(f"found '{self.ahead}', expected: ',' or ')'")
            elif token == ",":
                if not values or self.ahead in (")", ","):
                    values.add("")
            else:
                raise _Unparsable(f"found '{token}', expected: ',', or identifier")
            if self.ahead == ")":
                self.take()
                return sorted(values)


def _is_word(token: str) -> bool:
    return bool(token) and token[0] not in "=!(),<>"


def _checked(key: str, operator: str, values: Sequence[str]) -> Requirement:
    found: list[FieldError] = []
    if operator in (GREATER, LESS):
        for at, value in enumerate(values):
            if not re.fullmatch(r"[-+]?[0-9]+", value, re.ASCII):
                why = "for 'Gt', 'Lt' operators, the value must be an integer"
                found.append(invalid_value(f"values[{at}]", value, why))
    for at, value in enumerate(values):
        wrong = label_value(value)
        if wrong:
            found.append(invalid_value(f"values[{at}][{key}]", value, "; ".join(wrong)))
    if found:
        text = str(found[0]) if len(found) == 1 else "[" + ", ".join(str(one) for one in found) + "]"
        raise _Unparsable(text)
    return Requirement(key, operator, frozenset(values))


@lru_cache(maxsize=1024)
def parse_label_selector(text: str) -> LabelSelector:
    """The selector of a `labelSelector` parameter; raises StatusError(400)."""
    try:
        return LabelSelector(_Parser(text).parse())
    except _Unparsable as wrong:
        raise errors.bad_request(str(wrong)) from None


_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": ABSENT, "Gt": GREATER, "Lt": LESS}


def from_object(selector: JsonObject | None) -> LabelSelector:
    """A selector that is written in an object; none at all selects nothing."""
    if selector is None:
        return LabelSelector(nothing=True)
    found = [
        Requirement(key, IN, frozenset((value,)))
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    found += [
        Requirement(one["key"], _OPERATORS[one["operator"]], frozenset(one.get("values") or ()))
        for one in selector.get("matchExpressions") or ()
    ]
    return LabelSelector(tuple(found))


def shown_selector(selector: JsonObject | None) -> str:
    """A selector of an object as text: `a=b,t in (x,y)`; what /scale and tables show."""
    if selector is None:
        return "<none>"
    terms = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        values = frozenset(one.get("values") or ())
        terms.append((one["key"], str(Requirement(one["key"], _OPERATORS[one["operator"]], values))))
    return ",".join(text for _, text in sorted(terms))


def shown_labels(labels: Mapping[str, str] | None) -> str:
    """A plain map as selector text."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


# Fields

Getter = Callable[[JsonObject], str]


def _path(*names: str) -> Getter:
    def get(obj: JsonObject) -> str:
        value: Any = obj
        for name in names:
            if not isinstance(value, dict):
                return ""
            value = value.get(name)
        if isinstance(value, bool):
            return "true" if value else "false"
        return "" if value is None else str(value)

    return get


def _flag(*names: str) -> Getter:
    get = _path(*names)
    return lambda obj: get(obj) or "false"


def _number(*names: str) -> Getter:
    get = _path(*names)
    return lambda obj: get(obj) or "0"


def _nothing(obj: JsonObject) -> str:
    return ""


def _event_source(obj: JsonObject) -> str:
    return str((obj.get("source") or {}).get("component") or obj.get("reportingComponent", ""))


def _first_ip(obj: JsonObject) -> str:
    return str((obj.get("status") or {}).get("podIP", ""))


_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

_FIELDS: dict[tuple[str, str], dict[str, Getter]] = {
    ("", "Pod"): {
        "spec.nodeName": _path("spec", "nodeName"),
        "spec.restartPolicy": _path("spec", "restartPolicy"),
        "spec.schedulerName": _path("spec", "schedulerName"),
        "spec.serviceAccountName": _path("spec", "serviceAccountName"),
        "spec.hostNetwork": _flag("spec", "hostNetwork"),
        "status.phase": _path("status", "phase"),
        "status.podIP": _first_ip,
        "status.podIPs": _first_ip,
        "status.nominatedNodeName": _path("status", "nominatedNodeName"),
        "spec.host": _path("spec", "nodeName"),
    },
    ("", "Node"): {"spec.unschedulable": _flag("spec", "unschedulable")},
    ("", "ReplicationController"): {"status.replicas": _number("status", "replicas")},
    ("", "Event"): {
        **{f"involvedObject.{name}": _path("involvedObject", name) for name in _REFERENCE},
        "reason": _path("reason"),
        "reportingComponent": _path("reportingComponent"),
        "source": _event_source,
        "type": _path("type"),
    },
    ("events.k8s.io", "Event"): {
        **{f"regarding.{name}": _path("regarding", name) for name in _REFERENCE},
        "reason": _path("reason"),
        "reportingController": _path("reportingController"),
        "type": _path("type"),
    },
    ("", "Namespace"): {"status.phase": _path("status", "phase")},
    ("", "Secret"): {"type": _path("type")},
    ("", "Service"): {"spec.clusterIP": _path("spec", "clusterIP"), "spec.type": _path("spec", "type")},
    ("batch", "Job"): {"status.successful": _number("status", "succeeded")},
    ("apps", "StatefulSet"): {"status.successful": _nothing},
    ("certificates.k8s.io", "CertificateSigningRequest"): {"spec.signerName": _path("spec", "signerName")},
    ("resource.k8s.io", "ResourceSlice"): {
        "spec.nodeName": _path("spec", "nodeName"),
        "spec.driver": _path("spec", "driver"),
    },
}
_META: dict[str, Getter] = {
    "metadata.name": _path("metadata", "name"),
    "metadata.namespace": _path("metadata", "namespace"),
}


def _getters(rt: ResourceType) -> dict[str, Getter]:
    """The fields by which objects of this resource can be selected."""
    if rt.custom:
        return _META | {path: _path(*path.split(".")) for path in rt.selectable_fields}
    return _META | _FIELDS.get((rt.group, rt.kind), {})


@lru_cache(maxsize=512)
def _getters_of(rt: ResourceType) -> dict[str, Getter]:
    return _getters(rt)


def field_values(rt: ResourceType, obj: JsonObject) -> dict[str, str]:
    """All values that a field selector can ask for."""
    return {name: get(obj) for name, get in _getters_of(rt).items()}


@dataclass(frozen=True, slots=True)
class FieldTerm:
    field: str
    equal: bool
    value: str


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All terms have to hold; a field that an object does not have is the empty text."""

    terms: tuple[FieldTerm, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.terms

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(term.field for term in self.terms)

    def matches(self, values: Mapping[str, str]) -> bool:
        return all((values.get(term.field, "") == term.value) is term.equal for term in self.terms)

    def matches_object(self, rt: ResourceType, obj: JsonObject) -> bool:
        getters = _getters_of(rt)
        return all((getters[term.field](obj) == term.value) is term.equal for term in self.terms)

    def only(self, field: str) -> str | None:
        """The value that this field must have, when a term says so."""
        return next((term.value for term in self.terms if term.field == field and term.equal), None)


_TERMS = re.compile(r"((?:[^\\,]|\\.)*)(?:,|$)", re.DOTALL)
_TERM = re.compile(r"((?:[^\\=!]|\\.|!(?!=))*)(!=|==|=)(.*)", re.DOTALL)


def _unescaped(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        character = found[1]
        if character not in ("\\", ",", "="):
            raise errors.bad_request(f"invalid field selector: invalid escape sequence: \\{character}")
        return character

    if text.endswith("\\") and (len(text) - len(text.rstrip("\\"))) % 2:
        raise errors.bad_request("invalid field selector: invalid escape sequence: \\")
    return re.sub(r"\\(.)", one, text, flags=re.DOTALL) if "\\" in text else text


def parse_field_selector(text: str, rt: ResourceType) -> FieldSelector:
    """The selector of a `fieldSelector` parameter for this resource; raises StatusError(400)."""
    terms: list[FieldTerm] = []
    for part in _TERMS.findall(text):
        if not part:
            continue
        found = _TERM.fullmatch(part)
        if found is None:
            raise errors.bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        terms.append(FieldTerm(found[1], found[2] != "!=", _unescaped(found[3])))
    known = _getters_of(rt)
    for term in terms:
        if term.field not in known:
            raise errors.bad_request(_unknown_field(term.field, rt))
    return FieldSelector(tuple(terms))


def _unknown_field(field: str, rt: ResourceType) -> str:
    if rt.group == "resource.k8s.io" and (rt.group, rt.kind) in _FIELDS:
        return f"field label not supported for {rt.kind}: {field}"
    if rt.custom or (rt.group, rt.kind) in _FIELDS:
        return f"field label not supported: {field}"
    return f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
