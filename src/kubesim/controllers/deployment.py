"""A Deployment has one ReplicaSet for each template it ever had, and moves its pods to the newest one.

What is to be done is decided in `rollout`; here it is done. Sets are resized by replacing them as they were seen, so
that a decision made on an old view is refused and made again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from kubesim import clock
from kubesim.controllers.family import Family, Indexes, write_status
from kubesim.controllers.objects import (
    annotations_of,
    condition,
    controlled_by,
    controller_of,
    deleting,
    finished,
    status_of,
)
from kubesim.controllers.recorder import NORMAL, Recorder
from kubesim.controllers.rollout import (
    PAUSED,
    REVISION,
    Resize,
    Rollout,
    bare,
    complete,
    counted,
    must_rescale,
    revision,
    set_condition,
    size,
    time_left,
    with_progress,
)
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import AlreadyExists, KubeError
from kubewire.informer import Change, Object
from kubewire.resources import DEPLOYMENTS, PODS, REPLICA_SETS


class DeploymentController:
    """Keys are those of Deployments."""

    name = "deployments"

    def __init__(self, client: Client, indexes: Indexes, *, now: Callable[[], datetime] = clock.now) -> None:
        self._client = client
        self._now = now
        self._deployments = indexes.of(DEPLOYMENTS)
        self._sets = indexes.of(REPLICA_SETS)
        self._pods = indexes.of(PODS)
        self._queue = WorkQueue()
        self._recorder = Recorder(client, "deployment-controller", now=now)
        self._family = Family(client, self._deployments, self._sets, self._queue, self._recorder)
        self._deployments.informer.subscribe(lambda change: self._queue.add(change.key))
        self._pods.informer.subscribe(self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        for index in (self._deployments, self._sets, self._pods):
            await index.informer.synced.wait()
        await work(self.name, self._queue, self.reconcile, workers=5)

    def _pod_changed(self, change: Change) -> None:
        """The last pod of an old set has gone: Recreate goes on."""
        by = controller_of(change.object) if change.new is None else None
        if not by or by["kind"] != REPLICA_SETS.kind:
            return
        namespace = change.object["metadata"]["namespace"]
        above = self._sets.informer.get(f"{namespace}/{by['name']}")
        top = controller_of(above) if above else None
        if top and top["kind"] == DEPLOYMENTS.kind:
            self._queue.add(f"{namespace}/{top['name']}")

    async def reconcile(self, key: str) -> float | None:
        """One step of a rollout."""
        deployment = self._deployments.informer.get(key)
        if deployment is None:
            return None
        sets = await self._family.claim(deployment)
        look = Rollout(deployment, sets)
        if deleting(deployment):
            return await self._report(look)
        if not self._family.settled(key):
            return None
        look = await self._say_paused(look)
        if look.spec.get("paused") or must_rescale(look):
            look = await self._with_new(look, create=False)
            look = await self._resize(look, look.resized())
        elif look.rolling:
            look = await self._roll(look)
        else:
            look = await self._recreate(look)
        return await self._report(look)

    async def _roll(self, look: Rollout) -> Rollout:
        look = await self._with_new(look, create=True)
        assert look.new is not None
        wanted = look.new_size()
        if wanted != size(look.new):
            return await self._resize(look, [Resize(look.new, wanted)])
        smaller = look.shrinking()
        if smaller:
            return await self._resize(look, smaller)
        await self._clean_up(look)
        return look

    async def _recreate(self, look: Rollout) -> Rollout:
        look = await self._with_new(look, create=False)
        smaller = [Resize(one, 0) for one in look.old if size(one) > 0]
        if smaller:
            return await self._resize(look, smaller)
        pods = [pod for one in look.old for pod in self._pods.owned(one["metadata"]["uid"])]
        if any(not finished(pod) for pod in pods):
            return look
        look = await self._with_new(look, create=True)
        if look.new is not None and size(look.new) != look.replicas:
            return await self._resize(look, [Resize(look.new, look.replicas)])
        await self._clean_up(look)
        return look

    async def _clean_up(self, look: Rollout) -> None:
        if complete(look, counted(look, self._now())):
            for one in look.expendable():
                await self._family.delete(look.deployment, one, quiet=True)

    async def _with_new(self, look: Rollout, *, create: bool) -> Rollout:
        """The look with a new set that is marked as it has to be, made if need be."""
        if look.new is None:
            return await self._make(look) if create else look
        new, number = look.new, look.next_revision()
        marks = look.annotations(new, number)
        wait = look.spec.get("minReadySeconds", 0)
        if marks != annotations_of(new) or wait != new["spec"].get("minReadySeconds", 0):
            spec = {**new["spec"], "minReadySeconds": wait}
            new = await self._replace(
                {**new, "metadata": {**new["metadata"], "annotations": marks}, "spec": spec}
            )
            look = _with_set(look, new)
        text = f'Found new replica set "{new["metadata"]["name"]}"'
        return await self._mark(look, revision(new), "FoundNewReplicaSet", text)

    async def _make(self, look: Rollout) -> Rollout:
        wanted = look.new_set()
        wanted["metadata"]["ownerReferences"] = [controlled_by(DEPLOYMENTS, look.deployment)]
        name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
        try:
            made = await self._family.create(look.deployment, wanted, quiet=True)
        except AlreadyExists:
            made = await self._client.get(REPLICA_SETS, name, namespace)
            owner = controller_of(made)
            mine = owner is not None and owner["uid"] == look.deployment["metadata"]["uid"]
            if not mine or bare(made["spec"]["template"]) != bare(wanted["spec"]["template"]):
                await self._count_collision(look)
                raise
        except KubeError as error:
            status = dict(status_of(look.deployment))
            text = f'Failed to create new replica set "{name}": {error}'
            set_condition(status, "Progressing", "False", "ReplicaSetCreateError", text, now=self._now())
            if status != status_of(look.deployment):
                await write_status(self._client, DEPLOYMENTS, look.deployment, status)
            raise
        if made is None:
            return look
        if size(made) > 0:
            await self._say_scaled(look, name, 0, size(made))
        look = Rollout(look.deployment, [*look.sets, made])
        text = f'Created new replica set "{name}"'
        return await self._mark(look, revision(made), "NewReplicaSetCreated", text)

    async def _count_collision(self, look: Rollout) -> None:
        status = dict(status_of(look.deployment))
        status["collisionCount"] = status.get("collisionCount", 0) + 1
        await write_status(self._client, DEPLOYMENTS, look.deployment, status)

    async def _mark(self, look: Rollout, number: int, reason: str, text: str) -> Rollout:
        """The deployment carries the newest revision, and has a condition about its progress."""
        deployment = look.deployment
        metadata = deployment["metadata"]
        if revision(deployment) != number:
            metadata = {**metadata, "annotations": {**annotations_of(deployment), REVISION: str(number)}}
        status = dict(status_of(deployment))
        has_deadline = look.spec.get("progressDeadlineSeconds") is not None
        if has_deadline and (
            reason == "NewReplicaSetCreated" or condition(deployment, "Progressing") is None
        ):
            set_condition(status, "Progressing", "True", reason, text, now=self._now())
        if metadata is not deployment["metadata"] or status != status_of(deployment):
            marked = {**deployment, "metadata": metadata}
            deployment = await write_status(self._client, DEPLOYMENTS, marked, status)
        return Rollout(deployment, look.sets)

    async def _resize(self, look: Rollout, changes: list[Resize]) -> Rollout:
        for one in changes:
            before = size(one.target)
            marks = look.annotations(one.target, None)
            if one.replicas == before and marks == annotations_of(one.target):
                continue
            made = await self._replace(
                {
                    **one.target,
                    "metadata": {**one.target["metadata"], "annotations": marks},
                    "spec": {**one.target["spec"], "replicas": one.replicas},
                }
            )
            if one.replicas != before:
                await self._say_scaled(look, made["metadata"]["name"], before, one.replicas)
            look = _with_set(look, made)
        return look

    async def _say_scaled(self, look: Rollout, name: str, before: int, after: int) -> None:
        way = "up" if after > before else "down"
        text = f"Scaled {way} replica set {name} from {before} to {after}"
        await self._recorder.say(DEPLOYMENTS, look.deployment, NORMAL, "ScalingReplicaSet", text)

    async def _replace(self, changed: Object) -> Object:
        full = {**changed, "apiVersion": "apps/v1", "kind": "ReplicaSet"}
        return await self._client.replace(REPLICA_SETS, full, full["metadata"]["namespace"])

    async def _say_paused(self, look: Rollout) -> Rollout:
        deployment = look.deployment
        if look.spec.get("progressDeadlineSeconds") is None:
            return look
        found, paused = condition(deployment, "Progressing"), bool(look.spec.get("paused"))
        if found is not None and found["reason"] == "ProgressDeadlineExceeded":
            return look
        is_said = found is not None and found["reason"] == PAUSED
        if paused == is_said:
            return look
        reason, text = (
            (PAUSED, "Deployment is paused") if paused else ("DeploymentResumed", "Deployment is resumed")
        )
        status = dict(status_of(deployment))
        set_condition(status, "Progressing", "Unknown", reason, text, now=self._now())
        deployment = await write_status(self._client, DEPLOYMENTS, deployment, status)
        return Rollout(deployment, look.sets)

    async def _report(self, look: Rollout) -> float | None:
        now = self._now()
        status = counted(look, now)
        if not (look.spec.get("paused") or deleting(look.deployment) or must_rescale(look)):
            status = with_progress(look, status, now)
        if status != status_of(look.deployment):
            await write_status(self._client, DEPLOYMENTS, look.deployment, status)
        if complete(look, status):
            return None
        left = time_left(look, status, now)
        return None if left is None else max(1.0, left + 1)


def _with_set(look: Rollout, changed: Object) -> Rollout:
    name = changed["metadata"]["name"]
    sets = [changed if one["metadata"]["name"] == name else one for one in look.sets]
    return Rollout(look.deployment, sets)
