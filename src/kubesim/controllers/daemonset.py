"""A pod on every node that a DaemonSet's template allows; what belongs where, `daemonplan` says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from kubesim import clock
from kubesim.controllers.daemonplan import HASH, Daemons, pod_for
from kubesim.controllers.family import Family, Indexes, in_batches, write_status
from kubesim.controllers.objects import deleting, labels_of, phase, soonest, status_of, until_available
from kubesim.controllers.recorder import WARNING, Recorder
from kubesim.controllers.revisions import History
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.informer import Change, Informers, Object
from kubewire.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS


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
    ) -> None:
        self._client = client
        self._now = now
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
        try:
            if self._family.settled(key):
                await self._do(owner, look)
        finally:
            status = look.status()
            if status != status_of(owner):
                await write_status(self._client, DAEMON_SETS, owner, status)
        marks = {labels_of(pod).get(HASH) for pod in pods} | {mark}
        live = {one["metadata"]["name"] for one in known if labels_of(one).get(HASH) in marks}
        await self._history.forget(owner, known, live)
        return soonest(until_available(pod, look.wait, now) for pod in pods)

    async def _do(self, owner: Object, look: Daemons) -> None:
        plan = look.plan()
        for pod in plan.delete:
            if phase(pod) == "Failed":
                about = pod["metadata"]
                node = pod["spec"].get("nodeName", "")
                text = (
                    f"Found failed daemon pod {about['namespace']}/{about['name']} on node {node}, "
                    "will try to kill it"
                )
                await self._recorder.say(DAEMON_SETS, owner, WARNING, "FailedDaemonPod", text)
        await in_batches(
            len(plan.create),
            lambda at: self._family.create(owner, pod_for(owner, plan.create[at], look.mark)),
        )
        await in_batches(len(plan.delete), lambda at: self._family.delete(owner, plan.delete[at]))


def _facts(node: Object) -> tuple[object, ...]:
    return labels_of(node), node.get("spec", {}).get("taints"), node.get("spec", {}).get("unschedulable")
