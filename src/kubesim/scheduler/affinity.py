"""Selectors and affinity terms, read once and asked often. Pure: labels in, yes or no out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Labels = Mapping[str, str]
Spaces = Mapping[str, Labels]
"""The labels of namespaces, by name."""


@dataclass(frozen=True, slots=True)
class Expression:
    """One `key operator values`; Gt and Lt compare integers and are for nodes only."""

    key: str
    operator: str
    values: tuple[str, ...]

    def matches(self, labels: Labels) -> bool:
        """Whether the labels satisfy it."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt":
                return _integer(value, self.values, lambda one, other: one > other)
            case "Lt":
                return _integer(value, self.values, lambda one, other: one < other)
        return False


def _integer(value: str | None, values: tuple[str, ...], compare: Any) -> bool:
    try:
        return bool(value is not None and compare(int(value), int(values[0])))
    except (ValueError, IndexError):
        return False


@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector: all of its expressions. One that is None in Kubernetes matches nothing."""

    expressions: tuple[Expression, ...]
    nothing: bool = False

    def matches(self, labels: Labels) -> bool:
        """Whether the labels satisfy all expressions."""
        return not self.nothing and all(one.matches(labels) for one in self.expressions)


def read_selector(selector: Object | None) -> Selector:
    """A LabelSelector of the API."""
    if selector is None:
        return Selector((), nothing=True)
    expressions = [
        Expression(key, "In", (value,)) for key, value in (selector.get("matchLabels") or {}).items()
    ]
    expressions += _expressions(selector.get("matchExpressions"))
    return Selector(tuple(expressions))


def _expressions(items: list[Object] | None) -> list[Expression]:
    return [Expression(one["key"], one["operator"], tuple(one.get("values") or ())) for one in items or ()]


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One term of a node selector: expressions over labels and over the node's name, all of them."""

    labels: tuple[Expression, ...]
    fields: tuple[Expression, ...]

    def matches(self, name: str, labels: Labels) -> bool:
        """A term without anything matches no node."""
        if not self.labels and not self.fields:
            return False
        return all(one.matches(labels) for one in self.labels) and all(
            one.matches({"metadata.name": name}) for one in self.fields
        )


def _node_term(term: Object) -> NodeTerm:
    return NodeTerm(
        tuple(_expressions(term.get("matchExpressions"))), tuple(_expressions(term.get("matchFields")))
    )


@dataclass(frozen=True, slots=True)
class Required:
    """The required node affinity: any of the terms."""

    terms: tuple[NodeTerm, ...]

    def matches(self, name: str, labels: Labels) -> bool:
        """Whether one of the terms takes the node."""
        return any(term.matches(name, labels) for term in self.terms)


@dataclass(frozen=True, slots=True)
class PreferredNode:
    """A node term that adds weight."""

    weight: int
    term: NodeTerm


def required(affinity: Object) -> Required | None:
    """The required node affinity of a pod, None when it has none."""
    selector = (affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if selector is None:
        return None
    return Required(tuple(_node_term(term) for term in selector.get("nodeSelectorTerms") or ()))


def preferred(affinity: Object) -> tuple[PreferredNode, ...]:
    """The preferred node affinity of a pod."""
    items = (affinity.get("nodeAffinity") or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(PreferredNode(int(one["weight"]), _node_term(one["preference"])) for one in items)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTerm:
    """Pods (by labels and namespace) and the topology in which to be with, or without, them."""

    topology: str
    selector: Selector
    namespaces: frozenset[str]
    by_labels: Selector  # of namespaces

    def matches(self, namespace: str, labels: Labels, spaces: Spaces) -> bool:
        """Whether the pod is one that the term speaks of."""
        there = namespace in self.namespaces or self.by_labels.matches(spaces.get(namespace, {}))
        return there and self.selector.matches(labels)


def pod_terms(affinity: Object, kind: str, namespace: str, metadata: Object) -> tuple[PodTerm, ...]:
    """The required terms of podAffinity or podAntiAffinity.

    An empty namespace selector means every namespace; without names and selector the pod's own is meant.
    """
    found = []
    for term in (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ():
        selector = read_selector(term.get("labelSelector"))
        own = metadata.get("labels") or {}
        extra = [Expression(key, "In", (own[key],)) for key in term.get("matchLabelKeys") or () if key in own]
        extra += [
            Expression(key, "NotIn", (own[key],)) for key in term.get("mismatchLabelKeys") or () if key in own
        ]
        names = frozenset(term.get("namespaces") or ())
        namespaces = term.get("namespaceSelector")
        found.append(
            PodTerm(
                topology=term["topologyKey"],
                selector=Selector((*selector.expressions, *extra), selector.nothing),
                namespaces=names if names or namespaces is not None else frozenset({namespace}),
                by_labels=read_selector(namespaces),
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One topologySpreadConstraint."""

    topology: str
    max_skew: int
    hard: bool
    selector: Selector
    min_domains: int
    honour_affinity: bool
    honour_taints: bool


def spreads(spec: Object, metadata: Object) -> tuple[Spread, ...]:
    """The constraints of a pod."""
    found = []
    own = metadata.get("labels") or {}
    for one in spec.get("topologySpreadConstraints") or ():
        selector = read_selector(one.get("labelSelector"))
        extra = tuple(
            Expression(key, "In", (own[key],)) for key in one.get("matchLabelKeys") or () if key in own
        )
        found.append(
            Spread(
                topology=one["topologyKey"],
                max_skew=int(one["maxSkew"]),
                hard=one.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
                selector=Selector((*selector.expressions, *extra), selector.nothing),
                min_domains=int(one.get("minDomains") or 1),
                honour_affinity=one.get("nodeAffinityPolicy", "Honor") == "Honor",
                honour_taints=one.get("nodeTaintsPolicy", "Ignore") == "Honor",
            )
        )
    return tuple(found)
