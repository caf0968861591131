"""Generic ephemeral volumes: a claim for each, made for the pod, owned by it and gone with it.

A claim of that name that is somebody else's is not touched: the pod waits, and an event says why.
"""

from __future__ import annotations

from kubesim.controllers.objects import controlled_by, controller_of, deleting, finished
from kubesim.controllers.recorder import WARNING, Recorder
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import KubeError
from kubewire.informer import Change, Informers, Object
from kubewire.resources import PERSISTENT_VOLUME_CLAIMS, PODS


class EphemeralVolumes:
    """Keys are those of pods."""

    name = "ephemeral volumes"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._pods = informers.of(PODS)
        self._claims = informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._queue = WorkQueue()
        self._recorder = Recorder(client, "ephemeral-volume-controller")
        self._pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._pods.synced.wait()
        await self._claims.synced.wait()
        await work(self.name, self._queue, self.reconcile)

    def _pod_changed(self, change: Change) -> None:
        pod = change.new
        if pod is not None and any("ephemeral" in one for one in pod["spec"].get("volumes") or ()):
            self._queue.add(change.key)

    async def reconcile(self, key: str) -> None:
        """Make the claims that a pod lacks."""
        pod = self._pods.get(key)
        if pod is None or deleting(pod) or finished(pod):
            return
        for volume in pod["spec"].get("volumes") or ():
            if "ephemeral" in volume:
                await self._make(pod, volume)

    async def _make(self, pod: Object, volume: Object) -> None:
        about = pod["metadata"]
        name = f"{about['name']}-{volume['name']}"
        there = self._claims.get(f"{about['namespace']}/{name}")
        if there is not None:
            if (controller_of(there) or {}).get("uid") != about["uid"]:
                text = f'PVC "{about["namespace"]}/{name}" was not created for pod "{about["namespace"]}/'
                text += f'{about["name"]}" (pod is not owner)'
                await self._recorder.say(PODS, pod, WARNING, "FailedBinding", text)
            return
        template = volume["ephemeral"]["volumeClaimTemplate"]
        made = template.get("metadata") or {}
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": name,
                **{key: made[key] for key in ("labels", "annotations") if made.get(key)},
                "ownerReferences": [controlled_by(PODS, pod)],
            },
            "spec": template["spec"],
        }
        try:
            await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim, about["namespace"])
        except KubeError as error:
            text = f"ephemeral volume controller: create PVC {name}: {error}"
            await self._recorder.say(PODS, pod, WARNING, "FailedBinding", text)
            raise
