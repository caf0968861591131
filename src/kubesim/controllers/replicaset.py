"""As many pods as a ReplicaSet asks for: adopts, makes, deletes the least useful ones, and counts.

A ReplicationController is the older form of the same thing, and has the same controller: its selector is plain
labels, and its status does not count the pods that are on their way out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime

from kubesim import clock
from kubesim.controllers import objects
from kubesim.controllers.family import Family, Indexes, in_batches, write_status
from kubesim.controllers.objects import (
    active,
    annotations_of,
    available,
    condition,
    controller_of,
    deleting,
    finished,
    labels_of,
    moment,
    phase,
    pod_of,
    ready,
    seconds,
    status_of,
    terminating,
    until_available,
    without_zeros,
)
from kubesim.controllers.recorder import Recorder
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import KubeError
from kubewire.informer import Object
from kubewire.resources import PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, Resource

BURST = 500
COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


class ReplicaSetController:
    """Keys are those of ReplicaSets."""

    name = "replica sets"
    resource: Resource = REPLICA_SETS
    component = "replicaset-controller"

    def __init__(self, client: Client, indexes: Indexes, *, now: Callable[[], datetime] = clock.now) -> None:
        self._client = client
        self._now = now
        self._sets = indexes.of(self.resource)
        self._pods = indexes.of(PODS)
        self._queue = WorkQueue()
        recorder = Recorder(client, self.component, now=now)
        self._family = Family(client, self._sets, self._pods, self._queue, recorder)
        self._sets.informer.subscribe(lambda change: self._queue.add(change.key))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._sets.informer.synced.wait()
        await self._pods.informer.synced.wait()
        await work(self.name, self._queue, self.reconcile, workers=5)

    async def reconcile(self, key: str) -> float | None:
        """Make the pods that a set lacks, delete those it has too many of, write its status."""
        owner = self._sets.informer.get(key)
        if owner is None:
            return None
        pods = await self._family.claim(owner, wanted=lambda pod: not finished(pod))
        actives = [pod for pod in pods if active(pod)]
        failure: tuple[str, KubeError] | None = None
        if self._family.settled(key) and not deleting(owner):
            failure = await self._manage(owner, actives)
        now = self._now()
        problem = (failure[0], str(failure[1])) if failure else None
        leaving = sum(1 for pod in pods if terminating(pod))
        status = status_for(owner, actives, leaving, problem, now)
        if self.resource is REPLICATION_CONTROLLERS:
            del status["terminatingReplicas"]
        if status != status_of(owner):
            await write_status(self._client, self.resource, owner, status)
        if failure:
            raise failure[1]
        wait = owner["spec"].get("minReadySeconds", 0)
        return objects.soonest(until_available(pod, wait, now) for pod in actives)

    async def _manage(self, owner: Object, actives: list[Object]) -> tuple[str, KubeError] | None:
        missing = owner["spec"].get("replicas", 1) - len(actives)
        try:
            if missing > 0:
                pod = pod_of(owner["spec"]["template"], self.resource, owner)
                await in_batches(min(missing, BURST), lambda _: self._family.create(owner, pod))
        except KubeError as error:
            return "FailedCreate", error
        try:
            if missing < 0:
                leaving = to_delete(actives, self._related(owner), min(-missing, BURST), self._now())
                await in_batches(len(leaving), lambda at: self._family.delete(owner, leaving[at]))
        except KubeError as error:
            return "FailedDelete", error
        return None

    def _related(self, owner: Object) -> list[Object]:
        """The active pods of all sets with the same controller: those of one Deployment."""
        above = controller_of(owner)
        sets = self._sets.owned(above["uid"]) if above else [owner]
        return [pod for one in sets for pod in self._pods.owned(one["metadata"]["uid"]) if active(pod)]


class ReplicationControllerController(ReplicaSetController):
    """Keys are those of ReplicationControllers."""

    name = "replication controllers"
    resource = REPLICATION_CONTROLLERS
    component = "replication-controller"


def to_delete(actives: list[Object], related: Iterable[Object], count: int, now: datetime) -> list[Object]:
    """The pods that are missed least: not placed, not ready, cheap, crowded, young."""
    if count >= len(actives):
        return list(actives)
    crowd = Counter(pod["spec"].get("nodeName") for pod in related)

    def worth(pod: Object) -> tuple[object, ...]:
        node = pod["spec"].get("nodeName")
        since = condition(pod, "Ready") if ready(pod) else None
        ready_for = (now - (moment((since or {}).get("lastTransitionTime")) or now)).total_seconds()
        containers = status_of(pod).get("containerStatuses") or ()
        created = moment(pod["metadata"].get("creationTimestamp")) or now
        return (
            bool(node),
            _PHASES.get(phase(pod), 1),
            ready(pod),
            _cost(pod),
            -crowd[node] if node else 0,
            ready_for,
            -max((one.get("restartCount", 0) for one in containers), default=0),
            (now - created).total_seconds(),
            pod["metadata"]["name"],
        )

    return sorted(actives, key=worth)[:count]


def _cost(pod: Object) -> int:
    try:
        return int(annotations_of(pod).get(COST, "0"))
    except ValueError:
        return 0


def status_for(
    owner: Object, actives: list[Object], leaving: int, problem: tuple[str, str] | None, now: datetime
) -> Object:
    """The status of a set with these pods."""
    spec = owner["spec"]
    template = (spec["template"].get("metadata") or {}).get("labels") or {}
    wait = spec.get("minReadySeconds", 0)
    before = status_of(owner)
    return without_zeros(
        {
            "replicas": len(actives),
            "fullyLabeledReplicas": sum(1 for pod in actives if template.items() <= labels_of(pod).items()),
            "readyReplicas": sum(1 for pod in actives if ready(pod)),
            "availableReplicas": sum(1 for pod in actives if available(pod, wait, now)),
            "terminatingReplicas": leaving,
            "observedGeneration": owner["metadata"].get("generation", 0),
            "conditions": _conditions(before.get("conditions") or [], problem, now),
        },
        "replicas",
        "terminatingReplicas",
    )


def _conditions(before: list[Object], problem: tuple[str, str] | None, now: datetime) -> list[Object]:
    kept = [one for one in before if one["type"] != "ReplicaFailure"]
    if problem is None:
        return kept
    reason, message = problem
    old = next((one for one in before if one["type"] == "ReplicaFailure"), None)
    if old is not None:
        return before
    made = {"type": "ReplicaFailure", "status": "True", "reason": reason, "message": message}
    return [*kept, {**made, "lastTransitionTime": seconds(now)}]
