"""What becomes of a node whose kubelet falls silent: Ready turns Unknown, taints follow the conditions.

Only nodes that have a Lease are looked after: a node that somebody made by hand, without a kubelet, is as ready and as
tainted as its maker says. Pods are evicted from tainted nodes when their toleration has run out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from kubesim import clock
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.informer import Change, Informers, Object, split_key
from kubewire.resources import LEASES, NODES, PODS

log = logging.getLogger(__name__)

GRACE = 40.0
PERIOD = 5.0
LEASE_NAMESPACE = "kube-node-lease"
UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"
_KUBELET_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


class NodeLifecycle:
    """Keys are names of nodes."""

    name = "node lifecycle"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        *,
        grace: float = GRACE,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._client = client
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS)
        self._leases = informers.of(LEASES)
        self._grace = grace
        self._now = now
        self._renewed: dict[str, tuple[str, float]] = {}  # node -> renewTime, when we saw it, in our own time
        self._queue = WorkQueue()
        self._nodes.subscribe(lambda change: self._queue.add(change.key))
        self._leases.subscribe(self._lease_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        for mirror in (self._nodes, self._pods, self._leases):
            await mirror.synced.wait()
        await work(self.name, self._queue, self.reconcile)

    async def reconcile(self, name: str) -> float | None:
        """Look at one node."""
        node = self._nodes.get(name)
        if node is None:
            self._renewed.pop(name, None)
            return None
        if self._is_silent(name, clock.monotonic()) and _ready(node) not in ("Unknown", None):
            await self._mark_unknown(node)
            return PERIOD
        if self._leases.get(f"{LEASE_NAMESPACE}/{name}") is None:
            return None
        await self._taint(node)
        return min(await self._evict(node), PERIOD)

    def _lease_changed(self, change: Change) -> None:
        namespace, name = split_key(change.key)
        if namespace == LEASE_NAMESPACE and change.old is None:  # renewals are looked at once in a period
            self._queue.add(name)

    def _is_silent(self, name: str, at: float) -> bool:
        """Judged by our own clock: what counts is that the Lease has not changed, not what time it says."""
        lease = self._leases.get(f"{LEASE_NAMESPACE}/{name}")
        if lease is None:
            return False
        renewed = str(lease.get("spec", {}).get("renewTime"))
        seen = self._renewed.get(name)
        if seen is None or seen[0] != renewed:
            self._renewed[name] = (renewed, at)
            return False
        return at - seen[1] > self._grace

    async def _mark_unknown(self, node: Object) -> None:
        name = node["metadata"]["name"]
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        after = []
        for one in node["status"].get("conditions", []):
            if one["type"] in _KUBELET_CONDITIONS and one["status"] != "Unknown":
                one = {
                    **one,
                    "status": "Unknown",
                    "reason": "NodeStatusUnknown",
                    "message": "Kubelet stopped posting node status.",
                    "lastTransitionTime": now,
                }
            after.append(one)
        log.warning("node %s: no lease renewal for %.0f s", name, self._grace)
        await self._client.patch(
            NODES,
            name,
            {
                "status": {"conditions": after},
                "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
            },
            subresource="status",
        )

    async def _taint(self, node: Object) -> None:
        before = node.get("spec", {}).get("taints", [])
        after = taints(before, _ready(node), self._now())
        if after != before:
            metadata = node["metadata"]
            await self._client.patch(
                NODES,
                metadata["name"],
                {
                    "spec": {"taints": after or None},
                    "metadata": {"resourceVersion": metadata["resourceVersion"]},
                },
            )

    async def _evict(self, node: Object) -> float:
        """Delete the pods whose time on a tainted node is over; returns when the next one's is."""
        evicting = [one for one in node.get("spec", {}).get("taints", []) if one["effect"] == "NoExecute"]
        soonest = PERIOD
        for pod in self._pods.all() if evicting else []:
            if (
                pod["spec"].get("nodeName") != node["metadata"]["name"]
                or "deletionTimestamp" in pod["metadata"]
            ):
                continue
            left = time_left(pod, evicting, self._now())
            if left is None:
                continue
            if left > 0:
                soonest = min(soonest, left)
                continue
            metadata = pod["metadata"]
            try:
                await self._client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
            except NotFound:
                pass  # gone already
            log.info("pod %s/%s evicted: its node is tainted", metadata["namespace"], metadata["name"])
        return soonest


def _ready(node: Object) -> str | None:
    for one in node.get("status", {}).get("conditions", []):
        if one["type"] == "Ready":
            return str(one["status"])
    return None


def taints(before: list[Object], ready: str | None, now: datetime) -> list[Object]:
    """The taints that follow from the Ready condition, beside all others; nothing without the condition."""
    if ready is None:
        return before
    wanted = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(ready)
    after = [one for one in before if one["key"] not in (NOT_READY, UNREACHABLE) or one["key"] == wanted]
    if wanted:
        present = {one["effect"] for one in after if one["key"] == wanted}
        if "NoSchedule" not in present:
            after.append({"key": wanted, "effect": "NoSchedule"})
        if "NoExecute" not in present:
            at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
            after.append({"key": wanted, "effect": "NoExecute", "timeAdded": at})
    return after


def time_left(pod: Object, evicting: list[Object], now: datetime) -> float | None:
    """Seconds until the pod has to leave; None when it may stay for ever, 0 or less when it has to go now."""
    soonest: float | None = None
    for taint in evicting:
        tolerating = [one for one in pod["spec"].get("tolerations", []) if tolerates(one, taint)]
        if not tolerating:
            return 0.0
        bounded = [one["tolerationSeconds"] for one in tolerating if "tolerationSeconds" in one]
        if not bounded:
            continue
        added = datetime.fromisoformat(taint["timeAdded"]) if taint.get("timeAdded") else now
        left = max(0, min(bounded)) - (now - added).total_seconds()
        soonest = left if soonest is None else min(soonest, left)
    return soonest


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether the toleration covers the taint."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")
