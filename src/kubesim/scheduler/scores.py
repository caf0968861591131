"""How well a pod would do on each of the nodes that could take it: 0 to 100 per plugin, added up by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubesim.scheduler.affinity import Spaces
from kubesim.scheduler.census import Census
from kubesim.scheduler.model import NodeInfo, PodInfo
from kubesim.scheduler.topology import counted, meant

_BEST = 100.0


class Allocation:
    """Prefers nodes of whose CPU and memory the most would be left, and on which both would be used to one degree.

    Two plugins of the real scheduler (LeastAllocated, BalancedAllocation, each of weight 1) at the price of one.
    """

    weight = 1

    def scores(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], every: Mapping[str, NodeInfo]
    ) -> list[float] | None:
        found: list[float] = []
        wanted_cpu, wanted_memory = pod.weighed_cpu, pod.weighed_memory
        for node in nodes:
            cpu, memory = node.allocatable.get("cpu"), node.allocatable.get("memory")
            cpu_share = min(1.0, (node.weighed_cpu + wanted_cpu) / cpu) if cpu else 1.0
            memory_share = min(1.0, (node.weighed_memory + wanted_memory) / memory) if memory else 1.0
            left = int((2 - cpu_share - memory_share) * 50)
            found.append(left + int(100 - abs(cpu_share - memory_share) * 50))
        return found


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
        if not any(node.taints for node in nodes):
            return None
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

    def __init__(self, census: Census) -> None:
        self._census = census

    def scores(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], every: Mapping[str, NodeInfo]
    ) -> list[float] | None:
        soft = [one for one in pod.spreads if not one.hard]
        if not soft:
            return None
        totals = [0.0] * len(nodes)
        for spread in soft:
            counts: dict[str, int] = {}
            question = counted(self._census, spread, pod)
            for node in every.values():
                domain = node.labels.get(spread.topology)
                if domain is not None:
                    counts[domain] = counts.get(domain, 0) + node.count(question)
            worst = max(counts.values(), default=0) + 1
            for number, node in enumerate(nodes):
                domain = node.labels.get(spread.topology)
                totals[number] += worst if domain is None else counts[domain]
        return [_BEST - one for one in normalized(totals)]


class PreferredNeighbours:
    """Preferred affinity and anti-affinity to other pods."""

    weight = 2

    def __init__(self, spaces: Spaces, census: Census) -> None:
        self._spaces = spaces
        self._census = census

    def scores(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], every: Mapping[str, NodeInfo]
    ) -> list[float] | None:
        if not pod.preferred_affinity:
            return None
        domains: dict[tuple[str, str], int] = {}
        for weight, term in pod.preferred_affinity:
            question = meant(self._census, term, self._spaces)
            for node in every.values():
                domain = node.labels.get(term.topology)
                if domain is not None and (found := node.count(question)):
                    key = term.topology, domain
                    domains[key] = domains.get(key, 0) + weight * found
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
