"""The decision: which node for this pod, or why none. Pure; the same pods and nodes give the same answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubesim.scheduler import filters, scores, topology, volumes
from kubesim.scheduler.affinity import Spaces
from kubesim.scheduler.census import Census
from kubesim.scheduler.model import NodeInfo, PodInfo
from kubesim.scheduler.plugins import Filter, NoNodeDoes, Rejection, Scorer

Nominated = Mapping[str, Mapping[str, PodInfo]]
"""Pods for which room is being made, by node and uid."""

MOST_CANDIDATES = 100  # enough to choose among; looking at more costs more than it gains


@dataclass(kw_only=True)
class Surroundings:
    """What plugins look at beside pods and nodes; it changes while the scheduler runs."""

    spaces: Spaces = field(default_factory=dict)
    storage: volumes.Storage = field(default_factory=volumes.Storage)
    census: Census = field(default_factory=Census)


def default_filters(around: Surroundings) -> tuple[Filter, ...]:
    """In the order in which the real scheduler asks them."""
    return (
        filters.Unschedulable(),
        filters.Taints(),
        filters.NodeAffinity(),
        filters.Ports(),
        filters.Fit(),
        volumes.VolumeRestrictions(around.storage),
        volumes.VolumeBinding(around.storage),
        volumes.VolumeZone(around.storage),
        topology.TopologySpread(around.census),
        topology.InterPodAffinity(around.spaces, around.census),
    )


def default_scorers(around: Surroundings) -> tuple[Scorer, ...]:
    """With the real scheduler's weights."""
    return (
        scores.PreferredTaints(),
        scores.PreferredAffinity(),
        scores.Allocation(),
        scores.PreferredSpread(around.census),
        scores.PreferredNeighbours(around.spaces, around.census),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A node, or for each node why not."""

    node: str | None
    rejections: Mapping[str, Rejection]
    total: int
    refusal: str = ""  # why no node does, whatever they are like

    @property
    def message(self) -> str:
        """Why no node does, counted by reason, in the real scheduler's words; without what preemption says."""
        if self.total == 0:
            return "no nodes available to schedule pods"
        if self.refusal:
            return f"0/{self.total} nodes are available: {self.refusal}."
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
        around: Surroundings | None = None,
        *,
        most_candidates: int = MOST_CANDIDATES,
    ) -> None:
        around = around or Surroundings()
        self._filters = default_filters(around)
        self._scorers = default_scorers(around)
        self._most_candidates = most_candidates
        self._start = 0

    def decide(
        self, pod: PodInfo, nodes: Mapping[str, NodeInfo], nominated: Nominated | None = None
    ) -> Decision:
        """Filter, then weigh; among equals the next in turn."""
        try:
            prepared = self.prepare(pod, nodes)
        except NoNodeDoes as refusal:
            return Decision(node=None, rejections={}, total=len(nodes), refusal=str(refusal))
        nominated = nominated or {}
        rejections: dict[str, Rejection] = {}
        candidates: list[NodeInfo] = []
        names = list(nodes)
        if pod.nominated is not None and pod.nominated in nodes:  # room was made for it there
            names.remove(pod.nominated)
            if self.passes(prepared, pod, nodes[pod.nominated], nodes, nominated) is None:
                return Decision(node=pod.nominated, rejections={}, total=len(nodes))
            names.append(pod.nominated)
        start = self._start % len(names) if names else 0
        for name in (*names[start:], *names[:start]):
            if name in nominated:
                rejection = self.passes(prepared, pod, nodes[name], nodes, nominated)
            else:
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

    def passes(
        self,
        prepared: list[tuple[Filter, Any]],
        pod: PodInfo,
        node: NodeInfo,
        nodes: Mapping[str, NodeInfo],
        nominated: Nominated,
    ) -> Rejection | None:
        """The first objection to a node, on which room is kept for pods that are as important and have cleared it."""
        waiting = nominated.get(node.name)
        held = [one for one in waiting.values() if _keeps_from(one, pod)] if waiting else []
        if held:
            full = node.having(held)
            looks = pod.looks_around or any(one.looks_around for one in held)
            again = self.prepare(pod, {**nodes, node.name: full}) if looks else prepared
            rejection = self.check(again, pod, full)
            if rejection is not None:
                return rejection
        return self.check(prepared, pod, node)

    def _best(self, pod: PodInfo, nodes: list[NodeInfo], every: Mapping[str, NodeInfo]) -> NodeInfo:
        if len(nodes) == 1:
            return nodes[0]
        totals = [0.0] * len(nodes)
        for scorer in self._scorers:
            found = scorer.scores(pod, nodes, every)
            for number, value in enumerate(found or ()):
                totals[number] += int(value) * scorer.weight
        return nodes[totals.index(max(totals))]


def _keeps_from(waiting: PodInfo, pod: PodInfo) -> bool:
    return waiting.uid != pod.uid and waiting.priority >= pod.priority
