"""The filters that look at where other pods are: spreading over, and affinity within, topology domains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from kubesim.scheduler.affinity import PodTerm, Spaces, Spread
from kubesim.scheduler.census import Census, Question
from kubesim.scheduler.filters import wants
from kubesim.scheduler.model import NodeInfo, PodInfo
from kubesim.scheduler.plugins import Rejection

_SKEW = Rejection(("node(s) didn't match pod topology spread constraints",), final=False)
_NO_DOMAIN = Rejection(
    ("node(s) didn't match pod topology spread constraints (missing required label)",), final=True
)
_AFFINITY = Rejection(("node(s) didn't match pod affinity rules",), final=True)
_ANTI = Rejection(("node(s) didn't match pod anti-affinity rules",), final=False)
_EXISTING = Rejection(("node(s) didn't satisfy existing pods anti-affinity rules",), final=False)


@dataclass(frozen=True, slots=True)
class _Domains:
    spread: Spread
    counts: Counter[str]
    least: int
    own: int  # 1 when the pod itself is one of those that are counted


class TopologySpread:
    """topologySpreadConstraints with DoNotSchedule."""

    def __init__(self, census: Census) -> None:
        self._census = census

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> list[_Domains] | None:
        hard = [one for one in pod.spreads if one.hard]
        return [domains(one, pod, nodes, counted(self._census, one, pod)) for one in hard] or None

    def check(self, prepared: list[_Domains], pod: PodInfo, node: NodeInfo) -> Rejection | None:
        for one in prepared:
            domain = node.labels.get(one.spread.topology)
            if domain is None:
                return _NO_DOMAIN
            if one.counts[domain] + one.own - one.least > one.spread.max_skew:
                return _SKEW
        return None


def domains(spread: Spread, pod: PodInfo, nodes: Mapping[str, NodeInfo], question: Question) -> _Domains:
    """How many matching pods each domain has."""
    counts: Counter[str] = Counter()
    picky = spread.honour_affinity and (pod.selector or pod.required)
    for node in nodes.values():
        domain = node.labels.get(spread.topology)
        if domain is None or (picky and not wants(pod, node)):
            continue
        if spread.honour_taints and not _tolerated(pod, node):
            continue
        counts[domain] = counts.get(domain, 0) + node.count(question)
    least = min(counts.values(), default=0) if len(counts) >= spread.min_domains else 0
    return _Domains(spread, counts, least, int(spread.selector.matches(pod.labels)))


def counted(census: Census, spread: Spread, pod: PodInfo) -> Question:
    """Which pods the constraint counts."""
    namespace, selector = pod.namespace, spread.selector
    return census.ask(
        ("spread", namespace, selector),
        lambda other: other.namespace == namespace and not other.deleting and selector.matches(other.labels),
    )


def _tolerated(pod: PodInfo, node: NodeInfo) -> bool:
    return all(
        taint.effect == "PreferNoSchedule" or any(one.covers(taint) for one in pod.tolerations)
        for taint in node.taints
    )


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """Per topology key and value, how many pods there are."""

    affinity: Counter[tuple[int, str]]  # (number of the pod's own term, domain)
    anti_affinity: Counter[tuple[int, str]]
    forbidden: frozenset[tuple[str, str]]  # (topology key, domain) in which a pod does not want this one
    first_of_its_kind: bool


class InterPodAffinity:
    """Required affinity and anti-affinity to other pods, and what the pods that are there think of this one."""

    def __init__(self, spaces: Spaces, census: Census) -> None:
        self._spaces = spaces
        self._census = census

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> _Neighbours | None:
        affinity: Counter[tuple[int, str]] = Counter()
        anti_affinity: Counter[tuple[int, str]] = Counter()
        forbidden: set[tuple[str, str]] = set()
        for node in [node for node in nodes.values() if node.aloof]:
            for other in node.aloof.values():
                forbidden.update(_wanted_apart(other, pod, node, self._spaces))
        self._count(affinity, pod.affinity, nodes)
        self._count(anti_affinity, pod.anti_affinity, nodes)
        if not pod.affinity and not pod.anti_affinity and not forbidden:
            return None
        first = not affinity and all(
            term.matches(pod.namespace, pod.labels, self._spaces) for term in pod.affinity
        )
        return _Neighbours(affinity, anti_affinity, frozenset(forbidden), first)

    def _count(
        self, counter: Counter[tuple[int, str]], terms: tuple[PodTerm, ...], nodes: Mapping[str, NodeInfo]
    ) -> None:
        for number, term in enumerate(terms):
            question = meant(self._census, term, self._spaces)
            for node in nodes.values():
                domain = node.labels.get(term.topology)
                if domain is not None and (found := node.count(question)):
                    counter[number, domain] += found

    def check(self, prepared: _Neighbours, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        for number, term in enumerate(pod.affinity):
            domain = node.labels.get(term.topology)
            if domain is None:
                return _AFFINITY
            if not prepared.affinity[number, domain] and not prepared.first_of_its_kind:
                return _AFFINITY
        for number, term in enumerate(pod.anti_affinity):
            domain = node.labels.get(term.topology)
            if domain is not None and prepared.anti_affinity[number, domain]:
                return _ANTI
        if any(node.labels.get(key) == domain for key, domain in prepared.forbidden):
            return _EXISTING
        return None


def _wanted_apart(other: PodInfo, pod: PodInfo, node: NodeInfo, spaces: Spaces) -> list[tuple[str, str]]:
    return [
        (term.topology, node.labels[term.topology])
        for term in other.anti_affinity
        if term.topology in node.labels and term.matches(pod.namespace, pod.labels, spaces)
    ]


def meant(census: Census, term: PodTerm, spaces: Spaces) -> Question:
    """Which pods the term speaks of."""
    return census.ask(
        ("term", term.namespaces, term.by_labels, term.selector),
        lambda other: term.matches(other.namespace, other.labels, spaces),
    )
