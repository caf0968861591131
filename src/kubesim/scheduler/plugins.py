"""What a plugin is: a filter says why a pod cannot go to a node, a scorer how well it would do there.

Plugins are pure. `prepare` looks at all nodes once per pod and returns what `check` or `score` need for each of them;
it is where what depends on other nodes (spreading, affinity to pods) is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kubesim.scheduler.model import NodeInfo, PodInfo


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a node does not do, in the real scheduler's words; `final` when evicting pods could not help."""

    reasons: tuple[str, ...]
    final: bool


class NoNodeDoes(Exception):
    """Raised by `prepare`: whatever the nodes are like, the pod cannot be scheduled now; the message says why."""


class Filter(Protocol):
    """Takes nodes out."""

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> Any:
        """What `check` needs; None when the plugin has nothing to say about this pod. Raises NoNodeDoes."""

    def check(self, prepared: Any, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        """Why the pod cannot go there; None when it can."""


class Scorer(Protocol):
    """Weighs the nodes that are left."""

    weight: int

    def scores(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], every: Mapping[str, NodeInfo]
    ) -> list[float] | None:
        """0 to 100 for each of `nodes`; None when all are the same to it. `every` holds the filtered-out ones too."""
