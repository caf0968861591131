"""How well a pod would do on each of the nodes that could take it: 0 to 100 per plugin, added up by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubesim.scheduler.affinity import Spaces
from kubesim.scheduler.model import NodeInfo, PodInfo
from kubesim.scheduler.topology import count

_BEST = 100.0


class LeastAllocated:
    """Prefers nodes of whose CPU and memory the most would be left."""

    weight = 1

    def scores(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], every: Mapping[str, NodeInfo]
    ) -> list[float] | None:
        return [sum(_left(share) for share in shares(pod, node)) / 2 for node in nodes]


class Balanced:
    """Prefers nodes on which CPU and memory would be used to the same degree."""

    weight = 1

    def scores(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], every: Mapping[str, NodeInfo]
    ) -> list[float] | None:
        found = []
        for node in nodes:
            cpu, memory = (min(share, 1.0) for share in shares(pod, node))
            found.append((1 - abs(cpu - memory) / 2) * _BEST)
        return found


def shares(pod: PodInfo, node: NodeInfo) -> tuple[float, float]:
    """Which part of the node's CPU and memory would be taken."""
    cpu, memory = node.allocatable.get("cpu", 0), node.allocatable.get("memory", 0)
    return (
        (node.weighed_cpu + pod.weighed_cpu) / cpu if cpu else 1.0,
        (node.weighed_memory + pod.weighed_memory) / memory if memory else 1.0,
    )


def _left(share: float) -> float:
    return max(0.0, 1 - share) * _BEST


class PreferredAffinity:
    """Preferred node affinity."""

    weight = 2

    def scores(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], every: Mapping[str, NodeInfo]
    ) -> list[float] | None:
        if not pod.preferred:
            return None
        return normalized(
            [
                sum(one.weight for one in pod.preferred if one.term.matches(node.name, node.labels))
                for node in nodes
            ]
        )


class PreferredTaints:
    """Prefers nodes with few PreferNoSchedule taints that the pod does not tolerate."""

    weight = 3

    def scores(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], every: Mapping[str, NodeInfo]
    ) -> list[float] | None:
        minded = [
            sum(
                taint.effect == "PreferNoSchedule" and not any(one.covers(taint) for one in pod.tolerations)
                for taint in node.taints
            )
            for node in nodes
        ]
        if not any(minded):
            return None
        return [_BEST - one for one in normalized(minded)]


class PreferredSpread:
    """Prefers the domains with the fewest pods that a ScheduleAnyway constraint counts."""

    weight = 2

    def scores(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], every: Mapping[str, NodeInfo]
    ) -> list[float] | None:
        soft = [one for one in pod.spreads if not one.hard]
        if not soft:
            return None
        totals = [0.0] * len(nodes)
        for spread in soft:
            counts: dict[str, int] = {}
            for node in every.values():
                domain = node.labels.get(spread.topology)
                if domain is not None:
                    counts[domain] = counts.get(domain, 0) + count(spread, pod, node)
            worst = max(counts.values(), default=0) + 1
            for number, node in enumerate(nodes):
                domain = node.labels.get(spread.topology)
                totals[number] += worst if domain is None else counts[domain]
        return [_BEST - one for one in normalized(totals)]


class PreferredNeighbours:
    """Preferred affinity and anti-affinity to other pods."""

    weight = 2

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces

    def scores(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], every: Mapping[str, NodeInfo]
    ) -> list[float] | None:
        if not pod.preferred_affinity:
            return None
        domains: dict[tuple[str, str], int] = {}
        for node in every.values():
            for other in node.pods.values():
                for weight, term in pod.preferred_affinity:
                    domain = node.labels.get(term.topology)
                    if domain is not None and term.matches(other.namespace, other.labels, self._spaces):
                        domains[term.topology, domain] = domains.get((term.topology, domain), 0) + weight
        keys = {term.topology for _, term in pod.preferred_affinity}
        totals = [
            sum(domains.get((key, node.labels[key]), 0) for key in keys if key in node.labels)
            for node in nodes
        ]
        least = min(totals)
        return normalized([one - least for one in totals])


def normalized(values: Sequence[float]) -> list[float]:
    """Scaled so that the largest is 100; all zero stay zero."""
    largest = max(values, default=0)
    return [one * _BEST / largest if largest else 0.0 for one in values]
