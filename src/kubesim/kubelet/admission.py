"""The kubelet's own say on whether a pod that was bound to its node may run there.

A scheduler decides on what it knew; a pod can also be bound by hand, or the node can have changed since. What does not
fit is rejected for good: the pod fails, with the reason and message of the real kubelet. A pod is examined once, before
anything of it is started; what runs already is not examined again when the kubelet comes back.

`examine` is pure. `Admission` asks for the node as it is now and remembers what the admitted pods take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubesim.apiserver.kinds.amounts import is_extended
from kubesim.apiserver.kinds.podtotals import pod_total
from kubesim.apiserver.nodeselectors import pod_takes
from kubesim.kubelet.containers import JsonObject
from kubesim.schema.quantity import Quantity, parse
from kubewire.client import Client
from kubewire.resources import NODES

_FIRST = ("pods", "cpu", "memory", "ephemeral-storage")
_OS = "kubernetes.io/os"
HostPort = tuple[str, int, str]  # protocol, port, address


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a pod may not run here."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a pod takes of its node."""

    amounts: Mapping[str, int]
    ports: frozenset[HostPort]


def share_of(pod: JsonObject) -> Share:
    """What a pod asks for; cpu in thousandths."""
    spec = pod["spec"]
    amounts = {name: _whole(name, amount) for name, amount in pod_total(spec, "requests").items()}
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    ports = {
        (port.get("protocol") or "TCP", int(port["hostPort"]), port.get("hostIP") or "0.0.0.0")
        for container in [*spec["containers"], *sidecars]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }
    return Share(amounts={"pods": 1, **amounts}, ports=frozenset(ports))


def examine(pod: JsonObject, node: JsonObject, others: Iterable[Share]) -> Rejection | None:
    """Whether a pod fits on a node beside others, in the order in which the real kubelet looks."""
    own = share_of(pod)
    held = list(others)
    return (
        _wrong_system(pod)
        or _lack(own, node, held)
        or _wrong_node(pod, node)
        or _taken_port(own, held)
        or _taint(pod, node)
    )


class Admission:
    """Admits pods to one node, and remembers what they take of it."""

    def __init__(self, client: Client, node_name: str) -> None:
        self._client = client
        self._node_name = node_name
        self._shares: dict[str, Share] = {}
        self._knows_all = asyncio.Event()

    def knows_all(self) -> None:
        """What ran here before the kubelet came has been counted: new pods can be decided on."""
        self._knows_all.set()

    async def admit(self, pod: JsonObject) -> Rejection | None:
        """Decide on a new pod. Raises KubeError when the node cannot be read."""
        await self._knows_all.wait()
        node = await self._client.get(NODES, self._node_name)
        uid = pod["metadata"]["uid"]
        others = [share for key, share in self._shares.items() if key != uid]
        rejection = examine(
            pod, node, others
        )  # nothing is awaited from here on: two pods cannot have one place
        if rejection is None:
            self.keep(pod)
        return rejection

    def keep(self, pod: JsonObject) -> None:
        """Count a pod that has been admitted."""
        self._shares[pod["metadata"]["uid"]] = share_of(pod)

    def release(self, uid: str) -> None:
        """A pod needs nothing any more."""
        self._shares.pop(uid, None)


def _wrong_system(pod: JsonObject) -> Rejection | None:
    if (pod["metadata"].get("labels") or {}).get(_OS, "linux") != "linux":
        return Rejection(
            "PodOSSelectorNodeLabelDoesNotMatch",
            f"Failed to admit pod as the `{_OS}` label doesn't match node label",
        )
    if ((pod["spec"].get("os") or {}).get("name") or "linux") != "linux":
        return Rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    return None


def _lack(own: Share, node: JsonObject, held: list[Share]) -> Rejection | None:
    offered = (node.get("status") or {}).get("allocatable") or {}
    order = [*_FIRST, *sorted(own.amounts.keys() - set(_FIRST))]
    for name in order:
        wanted = own.amounts.get(name, 0)
        if not wanted or (is_extended(name) and name not in offered):
            continue  # an extended resource that the node does not know is somebody else's to account for
        capacity = _whole(name, parse(str(offered.get(name, "0"))))
        used = sum(share.amounts.get(name, 0) for share in held)
        if wanted > capacity - used:
            return Rejection(
                f"OutOf{name}",
                f"Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, "
                f"capacity: {capacity}",
            )
    return None


def _wrong_node(pod: JsonObject, node: JsonObject) -> Rejection | None:
    if not pod_takes(pod["spec"], node["metadata"]["name"], node["metadata"].get("labels") or {}):
        return _failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    return None


def _taken_port(own: Share, held: list[Share]) -> Rejection | None:
    for protocol, port, address in own.ports:
        for share in held:
            for other_protocol, other_port, other in share.ports:
                same = (protocol, port) == (other_protocol, other_port)
                if same and (address == other or "0.0.0.0" in (address, other)):
                    return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    return None


def _taint(pod: JsonObject, node: JsonObject) -> Rejection | None:
    tolerations = pod["spec"].get("tolerations") or ()
    for taint in (node.get("spec") or {}).get("taints") or ():
        if taint["effect"] == "NoExecute" and not any(_tolerates(one, taint) for one in tolerations):
            return _failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None


def _tolerates(toleration: JsonObject, taint: JsonObject) -> bool:
    if (toleration.get("effect") or taint["effect"]) != taint["effect"]:
        return False
    if (toleration.get("key") or taint["key"]) != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def _failed(predicate: str, words: str) -> Rejection:
    return Rejection(predicate, f"Predicate {predicate} failed: {words}")


def _whole(name: str, amount: Quantity) -> int:
    return amount.milli if name == "cpu" else amount.value
