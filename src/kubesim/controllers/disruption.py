"""The status of PodDisruptionBudgets: how many pods are healthy, how many have to be, how many may be evicted now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from kubesim import clock
from kubesim.apiserver.selectors import from_object
from kubesim.controllers.family import Indexes, write_status
from kubesim.controllers.objects import (
    controller_of,
    deleting,
    finished,
    labels_of,
    moment,
    ready,
    seconds,
    share,
    status_of,
)
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.informer import Change, Object, key_of
from kubewire.resources import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)

_LEAVING = timedelta(minutes=2)  # in which an evicted pod has to be seen going
_SCALABLE = {one.kind: one for one in (DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS)}


class DisruptionController:
    """Keys are those of PodDisruptionBudgets."""

    name = "disruption"

    def __init__(self, client: Client, indexes: Indexes, *, now: Callable[[], datetime] = clock.now) -> None:
        self._client = client
        self._now = now
        self._budgets = indexes.of(POD_DISRUPTION_BUDGETS)
        self._pods = indexes.of(PODS)
        self._owners = {kind: indexes.of(resource) for kind, resource in _SCALABLE.items()}
        self._queue = WorkQueue()
        self._budgets.informer.subscribe(lambda change: self._queue.add(change.key))
        self._pods.informer.subscribe(self._pod_changed)
        for index in self._owners.values():
            index.informer.subscribe(self._owner_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        for index in (self._budgets, self._pods, *self._owners.values()):
            await index.informer.synced.wait()
        await work(self.name, self._queue, self.reconcile)

    def _pod_changed(self, change: Change) -> None:
        for budget in self._budgets.within(change.object["metadata"]["namespace"]):
            selector = from_object(budget["spec"].get("selector"))
            for pod in (change.old, change.new):
                if pod is not None and selector.matches(labels_of(pod)):
                    self._queue.add(key_of(budget))

    def _owner_changed(self, change: Change) -> None:
        old, new = change.old, change.new
        if old is not None and new is not None and old["spec"].get("replicas") == new["spec"].get("replicas"):
            return
        for budget in self._budgets.within(change.object["metadata"]["namespace"]):
            self._queue.add(key_of(budget))

    async def reconcile(self, key: str) -> float | None:
        """Write the status of one budget."""
        budget = self._budgets.informer.get(key)
        if budget is None:
            return None
        selector = from_object(budget["spec"].get("selector"))
        within = self._pods.within(budget["metadata"]["namespace"])
        pods = [pod for pod in within if selector.matches(labels_of(pod)) and not finished(pod)]
        now = self._now()
        status = status_for(budget, pods, self._scale(pods), now)
        if status != status_of(budget):
            await write_status(self._client, POD_DISRUPTION_BUDGETS, budget, status)
        return _LEAVING.total_seconds() if status.get("disruptedPods") else None

    def _scale(self, pods: Iterable[Object]) -> int:
        """How many pods those who control these pods want."""
        found: dict[str, int] = {}
        for pod in pods:
            top = self._top(pod)
            if top is not None:
                found[top["metadata"]["uid"]] = int(top["spec"].get("replicas", 1))
        return sum(found.values())

    def _top(self, obj: Object) -> Object | None:
        by = controller_of(obj)
        index = self._owners.get(by["kind"]) if by else None
        if by is None or index is None:
            return None
        owner = index.informer.get(f"{obj['metadata']['namespace']}/{by['name']}")
        if owner is None or owner["metadata"]["uid"] != by["uid"]:
            return None
        return self._top(owner) or owner


def status_for(budget: Object, pods: list[Object], scale: int, now: datetime) -> Object:
    """The status of a budget over these pods; `scale` is what their controllers want together."""
    spec, before = budget["spec"], status_of(budget)
    expected, desired = len(pods), 0
    if spec.get("maxUnavailable") is not None:
        expected = scale
        desired = max(0, expected - share(spec["maxUnavailable"], expected, up=True))
    elif isinstance(spec.get("minAvailable"), int):
        desired = spec["minAvailable"]
    elif spec.get("minAvailable") is not None:
        expected = scale
        desired = share(spec["minAvailable"], expected, up=True)
    names = {pod["metadata"]["name"]: pod for pod in pods}
    leaving = {
        name: since
        for name, since in (before.get("disruptedPods") or {}).items()
        if name in names and not deleting(names[name]) and (moment(since) or now) + _LEAVING > now
    }
    healthy = sum(
        1 for name, pod in names.items() if ready(pod) and not deleting(pod) and name not in leaving
    )
    allowed = max(0, healthy - desired) if expected > 0 else 0
    generation = budget["metadata"].get("generation", 0)
    status: Object = {
        "observedGeneration": generation,
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "conditions": _conditions(before.get("conditions") or [], allowed > 0, generation, now),
    }
    return {**status, "disruptedPods": leaving} if leaving else status


def _conditions(before: list[Object], is_allowed: bool, generation: int, now: datetime) -> list[Object]:
    state = "True" if is_allowed else "False"
    old = next((one for one in before if one["type"] == "DisruptionAllowed"), None)
    made = {
        "type": "DisruptionAllowed",
        "status": state,
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"]
        if old is not None and old["status"] == state
        else seconds(now),
        "reason": "SufficientPods" if is_allowed else "InsufficientPods",
        "message": "",
    }
    if old is None:
        return [*before, made]
    return [made if one is old else one for one in before]
