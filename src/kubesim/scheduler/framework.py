"""The decision: which node for this pod, or why none. Pure; the same pods and nodes give the same answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubesim.scheduler import filters, scores, topology
from kubesim.scheduler.model import NodeInfo, PodInfo
from kubesim.scheduler.plugins import Filter, Rejection, Scorer

DEFAULT_FILTERS: tuple[Filter, ...] = (
    filters.Unschedulable(),
    filters.Taints(),
    filters.NodeAffinity(),
    filters.Ports(),
    filters.Fit(),
    topology.TopologySpread(),
    topology.InterPodAffinity(),
)
DEFAULT_SCORERS: tuple[Scorer, ...] = (
    scores.PreferredTaints(),
    scores.PreferredAffinity(),
    scores.LeastAllocated(),
    scores.PreferredSpread(),
    scores.PreferredNeighbours(),
    scores.Balanced(),
)
MOST_CANDIDATES = 100  # enough to choose among; looking at more costs more than it gains


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A node, or for each node why not."""

    node: str | None
    rejections: Mapping[str, Rejection]
    total: int

    @property
    def message(self) -> str:
        """Why no node does, counted by reason, in the real scheduler's words; without what preemption says."""
        if self.total == 0:
            return "no nodes available to schedule pods"
        reasons: Counter[str] = Counter()
        for rejection in self.rejections.values():
            reasons.update(rejection.reasons)
        return f"0/{self.total} nodes are available: {histogram(reasons)}."


def histogram(reasons: Mapping[str, int]) -> str:
    """`2 Insufficient cpu, 1 Too many pods`, sorted as text."""
    return ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))


class Framework:
    """The plugins, and how they are asked."""

    def __init__(
        self,
        filters: Sequence[Filter] = DEFAULT_FILTERS,
        scorers: Sequence[Scorer] = DEFAULT_SCORERS,
        *,
        most_candidates: int = MOST_CANDIDATES,
    ) -> None:
        self._filters = filters
        self._scorers = scorers
        self._most_candidates = most_candidates
        self._start = 0

    def decide(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> Decision:
        """Filter, then weigh; among equals the next in turn."""
        prepared = self.prepare(pod, nodes)
        rejections: dict[str, Rejection] = {}
        candidates: list[NodeInfo] = []
        names = list(nodes)
        if pod.nominated is not None and pod.nominated in nodes:  # room was made for it there
            names.remove(pod.nominated)
            if self.check(prepared, pod, nodes[pod.nominated]) is None:
                return Decision(node=pod.nominated, rejections={}, total=len(nodes))
            names.append(pod.nominated)
        start = self._start % len(names) if names else 0
        for name in (*names[start:], *names[:start]):
            rejection = self.check(prepared, pod, nodes[name])
            if rejection is None:
                candidates.append(nodes[name])
                if len(candidates) >= self._most_candidates:
                    break
            else:
                rejections[name] = rejection
        self._start += 1
        if not candidates:
            return Decision(node=None, rejections=rejections, total=len(nodes))
        return Decision(node=self._best(pod, candidates, nodes).name, rejections={}, total=len(nodes))

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> list[tuple[Filter, Any]]:
        """The filters that have something to say about this pod, with what they counted."""
        found = [(one, one.prepare(pod, nodes)) for one in self._filters]
        return [(one, state) for one, state in found if state is not None]

    def check(self, prepared: list[tuple[Filter, Any]], pod: PodInfo, node: NodeInfo) -> Rejection | None:
        """The first objection to a node."""
        for one, state in prepared:
            rejection = one.check(state, pod, node)
            if rejection is not None:
                return rejection
        return None

    def _best(self, pod: PodInfo, nodes: list[NodeInfo], every: Mapping[str, NodeInfo]) -> NodeInfo:
        if len(nodes) == 1:
            return nodes[0]
        totals = [0.0] * len(nodes)
        for scorer in self._scorers:
            found = scorer.scores(pod, nodes, every)
            for number, value in enumerate(found or ()):
                totals[number] += int(value) * scorer.weight
        return nodes[totals.index(max(totals))]
