"""Volumes on the process node: a folder for each claim, made when its first pod has been given the node.

Runs where a process node is and nowhere else, and brings the StorageClass `standard` with it, which is the default
unless there is another one. The volume is a hostPath that belongs to the node, in a folder of the cluster's home; it is
removed with the claim (or kept, as the class says) and, in any case, with the cluster. Only folders that carry the name
of the volume and lie in that home are ever removed. Sizes are recorded, not enforced; block devices are refused.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from kubesim.controllers.objects import annotations_of, deleting, status_of
from kubesim.controllers.recorder import NORMAL, WARNING, Recorder
from kubesim.controllers.workqueue import WorkQueue, work
from kubesim.volumes.matching import (
    DEFAULT_CLASS,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    Place,
    class_of,
    topology_allows,
    waits_for_consumer,
)
from kubewire.client import Client
from kubewire.errors import AlreadyExists, NotFound
from kubewire.informer import Change, Informers, Object, key_of
from kubewire.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES

log = logging.getLogger(__name__)

NAME = "kubesim.dev/local"
CLASS = "standard"
_HOSTNAME = "kubernetes.io/hostname"


class LocalProvisioner:
    """Keys are those of claims and volumes, with a prefix."""

    name = "local volumes"

    def __init__(self, client: Client, informers: Informers, root: Path, node: str) -> None:
        self._client = client
        self._claims = informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = informers.of(PERSISTENT_VOLUMES)
        self._classes = informers.of(STORAGE_CLASSES)
        self._root = root
        self._node = node
        self._queue = WorkQueue()
        self._recorder = Recorder(client, NAME)
        self._claims.subscribe(lambda change: self._queue.add(f"claim:{change.key}"))
        self._volumes.subscribe(self._volume_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        for informer in (self._claims, self._volumes, self._classes):
            await informer.synced.wait()
        await self._offer()
        await work(self.name, self._queue, self.reconcile)

    def _volume_changed(self, change: Change) -> None:
        if change.new is not None:
            self._queue.add(f"volume:{change.key}")

    async def _offer(self) -> None:
        """The class, unless it is there; the default one, unless there is another."""
        others = any(annotations_of(one).get(DEFAULT_CLASS) == "true" for one in self._classes.all())
        made = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": CLASS, "annotations": {} if others else {DEFAULT_CLASS: "true"}},
            "provisioner": NAME,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
        try:
            await self._client.create(STORAGE_CLASSES, made)
        except AlreadyExists:
            pass  # of an earlier run, or the user's own

    async def reconcile(self, key: str) -> None:
        """Make the volume of one claim, or remove one volume."""
        kind, _, name = key.partition(":")
        if kind == "claim":
            claim = self._claims.get(name)
            if claim is not None:
                await self._provision(claim)
            return
        volume = self._volumes.get(name)
        if volume is not None:
            await self._remove(volume)

    async def _provision(self, claim: Object) -> None:
        marks = annotations_of(claim)
        storage_class = self._classes.get(class_of(claim))
        if (
            claim["spec"].get("volumeName")
            or deleting(claim)
            or marks.get(PROVISIONER) != NAME
            or storage_class is None
            or storage_class["provisioner"] != NAME
        ):
            return
        if waits_for_consumer(storage_class) and marks.get(SELECTED_NODE) != self._node:
            return  # no pod yet, or one on a node that is not ours
        problem = self._problem(claim, storage_class)
        if problem is not None:
            text = f'failed to provision volume with StorageClass "{class_of(claim)}": {problem}'
            await self._recorder.say(PERSISTENT_VOLUME_CLAIMS, claim, WARNING, "ProvisioningFailed", text)
            return
        name = f"pvc-{claim['metadata']['uid']}"
        text = f'External provisioner is provisioning volume for claim "{key_of(claim)}"'
        await self._recorder.say(PERSISTENT_VOLUME_CLAIMS, claim, NORMAL, "Provisioning", text)
        try:
            await self._client.create(PERSISTENT_VOLUMES, self._volume(name, claim, storage_class))
        except AlreadyExists:
            return
        text = f"Successfully provisioned volume {name}"
        await self._recorder.say(PERSISTENT_VOLUME_CLAIMS, claim, NORMAL, "ProvisioningSucceeded", text)

    def _problem(self, claim: Object, storage_class: Object) -> str | None:
        if claim["spec"].get("volumeMode") == "Block":
            return "volumes of the mode Block are not supported"
        if claim["spec"].get("selector"):
            return "claim.Spec.Selector is not supported"
        if not topology_allows(storage_class, Place(self._node, {_HOSTNAME: self._node})):
            return f"the class does not allow the topology of the node {self._node}"
        return None

    def _volume(self, name: str, claim: Object, storage_class: Object) -> Object:
        about, spec = claim["metadata"], claim["spec"]
        here = {"key": _HOSTNAME, "operator": "In", "values": [self._node]}
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {PROVISIONED_BY: NAME}},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "volumeMode": "Filesystem",
                "storageClassName": class_of(claim),
                "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
                "hostPath": {"path": str(self._root / name), "type": "DirectoryOrCreate"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": about["namespace"],
                    "name": about["name"],
                    "uid": about["uid"],
                    "resourceVersion": about["resourceVersion"],
                },
            },
        }

    async def _remove(self, volume: Object) -> None:
        policy = volume["spec"].get("persistentVolumeReclaimPolicy")
        if annotations_of(volume).get(PROVISIONED_BY) != NAME or policy != "Delete":
            return
        if status_of(volume).get("phase") != "Released":
            return
        name = volume["metadata"]["name"]
        folder = self._root / name
        if (volume["spec"].get("hostPath") or {}).get("path") != str(folder):
            log.warning("volume %s does not lie in %s: its folder is kept", name, self._root)
        else:
            await asyncio.to_thread(_remove_folder, folder)
        try:
            await self._client.delete(PERSISTENT_VOLUMES, name, uid=volume["metadata"]["uid"])
        except NotFound:
            pass  # gone already


def _remove_folder(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
