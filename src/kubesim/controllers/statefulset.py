"""Pods with names that stay: made in order, each with claims of its own, replaced from the top.

What the next step is, `ordinals` says. Claims outlive their pods, unless the set's retention policy gives
them an owner. A pod that has ended is replaced; one that fails again and again, with growing delays.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from kubesim import clock
from kubesim.controllers.backoff import Backoff
from kubesim.controllers.family import Family, Indexes, write_status
from kubesim.controllers.objects import (
    deleting,
    finished,
    labels_of,
    phase,
    soonest,
    status_of,
    until_available,
)
from kubesim.controllers.ordinals import (
    REVISION,
    Ordinals,
    claim_name,
    claims_for,
    ordinal_of,
    pod_for,
)
from kubesim.controllers.recorder import NORMAL, WARNING, Recorder
from kubesim.controllers.revisions import History, template_of
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import AlreadyExists, KubeError, NotFound
from kubewire.informer import Object
from kubewire.resources import (
    CONTROLLER_REVISIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    STATEFUL_SETS,
)

FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0
_HASH = "controller.kubernetes.io/hash"


class StatefulSetController:
    """Keys are those of StatefulSets."""

    name = "stateful sets"

    def __init__(
        self,
        client: Client,
        indexes: Indexes,
        *,
        now: Callable[[], datetime] = clock.now,
        clock: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._client = client
        self._now = now
        self._clock = clock
        self._failures = Backoff(FIRST_DELAY, LONGEST_DELAY)
        self._sets = indexes.of(STATEFUL_SETS)
        self._pods = indexes.of(PODS)
        self._revisions = indexes.of(CONTROLLER_REVISIONS)
        self._queue = WorkQueue()
        self._recorder = Recorder(client, "statefulset-controller", now=now)
        self._family = Family(client, self._sets, self._pods, self._queue, self._recorder)
        self._history = History(client, self._revisions, STATEFUL_SETS, _HASH)
        self._sets.informer.subscribe(lambda change: self._queue.add(change.key))

    async def run(self) -> None:
        """Work until cancelled."""
        for index in (self._sets, self._pods, self._revisions):
            await index.informer.synced.wait()
        await work(self.name, self._queue, self.reconcile, workers=5)

    async def reconcile(self, key: str) -> float | None:
        """One step for one set."""
        owner = self._sets.informer.get(key)
        if owner is None:
            return None
        pods = await self._family.claim(owner, wanted=lambda pod: ordinal_of(owner, pod) is not None)
        if deleting(owner) or not self._family.settled(key):
            return None
        known = self._history.of(owner)
        update = await self._history.newest(owner, known)
        names = {one["metadata"]["name"]: one for one in [*known, update]}
        before = status_of(owner)
        current = names.get(before.get("currentRevision", ""), update)
        now = self._now()
        look = Ordinals(owner, pods, current["metadata"]["name"], update["metadata"]["name"], now)
        failure: KubeError | None = None
        waits: list[float | None] = []
        for step in look.steps():
            left = await self._held(owner, look, step.delete)
            if left > 0:
                waits.append(left)
                continue
            try:
                if step.create is not None:
                    made = await self._create(owner, step.create, names[look.revision_for(step.create)])
                    if made is not None:
                        look.by_ordinal[step.create] = made
                elif step.delete is not None:
                    await self._delete(owner, step.delete, condemned=step.condemned)
            except KubeError as error:
                failure = error
                break
        status = look.status(before.get("collisionCount") or 0)
        if status != before:
            await write_status(self._client, STATEFUL_SETS, owner, status)
        if failure is not None:
            raise failure
        live = {status["currentRevision"], status["updateRevision"]} | {
            labels_of(pod).get(REVISION, "") for pod in pods
        }
        await self._history.forget(owner, known, live)
        wait = owner["spec"].get("minReadySeconds", 0)
        return soonest([*waits, *(until_available(pod, wait, now) for pod in pods)])

    async def _held(self, owner: Object, look: Ordinals, pod: Object | None) -> float:
        """Seconds for which a pod that has ended is left alone; when none, it is about to be replaced."""
        if pod is None or not finished(pod):
            return 0.0
        about = owner["metadata"]
        name, ordinal = pod["metadata"]["name"], ordinal_of(owner, pod)
        if ordinal is None or ordinal not in look.wanted:
            return 0.0
        failed = phase(pod) == "Failed"
        if failed:
            key, at = f"{about['uid']}/{look.revision_for(ordinal)}/{name}", self._clock()
            left = self._failures.left(key, at)
            if left > 0:
                return left
            self._failures.attempt(key, at)
        what = "Failed" if failed else "Terminated"
        text = f"StatefulSet {about['namespace']}/{about['name']} is recreating {what.lower()} Pod {name}"
        kind = WARNING if failed else NORMAL
        await self._recorder.say(STATEFUL_SETS, owner, kind, f"Recreating{what}Pod", text)
        return 0.0

    async def _create(self, owner: Object, ordinal: int, revision: Object) -> Object | None:
        name = owner["metadata"]["name"]
        pod = pod_for(owner, template_of(revision), ordinal, revision["metadata"]["name"])
        what = f"create Pod {pod['metadata']['name']} in StatefulSet {name}"
        try:
            await self._claims(owner, ordinal)
            made = await self._family.create(owner, pod, quiet=True)
        except KubeError as error:
            text = f"{what} failed error: {error}"
            await self._recorder.say(STATEFUL_SETS, owner, WARNING, "FailedCreate", text)
            raise
        if made is not None:
            await self._recorder.say(STATEFUL_SETS, owner, NORMAL, "SuccessfulCreate", f"{what} successful")
        return made

    async def _claims(self, owner: Object, ordinal: int) -> None:
        about = owner["metadata"]
        policy = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
        for claim in claims_for(owner, ordinal):
            name = claim["metadata"]["name"]
            if policy.get("whenDeleted") == "Delete":
                claim["metadata"]["ownerReferences"] = [_owner("apps/v1", "StatefulSet", owner)]
            try:
                await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim, about["namespace"])
            except AlreadyExists:
                continue
            text = f"create Claim {name} Pod {about['name']}-{ordinal} in StatefulSet {about['name']} success"
            await self._recorder.say(STATEFUL_SETS, owner, NORMAL, "SuccessfulCreate", text)

    async def _delete(self, owner: Object, pod: Object, *, condemned: bool) -> None:
        about = pod["metadata"]
        policy = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
        if condemned and policy.get("whenScaled") == "Delete":
            await self._bind_claims(owner, pod)
        await self._family.delete(owner, pod, quiet=True)
        text = f"delete Pod {about['name']} in StatefulSet {owner['metadata']['name']} successful"
        await self._recorder.say(STATEFUL_SETS, owner, NORMAL, "SuccessfulDelete", text)

    async def _bind_claims(self, owner: Object, pod: Object) -> None:
        """The claims go with the pod: the garbage collector sees to it."""
        ordinal = ordinal_of(owner, pod)
        assert ordinal is not None
        namespace = owner["metadata"]["namespace"]
        patch = {"metadata": {"ownerReferences": [_owner("v1", "Pod", pod)]}}
        for template in owner["spec"].get("volumeClaimTemplates") or ():
            name = claim_name(template, owner, ordinal)
            try:
                await self._client.patch(PERSISTENT_VOLUME_CLAIMS, name, patch, namespace)
            except NotFound:
                continue


def _owner(version: str, kind: str, obj: Object) -> Object:
    about = obj["metadata"]
    return {"apiVersion": version, "kind": kind, "name": about["name"], "uid": about["uid"]}
