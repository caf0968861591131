"""The history of a template: one ControllerRevision for each, numbered, the newest with the highest number."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kubesim.controllers.family import Index
from kubesim.controllers.objects import annotations_of, controlled_by, fingerprint, status_of
from kubewire.client import Client
from kubewire.errors import AlreadyExists, NotFound
from kubewire.informer import Object
from kubewire.resources import CONTROLLER_REVISIONS, Resource


def data_of(template: dict[str, Any]) -> Object:
    """What a revision keeps: a patch that puts the template back."""
    return {"spec": {"template": {**template, "$patch": "replace"}}}


def template_of(revision: Object) -> Object:
    """The template that a revision keeps."""
    found = revision["data"]["spec"]["template"]
    return {key: value for key, value in found.items() if key != "$patch"}


class History:
    """The revisions of owners of one kind; `label` is the one under which the hash stands."""

    def __init__(self, client: Client, revisions: Index, owner: Resource, label: str) -> None:
        self._client = client
        self._revisions = revisions
        self._owner = owner
        self._label = label

    def of(self, owner: Object) -> list[Object]:
        """All revisions, the oldest first."""
        found = self._revisions.owned(owner["metadata"]["uid"])
        return sorted(found, key=lambda one: (one["revision"], one["metadata"]["name"]))

    async def newest(self, owner: Object, known: list[Object]) -> Object:
        """The revision of the owner's present template, made or moved to the top if need be."""
        template = owner["spec"]["template"]
        data, number = data_of(template), max((one["revision"] for one in known), default=0) + 1
        found = next((one for one in known if one["data"] == data), None)
        if found is not None:
            if found["revision"] == number - 1:
                return found
            about = found["metadata"]
            return await self._client.patch(
                CONTROLLER_REVISIONS, about["name"], {"revision": number}, about["namespace"]
            )
        return await self._make(owner, data, number)

    async def _make(self, owner: Object, data: Object, number: int) -> Object:
        about = owner["metadata"]
        labels = (owner["spec"]["template"].get("metadata") or {}).get("labels") or {}
        collisions = int(status_of(owner).get("collisionCount") or 0)
        while True:
            mark = fingerprint(data, collisions)
            metadata: Object = {
                "name": f"{about['name']}-{mark}",
                "namespace": about["namespace"],
                "labels": {**labels, self._label: mark},
                "ownerReferences": [controlled_by(self._owner, owner)],
            }
            if annotations_of(owner):
                metadata["annotations"] = annotations_of(owner)
            wanted = {
                "apiVersion": "apps/v1",
                "kind": "ControllerRevision",
                "metadata": metadata,
                "data": data,
                "revision": number,
            }
            try:
                return await self._client.create(CONTROLLER_REVISIONS, wanted, about["namespace"])
            except AlreadyExists:
                there = await self._client.get(CONTROLLER_REVISIONS, metadata["name"], about["namespace"])
                if there["data"] == data:
                    return there
                collisions += 1

    async def forget(self, owner: Object, known: list[Object], live: Collection[str]) -> None:
        """Delete the oldest revisions that nothing uses, beyond the number that is kept."""
        limit = owner["spec"].get("revisionHistoryLimit", 10)
        unused = [one for one in known if one["metadata"]["name"] not in live]
        for one in unused[: max(0, len(unused) - limit)]:
            about = one["metadata"]
            try:
                await self._client.delete(CONTROLLER_REVISIONS, about["name"], about["namespace"])
            except NotFound:
                continue
