"""A pod on every node that a DaemonSet's template allows; what belongs where, `daemonplan` says.

A pod that has failed is deleted, so that the next look makes another; on a node where that happens again and again,
with growing delays.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from kubesim import clock
from kubesim.controllers.backoff import Backoff
from kubesim.controllers.daemonplan import HASH, Daemons, pod_for, target_of
from kubesim.controllers.family import Family, Indexes, in_batches, write_status
from kubesim.controllers.objects import deleting, labels_of, phase, soonest, status_of, until_available
from kubesim.controllers.recorder import NORMAL, WARNING, Recorder
from kubesim.controllers.revisions import History
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.informer import Change, Informers, Object
from kubewire.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS

FIRST_DELAY, LONGEST_DELAY = 1.0, 900.0


class DaemonSetController:
    """Keys are those of DaemonSets."""

    name = "daemon sets"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        indexes: Indexes,
        *,
        now: Callable[[], datetime] = clock.now,
        clock: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._client = client
        self._now = now
        self._clock = clock
        self._failures = Backoff(FIRST_DELAY, LONGEST_DELAY)
        self._sets = indexes.of(DAEMON_SETS)
        self._pods = indexes.of(PODS)
        self._revisions = indexes.of(CONTROLLER_REVISIONS)
        self._nodes = informers.of(NODES)
        self._queue = WorkQueue()
        self._recorder = Recorder(client, "daemonset-controller", now=now)
        self._family = Family(client, self._sets, self._pods, self._queue, self._recorder)
        self._history = History(client, self._revisions, DAEMON_SETS, HASH)
        self._sets.informer.subscribe(lambda change: self._queue.add(change.key))
        self._nodes.subscribe(self._node_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        for index in (self._sets, self._pods, self._revisions):
            await index.informer.synced.wait()
        await self._nodes.synced.wait()
        await work(self.name, self._queue, self.reconcile, workers=2)

    def _node_changed(self, change: Change) -> None:
        if change.old is not None and change.new is not None and _facts(change.old) == _facts(change.new):
            return
        for key in self._sets.informer:
            self._queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        """Make and delete pods of one set, and write its status."""
        owner = self._sets.informer.get(key)
        if owner is None:
            return None
        pods = await self._family.claim(owner)
        if deleting(owner):
            return None
        known = self._history.of(owner)
        newest = await self._history.newest(owner, known)
        mark = labels_of(newest)[HASH]
        now = self._now()
        look = Daemons(owner, pods, self._nodes.all(), mark, now)
        waits: list[float | None] = []
        try:
            if self._family.settled(key):
                waits = await self._do(owner, look)
        finally:
            status = look.status()
            if status != status_of(owner):
                await write_status(self._client, DAEMON_SETS, owner, status)
        marks = {labels_of(pod).get(HASH) for pod in pods} | {mark}
        live = {one["metadata"]["name"] for one in known if labels_of(one).get(HASH) in marks}
        await self._history.forget(owner, known, live)
        return soonest([*waits, *(until_available(pod, look.wait, now) for pod in pods)])

    async def _do(self, owner: Object, look: Daemons) -> list[float | None]:
        """Seconds after which failed pods that were left for now may be replaced."""
        at = self._clock()
        waits: list[float | None] = []

        def held(pod: Object) -> bool:
            left = self._failures.left(_place(owner, pod), at) if phase(pod) == "Failed" else 0.0
            waits.append(left or None)
            return left > 0

        plan = look.plan(held)
        for pod in plan.delete:
            await self._say_ended(owner, pod, at)
        await in_batches(
            len(plan.create),
            lambda at: self._family.create(owner, pod_for(owner, plan.create[at], look.mark)),
        )
        await in_batches(len(plan.delete), lambda at: self._family.delete(owner, plan.delete[at]))
        return waits

    async def _say_ended(self, owner: Object, pod: Object, at: float) -> None:
        about, node = pod["metadata"], pod["spec"].get("nodeName", "")
        where = f"daemon pod {about['namespace']}/{about['name']} on node {node}"
        if phase(pod) == "Failed":
            self._failures.attempt(_place(owner, pod), at)
            text = f"Found failed {where}, will try to kill it"
            await self._recorder.say(DAEMON_SETS, owner, WARNING, "FailedDaemonPod", text)
        elif phase(pod) == "Succeeded":
            text = f"Found succeeded {where}, will try to delete it"
            await self._recorder.say(DAEMON_SETS, owner, NORMAL, "SucceededDaemonPod", text)


def _place(owner: Object, pod: Object) -> str:
    """What failures are counted by: a new template is given a new chance."""
    return f"{owner['metadata']['uid']}/{owner['metadata'].get('generation', 0)}/{target_of(pod)}"


def _facts(node: Object) -> tuple[object, ...]:
    return labels_of(node), node.get("spec", {}).get("taints"), node.get("spec", {}).get("unschedulable")
