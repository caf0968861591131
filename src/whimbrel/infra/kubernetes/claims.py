"""Volumes as PersistentVolumeClaims: made, looked at, deleted; every call through the link.

A claim that was there before (`existing`) is only looked at. Deleting asks for the claim of that name only if it
carries our uid, and tells which pods still use it: Kubernetes keeps a claim as long as there is one.
"""

from __future__ import annotations

from typing import Any

import kubewire.errors as kube
from kubewire.client import Client
from kubewire.resources import EVENTS, PERSISTENT_VOLUME_CLAIMS, PODS
from whimbrel.infra.base import Thing
from whimbrel.infra.kubernetes import pods, quantity
from whimbrel.infra.kubernetes.connection import Link
from whimbrel.infra.provision import VolumeSeen, VolumeSpec
from whimbrel.model.errors import Conflict, InfraError, NotFound

VOLUME = "whimbrel.dev/volume"
VOLUME_UID = "whimbrel.dev/volume-uid"
_KIND = "PersistentVolumeClaim"


def thing(spec: VolumeSpec, infra: str) -> Thing:
    """The claim as the ledger knows it."""
    return Thing(
        token=f"{infra}/{_KIND}/{spec.namespace}/{spec.claim}/{spec.uid}",
        kind=_KIND,
        name=spec.claim,
        namespace=spec.namespace,
        labels=labels(spec),
    )


def labels(spec: VolumeSpec) -> dict[str, str]:
    """By which a claim of ours is known."""
    return {
        **spec.labels,
        VOLUME: spec.name,
        VOLUME_UID: pods.label_value(spec.uid),
        pods.USER: pods.label_value(spec.user),
        pods.MANAGED_BY: "whimbrel",
    }


def claim(spec: VolumeSpec) -> dict[str, Any]:
    """The object."""
    body: dict[str, Any] = {
        "accessModes": [spec.access_mode],
        "resources": {"requests": {"storage": quantity.memory(spec.size_gib)}},
    }
    if spec.storage_class:
        body["storageClassName"] = spec.storage_class
    return {
        "apiVersion": "v1",
        "kind": _KIND,
        "metadata": {"name": spec.claim, "namespace": spec.namespace, "labels": labels(spec)},
        "spec": body,
    }


class Claims:
    """The claims of one context."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def make(self, spec: VolumeSpec) -> VolumeSeen:
        """Create it where it is missing. Raises `NotFound` for an existing one that is not there, `Conflict` for one of
        that name that is not ours."""
        there = await self._get(spec)
        if there is None and spec.existing:
            raise NotFound(
                f"{self._link.name} has no PersistentVolumeClaim {spec.claim} in the namespace {spec.namespace}.",
                remedy=f"kubectl -n {spec.namespace} get pvc",
            )
        if there is None:
            there = await self._create(spec)
        if not spec.existing and not _ours(spec, there):
            raise Conflict(
                f"{self._link.name} has a PersistentVolumeClaim {spec.claim} in the namespace {spec.namespace} "
                "already, which is not this volume's.",
                remedy="choose another name, or say `use_existing: true` to use that one",
            )
        return await self._seen(spec, there)

    async def look(self, spec: VolumeSpec) -> VolumeSeen:
        """What there is of it."""
        there = await self._get(spec)
        if there is None or not (spec.existing or _ours(spec, there)):
            return VolumeSeen(phase="")
        return await self._seen(spec, there)

    async def delete(self, spec: VolumeSpec) -> None:
        """Ask for its deletion; one that is gone, or not ours, is left alone."""
        there = await self._get(spec)
        if there is None or spec.existing or not _ours(spec, there):
            return

        async def action(client: Client) -> None:
            try:
                await client.delete(
                    PERSISTENT_VOLUME_CLAIMS, spec.claim, spec.namespace, uid=there["metadata"]["uid"]
                )
            except (kube.NotFound, kube.Conflict):
                return  # gone, or another one of that name

        await self._link.call(
            f"deleting {_KIND} {spec.claim}", action, timeout=self._link.settings.deadlines.change
        )

    async def _create(self, spec: VolumeSpec) -> Any:
        async def action(client: Client) -> Any:
            try:
                return await client.create(
                    PERSISTENT_VOLUME_CLAIMS, claim(spec), spec.namespace, field_manager="whimbrel"
                )
            except kube.AlreadyExists:
                return await client.get(PERSISTENT_VOLUME_CLAIMS, spec.claim, spec.namespace)

        deadlines = self._link.settings.deadlines
        return await self._link.call(
            f"creating {_KIND} {spec.claim}", action, timeout=deadlines.change + deadlines.read
        )

    async def _get(self, spec: VolumeSpec) -> Any:
        async def action(client: Client) -> Any:
            try:
                return await client.get(PERSISTENT_VOLUME_CLAIMS, spec.claim, spec.namespace)
            except kube.NotFound:
                return None

        return await self._link.call(
            f"reading {_KIND} {spec.claim}", action, timeout=self._link.settings.deadlines.read
        )

    async def _seen(self, spec: VolumeSpec, there: Any) -> VolumeSeen:
        status = there.get("status") or {}
        phase = (
            "Terminating" if there["metadata"].get("deletionTimestamp") else status.get("phase") or "Pending"
        )
        message = await self._why(there) if phase == "Pending" else ""
        size = (status.get("capacity") or {}).get("storage") or ""
        return VolumeSeen(phase=phase, size=str(size), used_by=await self._users(spec), message=message)

    async def _users(self, spec: VolumeSpec) -> tuple[str, ...]:
        """The pods that mount it, as far as we may look."""
        try:
            found = await self._link.call(
                f"listing pods in namespace {spec.namespace}",
                lambda client: client.list(PODS, spec.namespace),
                timeout=self._link.settings.deadlines.page,
            )
        except InfraError:
            return ()
        return tuple(
            pod["metadata"]["name"]
            for pod in found.items
            if any(
                (volume.get("persistentVolumeClaim") or {}).get("claimName") == spec.claim
                for volume in pod["spec"].get("volumes") or ()
            )
            and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        )

    async def _why(self, there: Any) -> str:
        """What its events say; they only explain."""
        metadata = there["metadata"]
        try:
            found = await self._link.call(
                f"events of {metadata['name']}",
                lambda client: client.list(
                    EVENTS, metadata["namespace"], field_selector=f"involvedObject.uid={metadata['uid']}"
                ),
                timeout=self._link.settings.deadlines.read,
            )
        except InfraError:
            return ""
        told = sorted(found.items, key=lambda event: str(event.get("lastTimestamp") or ""))
        return " ".join(str(told[-1].get("message") or "").split()) if told else ""


def _ours(spec: VolumeSpec, there: Any) -> bool:
    carried = (there["metadata"].get("labels") or {}).get(VOLUME_UID)
    return bool(carried == pods.label_value(spec.uid))
