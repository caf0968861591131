"""The filters that look at one node at a time, in the order in which the real scheduler asks them."""

from __future__ import annotations

from collections.abc import Mapping

from kubesim.scheduler.model import NodeInfo, PodInfo, Taint
from kubesim.scheduler.plugins import Rejection

_UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
_CORDONED = Rejection(("node(s) were unschedulable",), final=True)
_OTHER_NAME = Rejection(("node(s) didn't match the requested node name",), final=True)
_TAINTED = Rejection(("node(s) had untolerated taint(s)",), final=True)
_AFFINITY = Rejection(("node(s) didn't match Pod's node affinity/selector",), final=True)
_PORTS = Rejection(("node(s) didn't have free ports for the requested pod ports",), final=False)


class Unschedulable:
    """Cordoned nodes, unless the pod tolerates the taint that stands for it."""

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> bool | None:
        return None if any(one.covers(_UNSCHEDULABLE) for one in pod.tolerations) else True

    def check(self, prepared: bool, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        return _CORDONED if node.unschedulable else None


class Taints:
    """NoSchedule and NoExecute taints that the pod does not tolerate."""

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> bool:
        return True

    def check(self, prepared: bool, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        for taint in node.taints:
            if taint.effect != "PreferNoSchedule" and not any(one.covers(taint) for one in pod.tolerations):
                return _TAINTED
        return None


class NodeAffinity:
    """nodeSelector and required node affinity."""

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> bool | None:
        return True if pod.selector or pod.required else None

    def check(self, prepared: bool, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        return None if wants(pod, node) else _AFFINITY


def wants(pod: PodInfo, node: NodeInfo) -> bool:
    """Whether the pod's nodeSelector and required affinity take the node."""
    if any(node.labels.get(key) != value for key, value in pod.selector.items()):
        return False
    return pod.required is None or pod.required.matches(node.name, node.labels)


class Ports:
    """Host ports that are taken."""

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> bool | None:
        return True if pod.ports else None

    def check(self, prepared: bool, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        for other in node.pods.values():
            for taken in other.ports:
                if any(port.collides(taken) for port in pod.ports):
                    return _PORTS
        return None


class Fit:
    """Room for the pod's requests; all resources that lack are named."""

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> list[tuple[str, int]]:
        return [(name, needed) for name, needed in pod.requests.items() if needed]

    def check(self, prepared: list[tuple[str, int]], pod: PodInfo, node: NodeInfo) -> Rejection | None:
        allocatable, requested = node.allocatable, node.requested
        lacking: list[str] = []
        final = False
        for name, needed in prepared:
            room = allocatable.get(name, 0)
            if needed > room - requested.get(name, 0):
                lacking.append("Too many pods" if name == "pods" else f"Insufficient {name}")
                final = final or needed > room
        return Rejection(tuple(lacking), final) if lacking else None
