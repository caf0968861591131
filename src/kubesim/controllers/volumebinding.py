"""Claims and volumes find each other, and stay together; what a claim leaves behind is kept or removed.

A binding is written on both sides in four steps, each of which finds itself already done: the volume's reference, its
phase, the claim's volume, its status. One worker does them all, and every write names the version it was decided on:
no volume is given away twice. Which volume suits, `kubesim.volumes` says. Volumes are made and removed by provisioners
(`localvolumes` is one); this controller only says which of them is meant.
"""

from __future__ import annotations

from typing import Any

from kubesim.controllers.objects import annotations_of, deleting, status_of
from kubesim.controllers.recorder import NORMAL, WARNING, Recorder
from kubesim.controllers.volumephases import Reclaiming, with_annotations, with_phase
from kubesim.controllers.workqueue import WorkQueue, work
from kubesim.volumes.matching import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    NO_PROVISIONER,
    PROVISIONER,
    PROVISIONER_BETA,
    SELECTED_NODE,
    class_of,
    default_class,
    find_match,
    has_class,
    is_bound_to,
    is_complete,
    mismatch,
    waits_for_consumer,
)
from kubewire.client import Client
from kubewire.informer import Change, Informers, Object, key_of
from kubewire.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES

_CLAIM, _VOLUME = "claim:", "volume:"
_LOST_CLAIM = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
_LOST_VOLUME = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
_MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"
_NOTHING = "no persistent volumes available for this claim and no storage class is set"


class VolumeBinder:
    """Keys are those of claims and volumes, with a prefix."""

    name = "persistent volumes"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._claims = informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = informers.of(PERSISTENT_VOLUMES)
        self._classes = informers.of(STORAGE_CLASSES)
        self._pods = informers.of(PODS)
        self._queue = WorkQueue()
        self._recorder = Recorder(client, "persistentvolume-controller")
        self._reclaiming = Reclaiming(client, self._recorder)
        self._claims.subscribe(self._claim_changed)
        self._volumes.subscribe(self._volume_changed)
        self._classes.subscribe(self._class_changed)
        self._pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        for informer in (self._claims, self._volumes, self._classes, self._pods):
            await informer.synced.wait()
        await work(self.name, self._queue, self.reconcile)

    def _claim_changed(self, change: Change) -> None:
        self._queue.add(_CLAIM + change.key)
        volume = change.object["spec"].get("volumeName")
        if volume:
            self._queue.add(_VOLUME + volume)
        if change.new is None:  # a volume may be reserved for it that it does not name yet
            for one in self._volumes.all():
                if is_bound_to(one, change.object):
                    self._queue.add(_VOLUME + one["metadata"]["name"])

    def _volume_changed(self, change: Change) -> None:
        self._queue.add(_VOLUME + change.key)
        ref = change.object["spec"].get("claimRef")
        if ref:
            self._queue.add(f"{_CLAIM}{ref['namespace']}/{ref['name']}")
        self._wake_pending(change.key)

    def _wake_pending(self, volume: str) -> None:
        for claim in self._claims.all():
            if not is_complete(claim) and claim["spec"].get("volumeName") in (None, "", volume):
                self._queue.add(_CLAIM + key_of(claim))

    def _class_changed(self, change: Change) -> None:
        self._wake_pending("")

    def _pod_changed(self, change: Change) -> None:
        """What a waiting claim says depends on whether a pod waits for it."""
        pod = change.new
        if change.old is None and pod is not None and not pod["spec"].get("nodeName"):
            for name in claims_of(pod):
                self._queue.add(f"{_CLAIM}{pod['metadata']['namespace']}/{name}")

    async def reconcile(self, key: str) -> None:
        """Look at one claim or volume."""
        kind, _, name = key.partition(":")
        if kind + ":" == _VOLUME:
            volume = self._volumes.get(name)
            if volume is not None:
                await self._look_at_volume(volume)
            return
        claim = self._claims.get(name)
        if claim is None:
            return
        if is_complete(claim) or BIND_COMPLETED in annotations_of(claim):
            await self._look_at_bound(claim)
        else:
            await self._look_at_pending(claim)

    # Claims

    async def _look_at_bound(self, claim: Object) -> None:
        name = claim["spec"].get("volumeName")
        volume = self._volumes.get(name) if name else None
        if not name or volume is None:
            await self._lose(claim, "ClaimLost", _LOST_VOLUME if name else _LOST_CLAIM)
        elif not volume["spec"].get("claimRef") or is_bound_to(volume, claim):
            await self._bind(volume, claim)
        else:
            await self._lose(claim, "ClaimMisbound", _MISBOUND)

    async def _lose(self, claim: Object, reason: str, message: str) -> None:
        if status_of(claim).get("phase") != "Lost":
            await self._write_claim_status(claim, {**status_of(claim), "phase": "Lost"})
            await self._recorder.say(PERSISTENT_VOLUME_CLAIMS, claim, WARNING, reason, message)

    async def _look_at_pending(self, claim: Object) -> None:
        if deleting(claim):
            return
        named = claim["spec"].get("volumeName")
        if named:
            await self._look_at_named(claim, str(named))
            return
        if not has_class(claim) and (found := default_class(self._classes.all())) is not None:
            spec = {**claim["spec"], "storageClassName": found["metadata"]["name"]}
            claim = await self._write_claim({**claim, "spec": spec})
        storage_class = self._classes.get(class_of(claim))
        delayed = waits_for_consumer(storage_class) and SELECTED_NODE not in annotations_of(claim)
        volume = find_match(claim, self._volumes.all(), delayed=waits_for_consumer(storage_class))
        if volume is not None:
            await self._bind(volume, claim)
        elif delayed:
            await self._say_waiting(claim)
        elif class_of(claim):
            await self._provision(claim, storage_class)
        else:
            await self._recorder.say(PERSISTENT_VOLUME_CLAIMS, claim, NORMAL, "FailedBinding", _NOTHING)

    async def _look_at_named(self, claim: Object, name: str) -> None:
        volume = self._volumes.get(name)
        if volume is None or (volume["spec"].get("claimRef") and not is_bound_to(volume, claim)):
            return  # it may come, or become free
        problem = None if volume["spec"].get("claimRef") else mismatch(volume, claim)
        if problem is None:
            await self._bind(volume, claim)
            return
        text = f'Cannot bind to requested volume "{name}": {problem}'
        await self._recorder.say(PERSISTENT_VOLUME_CLAIMS, claim, WARNING, "VolumeMismatch", text)

    async def _say_waiting(self, claim: Object) -> None:
        about = claim["metadata"]
        pods = sorted(
            pod["metadata"]["name"]
            for pod in self._pods.all()
            if pod["metadata"]["namespace"] == about["namespace"]
            and not pod["spec"].get("nodeName")
            and about["name"] in claims_of(pod)
        )
        reason, text = "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
        if pods:
            reason = "WaitForPodScheduled"
            text = f"waiting for pod{'s' if len(pods) > 1 else ''} {','.join(pods)} to be scheduled"
        await self._recorder.say(PERSISTENT_VOLUME_CLAIMS, claim, NORMAL, reason, text)

    async def _provision(self, claim: Object, storage_class: Object | None) -> None:
        """Say which provisioner is meant; it watches claims for that."""
        problem = None
        if storage_class is None:
            problem = f'storageclass.storage.k8s.io "{class_of(claim)}" not found'
        elif storage_class["provisioner"] == NO_PROVISIONER:
            problem = f"no volume plugin matched name: {NO_PROVISIONER}"
        if problem is not None or storage_class is None:
            text = problem or ""
            await self._recorder.say(PERSISTENT_VOLUME_CLAIMS, claim, WARNING, "ProvisioningFailed", text)
            return
        provisioner = storage_class["provisioner"]
        if annotations_of(claim).get(PROVISIONER) != provisioner:
            marks = {PROVISIONER: provisioner, PROVISIONER_BETA: provisioner}
            claim = await self._write_claim(with_annotations(claim, marks))
        text = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually "
            "by the system administrator. If volume creation is delayed, please verify that the provisioner is "
            "running and correctly registered."
        )
        await self._recorder.say(PERSISTENT_VOLUME_CLAIMS, claim, NORMAL, "ExternalProvisioning", text)

    # Binding

    async def _bind(self, volume: Object, claim: Object) -> None:
        volume = await self._reserve(volume, claim)
        await self._set_phase(volume, "Bound")
        marks = {BIND_COMPLETED: "yes"}
        changed = claim
        if not claim["spec"].get("volumeName"):
            marks[BOUND_BY_CONTROLLER] = "yes"
            changed = {**claim, "spec": {**claim["spec"], "volumeName": volume["metadata"]["name"]}}
        if not marks.items() <= annotations_of(claim).items():
            claim = await self._write_claim(with_annotations(changed, marks))
        status = {
            **status_of(claim),
            "phase": "Bound",
            "accessModes": volume["spec"]["accessModes"],
            "capacity": volume["spec"]["capacity"],
        }
        if status_of(claim).get("phase") != "Bound":
            await self._write_claim_status(claim, status)

    async def _reserve(self, volume: Object, claim: Object) -> Object:
        ref, about = volume["spec"].get("claimRef"), claim["metadata"]
        if ref and is_bound_to(volume, claim) and ref.get("uid") == about["uid"]:
            return volume
        made: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": about["namespace"],
            "name": about["name"],
            "uid": about["uid"],
            "resourceVersion": about["resourceVersion"],
        }
        changed = {**volume, "spec": {**volume["spec"], "claimRef": made}}
        if not ref:
            changed = with_annotations(changed, {BOUND_BY_CONTROLLER: "yes"})
        return await self._client.replace(PERSISTENT_VOLUMES, _typed(changed, "PersistentVolume"))

    async def _set_phase(self, volume: Object, phase: str, message: str = "") -> Object:
        if status_of(volume).get("phase") == phase:
            return volume
        made = _typed(with_phase(volume, phase, message), "PersistentVolume")
        return await self._client.replace(PERSISTENT_VOLUMES, made, subresource="status")

    # Volumes

    async def _look_at_volume(self, volume: Object) -> None:
        ref = volume["spec"].get("claimRef")
        if not ref or not ref.get("uid"):
            await self._set_phase(volume, "Available")
            if ref:
                self._queue.add(f"{_CLAIM}{ref['namespace']}/{ref['name']}")
            return
        claim = self._claims.get(f"{ref['namespace']}/{ref['name']}")
        if claim is None or claim["metadata"]["uid"] != ref["uid"]:
            await self._release(volume)
        elif not claim["spec"].get("volumeName"):
            self._queue.add(_CLAIM + key_of(claim))
        elif claim["spec"]["volumeName"] == volume["metadata"]["name"]:
            await self._set_phase(volume, "Bound")
        else:
            await self._unbind(volume)

    async def _release(self, volume: Object) -> None:
        """The claim has gone: what becomes of the volume is its reclaim policy's to say."""
        ref = volume["spec"]["claimRef"]
        if status_of(volume).get("phase") in ("Released", "Failed"):
            await self._reclaiming.reclaim(volume)
            return
        # The mirror of claims may be behind that of volumes: ask before anything is given up.
        for one in (await self._client.list(PERSISTENT_VOLUME_CLAIMS, ref["namespace"])).items:
            if one["metadata"]["name"] == ref["name"] and one["metadata"]["uid"] == ref["uid"]:
                return
        await self._set_phase(volume, "Released")  # the change brings us back here

    async def _unbind(self, volume: Object) -> None:
        """The claim has another volume: this one is free again, but for a reservation by a user."""
        spec = dict(volume["spec"])
        annotations = dict(annotations_of(volume))
        if annotations.pop(BOUND_BY_CONTROLLER, None) is not None:
            del spec["claimRef"]
        else:
            spec["claimRef"] = {
                key: spec["claimRef"][key] for key in ("namespace", "name", "kind", "apiVersion")
            }
        changed = {**volume, "spec": spec, "metadata": {**volume["metadata"], "annotations": annotations}}
        free = await self._client.replace(PERSISTENT_VOLUMES, _typed(changed, "PersistentVolume"))
        await self._set_phase(free, "Available")

    async def _write_claim(self, claim: Object) -> Object:
        made = _typed(claim, "PersistentVolumeClaim")
        return await self._client.replace(PERSISTENT_VOLUME_CLAIMS, made, claim["metadata"]["namespace"])

    async def _write_claim_status(self, claim: Object, status: Object) -> None:
        made = _typed({**claim, "status": status}, "PersistentVolumeClaim")
        await self._client.replace(
            PERSISTENT_VOLUME_CLAIMS, made, claim["metadata"]["namespace"], subresource="status"
        )


def claims_of(pod: Object) -> list[str]:
    """The names of the claims that a pod uses, those of its ephemeral volumes among them."""
    found = []
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            found.append(str(volume["persistentVolumeClaim"]["claimName"]))
        elif "ephemeral" in volume:
            found.append(f"{pod['metadata']['name']}-{volume['name']}")
    return found


def _typed(obj: Object, kind: str) -> Object:
    return {**obj, "apiVersion": "v1", "kind": kind}
