"""Making room: which pods of lower priority would have to go, and from which node. Pure.

Of all nodes on which it would help the one is taken whose victims matter least: lowest highest priority, then lowest
sum, then fewest. Victims are spared one by one, the most important first, as long as the pod still fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from kubesim.scheduler.framework import Decision, Framework, Nominated, histogram
from kubesim.scheduler.model import NodeInfo, PodInfo

_USELESS = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preemption:
    """A node with the pods to evict from it, or what to say about why there is none."""

    node: str | None = None
    victims: tuple[PodInfo, ...] = ()
    message: str = ""
    waits: bool = False  # room is being made already


def preempt(
    framework: Framework,
    pod: PodInfo,
    nodes: Mapping[str, NodeInfo],
    decision: Decision,
    nominated: Nominated | None = None,
) -> Preemption:
    """Where room could be made for a pod that fits nowhere."""
    if decision.refusal:
        return Preemption(message="not found")  # what the real one's own look at device claims ends with
    if not pod.preempts:
        return Preemption(message="preemption: not eligible due to preemptionPolicy=Never.")
    if pod.nominated is not None and pod.nominated in nodes and _is_clearing(pod, nodes[pod.nominated]):
        return Preemption(
            message="preemption: not eligible due to terminating pod on the nominated node.", waits=True
        )
    found: dict[str, tuple[PodInfo, ...]] = {}
    reasons: Counter[str] = Counter()
    for name, rejection in decision.rejections.items():
        if rejection.final:
            reasons[_USELESS] += 1
            continue
        victims = _victims(framework, pod, nodes, nodes[name], nominated or {})
        if victims:
            found[name] = victims
        else:
            reasons[_NO_VICTIMS] += 1
    if found:
        best = min(found, key=lambda name: _cost(found[name]))
        return Preemption(node=best, victims=found[best])
    return Preemption(
        message="no new claims to deallocate, preemption: "
        f"0/{decision.total} nodes are available: {histogram(reasons)}."
    )


def _is_clearing(pod: PodInfo, node: NodeInfo) -> bool:
    return any(other.deleting and other.priority < pod.priority for other in node.pods.values())


def _victims(
    framework: Framework,
    pod: PodInfo,
    nodes: Mapping[str, NodeInfo],
    node: NodeInfo,
    nominated: Nominated,
) -> tuple[PodInfo, ...]:
    lower = sorted(
        (other for other in node.pods.values() if other.priority < pod.priority),
        key=lambda other: (-other.priority, other.created, other.name),
    )
    if not lower or not _fits(framework, pod, nodes, node.without(lower), nominated):
        return ()
    victims = list(lower)
    for spared in lower:
        rest = [one for one in victims if one is not spared]
        if _fits(framework, pod, nodes, node.without(rest), nominated):
            victims = rest
    return tuple(victims)


def _fits(
    framework: Framework,
    pod: PodInfo,
    nodes: Mapping[str, NodeInfo],
    changed: NodeInfo,
    nominated: Nominated,
) -> bool:
    world = {**nodes, changed.name: changed}
    return framework.passes(framework.prepare(pod, world), pod, changed, world, nominated) is None


def _cost(victims: tuple[PodInfo, ...]) -> tuple[int, int, int]:
    priorities = [one.priority for one in victims]
    return max(priorities), sum(priorities), len(victims)
