"""All nodes with the pods on them, as the informers and the scheduler's own decisions say.

A pod for which room is being made on a node is *nominated* there, so that less important ones do not take the room
meanwhile. A pod that was just given a node is *assumed* to be there until the informer confirms it, so that the next
decision counts it in. Pods of a node that is not known (yet) wait aside.
"""

from __future__ import annotations

from kubesim.scheduler.model import NodeInfo, Object, PodInfo, read_node, read_pod

_ENDED = ("Succeeded", "Failed")


class Cache:
    """Changed by events and assumptions only."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self._placed: dict[str, PodInfo] = {}  # by uid: every pod that takes room, with its node
        self._assumed: set[str] = set()
        self.nominated: dict[str, dict[str, PodInfo]] = {}  # by node, then by uid
        self._nominations: dict[str, str] = {}  # uid -> node

    def nominate(self, pod: PodInfo, node: str) -> None:
        """Room is being made for the pod on this node."""
        self.withdraw(pod.uid)
        self._nominations[pod.uid] = node
        self.nominated.setdefault(node, {})[pod.uid] = pod

    def withdraw(self, uid: str) -> None:
        """No room is being made for the pod any more."""
        node = self._nominations.pop(uid, None)
        if node is not None:
            del self.nominated[node][uid]
            if not self.nominated[node]:
                del self.nominated[node]

    def nomination(self, uid: str) -> str | None:
        """The node on which room is being made for the pod."""
        return self._nominations.get(uid)

    def put_node(self, node: Object) -> None:
        """A node is new or has changed; the pods on it stay."""
        info = read_node(node)
        before = self.nodes.get(info.name)
        pods = (
            before.pods.values()
            if before
            else [pod for pod in self._placed.values() if pod.node == info.name]
        )
        for pod in list(pods):
            info.add(pod)
        self.nodes[info.name] = info

    def remove_node(self, name: str) -> None:
        """A node has gone; its pods are still bound to it."""
        self.nodes.pop(name, None)

    def put_pod(self, pod: Object) -> None:
        """A pod with a node is new or has changed; one that has ended takes no room."""
        info = read_pod(pod)
        if pod.get("status", {}).get("phase") in _ENDED:
            self.remove_pod(info.uid)
        elif info.node:
            self._assumed.discard(info.uid)
            self._place(info)

    def remove_pod(self, uid: str) -> None:
        """A pod has gone."""
        self._assumed.discard(uid)
        before = self._placed.pop(uid, None)
        if before and before.node in self.nodes:
            self.nodes[before.node].remove(before)

    def assume(self, pod: PodInfo) -> None:
        """The pod is about to be bound to its node."""
        self.withdraw(pod.uid)
        self._assumed.add(pod.uid)
        self._place(pod)

    def forget(self, uid: str) -> None:
        """The binding failed: the pod is not there after all."""
        if uid in self._assumed:
            self.remove_pod(uid)

    def _place(self, pod: PodInfo) -> None:
        before = self._placed.get(pod.uid)
        if before and before.node in self.nodes:
            self.nodes[before.node].remove(before)
        self._placed[pod.uid] = pod
        if pod.node in self.nodes:
            self.nodes[pod.node].add(pod)
