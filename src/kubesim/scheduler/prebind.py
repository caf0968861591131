"""Before a pod is bound: its volumes are reserved or ordered, and waited for.

A volume that was chosen gets the claim as its reference; a claim that is to be provisioned gets the node's name. The
rest is done by the volume controller and by provisioners, which may take a while and may give up: then the pod goes
back to the queue.
"""

from __future__ import annotations

import asyncio

from kubesim.scheduler.model import Object, PodInfo
from kubesim.scheduler.volumes import Plan
from kubesim.volumes.matching import (
    BOUND_BY_CONTROLLER,
    SELECTED_NODE,
    annotations_of,
    is_bound_to,
    is_complete,
)
from kubewire.client import Client
from kubewire.informer import Informer, key_of
from kubewire.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES

LIMIT = 600.0


class VolumesFailed(Exception):
    """The volumes of a pod were not bound; the message is for the event."""


class VolumeWriter:
    """Makes plans true."""

    def __init__(self, client: Client, claims: Informer, *, limit: float = LIMIT) -> None:
        self._client = client
        self._claims = claims
        self._limit = limit

    async def bind(self, plan: Plan, pod: PodInfo, node: str) -> None:
        """Raises VolumesFailed, KubeError."""
        for claim, volume in plan.static:
            await self._reserve(claim, volume)
        for claim in plan.provision:
            if annotations_of(claim).get(SELECTED_NODE) != node:
                await self._order(claim, node)
        try:
            async with asyncio.timeout(self._limit):
                for claim in (*(claim for claim, _ in plan.static), *plan.provision):
                    await self._wait(claim, node if claim in plan.provision else None)
        except TimeoutError:
            raise VolumesFailed("binding volumes: context deadline exceeded") from None

    async def _reserve(self, claim: Object, volume: Object) -> None:
        if is_bound_to(volume, claim) and (volume["spec"]["claimRef"] or {}).get("uid"):
            return
        about = claim["metadata"]
        ref = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": about["namespace"],
            "name": about["name"],
            "uid": about["uid"],
            "resourceVersion": about["resourceVersion"],
        }
        metadata = volume["metadata"]
        if not volume["spec"].get("claimRef"):
            metadata = {**metadata, "annotations": {**annotations_of(volume), BOUND_BY_CONTROLLER: "yes"}}
        changed = {
            **volume,
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": metadata,
            "spec": {**volume["spec"], "claimRef": ref},
        }
        await self._client.replace(PERSISTENT_VOLUMES, changed)

    async def _order(self, claim: Object, node: str) -> None:
        about = claim["metadata"]
        patch = {"metadata": {"uid": about["uid"], "annotations": {SELECTED_NODE: node}}}
        await self._client.patch(PERSISTENT_VOLUME_CLAIMS, about["name"], patch, about["namespace"])

    async def _wait(self, claim: Object, node: str | None) -> None:
        """Until the claim is bound; a claim that has gone, or a provisioner that gives up, ends the waiting."""
        key, uid = key_of(claim), claim["metadata"]["uid"]
        changed = asyncio.Event()

        def look(_: object) -> None:
            changed.set()

        ordered = False
        self._claims.subscribe(look)
        try:
            while True:
                changed.clear()
                now = self._claims.get(key)
                if now is None or now["metadata"]["uid"] != uid:
                    raise VolumesFailed(f'binding volumes: persistentvolumeclaim "{key}" not found')
                if is_complete(now) and (now.get("status") or {}).get("phase") == "Bound":
                    return
                selected = annotations_of(now).get(SELECTED_NODE)
                ordered = ordered or selected == node
                if node is not None and ordered and selected != node:
                    raise VolumesFailed(
                        f'binding volumes: provisioning failed for PVC "{claim["metadata"]["name"]}"'
                    )
                await changed.wait()
        finally:
            self._claims.unsubscribe(look)
