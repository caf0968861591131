"""What becomes of a volume whose claim has gone: kept (Retain), or removed by whoever made it (Delete).

The volume controller itself removes nothing: a volume that names its provisioner is left to it, and one that nobody
provisioned has nobody who could remove what is behind it, which is said in its status.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubesim.controllers.objects import annotations_of, deleting, status_of
from kubesim.controllers.recorder import WARNING, Recorder
from kubesim.volumes.matching import PROVISIONED_BY
from kubewire.client import Client
from kubewire.informer import Object
from kubewire.resources import PERSISTENT_VOLUMES

_NO_RECYCLER = "No recycler plugin found for the volume!"


class Reclaiming:
    """Follows the reclaim policy of released volumes."""

    def __init__(self, client: Client, recorder: Recorder) -> None:
        self._client = client
        self._recorder = recorder

    async def reclaim(self, volume: Object) -> None:
        """Say what cannot be done; everything else is done by provisioners."""
        policy = volume["spec"].get("persistentVolumeReclaimPolicy", "Retain")
        if policy == "Retain" or deleting(volume) or status_of(volume).get("phase") == "Failed":
            return
        if policy == "Recycle":
            await self._fail(volume, "VolumeFailedRecycle", _NO_RECYCLER)
        elif PROVISIONED_BY not in annotations_of(volume):
            name = volume["metadata"]["name"]
            text = (
                f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
            )
            await self._fail(volume, "VolumeFailedDelete", text)

    async def _fail(self, volume: Object, reason: str, message: str) -> None:
        made = {**with_phase(volume, "Failed", message), "apiVersion": "v1", "kind": "PersistentVolume"}
        await self._client.replace(PERSISTENT_VOLUMES, made, subresource="status")
        await self._recorder.say(PERSISTENT_VOLUMES, volume, WARNING, reason, message)


def with_phase(volume: Object, phase: str, message: str = "") -> Object:
    """The volume in another phase; since when, the server writes."""
    kept = {
        key: value
        for key, value in status_of(volume).items()
        if key not in ("message", "lastPhaseTransitionTime")
    }
    return {**volume, "status": {**kept, "phase": phase, **({"message": message} if message else {})}}


def with_annotations(obj: Object, more: Mapping[str, str]) -> Object:
    """The object with these annotations too."""
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**annotations_of(obj), **more}}}
