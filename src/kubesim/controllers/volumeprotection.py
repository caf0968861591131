"""Storage that is in use does not go: a claim while a pod on a node has it, a volume while a claim is bound to it.

Both carry a finalizer from the beginning; here it is taken off when the deletion has begun and nobody uses the object
any more. Whether a pod uses a claim is asked of the API server, not of a mirror: data would be lost by being wrong.
"""

from __future__ import annotations

from kubesim.controllers.objects import deleting, status_of
from kubesim.controllers.volumebinding import claims_of
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.informer import Change, Informers, Object, key_of
from kubewire.requests import PatchType
from kubewire.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, Resource

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"


class ClaimProtection:
    """Keys are those of claims."""

    name = "claim protection"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._claims = informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._pods = informers.of(PODS)
        self._queue = WorkQueue()
        self._claims.subscribe(lambda change: self._queue.add(change.key))
        self._pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._claims.synced.wait()
        await self._pods.synced.wait()
        await work(self.name, self._queue, self.reconcile)

    def _pod_changed(self, change: Change) -> None:
        if change.new is None and change.old is not None:
            for name in claims_of(change.old):
                self._queue.add(f"{change.old['metadata']['namespace']}/{name}")

    async def reconcile(self, key: str) -> None:
        """Let one claim go, if it may."""
        claim = self._claims.get(key)
        if claim is None or not _held(claim, CLAIM_FINALIZER):
            return
        about = claim["metadata"]
        pods = (await self._client.list(PODS, about["namespace"])).items
        if not any(pod["spec"].get("nodeName") and about["name"] in claims_of(pod) for pod in pods):
            await _free(self._client, PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_FINALIZER)


class VolumeProtection:
    """Keys are those of volumes."""

    name = "volume protection"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._volumes = informers.of(PERSISTENT_VOLUMES)
        self._queue = WorkQueue()
        self._volumes.subscribe(lambda change: self._queue.add(key_of(change.object)))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._volumes.synced.wait()
        await work(self.name, self._queue, self.reconcile)

    async def reconcile(self, key: str) -> None:
        """Let one volume go, if it may."""
        volume = self._volumes.get(key)
        if volume is None or not _held(volume, VOLUME_FINALIZER):
            return
        if status_of(volume).get("phase") != "Bound":
            await _free(self._client, PERSISTENT_VOLUMES, volume, VOLUME_FINALIZER)


def _held(obj: Object, finalizer: str) -> bool:
    return deleting(obj) and finalizer in (obj["metadata"].get("finalizers") or ())


async def _free(client: Client, resource: Resource, obj: Object, finalizer: str) -> None:
    about = obj["metadata"]
    patch = {
        "metadata": {
            "uid": about["uid"],
            "$deleteFromPrimitiveList/finalizers": [finalizer],
        }
    }
    try:
        await client.patch(resource, about["name"], patch, about.get("namespace"), type=PatchType.STRATEGIC)
    except NotFound:
        pass  # gone, which is what was wanted
