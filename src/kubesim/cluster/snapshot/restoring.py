"""Objects of a snapshot made anew in a running cluster, over its API.

They get new uids, so that an object is made only when all of its owners are there, and refers to them by their new
ones. What exists is replaced; what the cluster has besides is left alone. Status and the owners of fields
come back with requests of their own. Nothing is hidden: what could not be made, and why, is in the Outcome.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from kubesim.cluster.snapshot.kinds import Kind, discover, own_of_cluster
from kubewire.client import Client
from kubewire.errors import AlreadyExists, ApiError, Conflict, NotFound

JsonObject = dict[str, Any]

_AT_ONCE = 16
_TRIES = 5
_SERVED_WITHIN = 10.0
_MANAGER = "kubesim-restore"
_OF_THE_SERVER = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "selfLink",
    "managedFields",
)
_UID_KEY = re.compile(r'k:\{"uid":"([^"]+)"\}')
_JOB_LABELS = ("batch.kubernetes.io/controller-uid", "controller-uid")


@dataclass(slots=True)
class Outcome:
    """What came of a restore."""

    made: int = 0
    replaced: int = 0
    problems: list[str] = field(default_factory=list)
    """An object and why it is not there, a line each."""


class Restore:
    """One restore. `kinds` is what the cluster knows; it is asked again when definitions have come back."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._uids: dict[str, str] = {}
        self.outcome = Outcome()

    async def run(self, objects: Sequence[JsonObject]) -> Outcome:
        """Make the objects; those whose owners are missing in the end are not made."""
        await self._look()
        definitions = [obj for obj in objects if obj["kind"] == "CustomResourceDefinition"]
        await self._all(definitions)
        await self._served(definitions)
        wanted = [
            obj for obj in objects if obj["kind"] != "CustomResourceDefinition" and not own_of_cluster(obj)
        ]
        wanted = [obj for obj in wanted if self._makeable(obj)]
        waiting = sorted(wanted, key=lambda obj: self._kind(obj).rank)
        while waiting:
            left = await self._round(waiting)
            if len(left) == len(waiting):
                left = await self._round(left, owners_here=True)
            if len(left) == len(waiting):
                for obj in left:
                    self._problem(obj, f"its owner {', '.join(self._missing(obj))} is missing")
                break
            waiting = left
        return self.outcome

    # In which order

    async def _round(self, objects: list[JsonObject], *, owners_here: bool = False) -> list[JsonObject]:
        """Make what can be made now, kind after kind; the others are returned."""
        if owners_here:  # they may be in the cluster without being in the snapshot
            for uid in {uid for obj in objects for uid in self._missing_uids(obj)}:
                await self._adopt(uid, objects)
        left: list[JsonObject] = []
        for _, group in groupby(objects, key=lambda obj: self._kind(obj).rank):
            ready: list[JsonObject] = []
            for obj in group:
                (left if any(self._missing_uids(obj)) else ready).append(obj)
            await self._all(ready)
        return left

    async def _adopt(self, uid: str, objects: list[JsonObject]) -> None:
        for obj in objects:
            for reference in obj["metadata"].get("ownerReferences") or ():
                kind = self._kinds.get((reference["apiVersion"].rpartition("/")[0], reference["kind"]))
                if reference["uid"] != uid or kind is None:
                    continue
                namespace = obj["metadata"].get("namespace") if kind.resource.namespaced else None
                try:
                    owner = await self._client.get(kind.resource, reference["name"], namespace)
                except NotFound:
                    return
                if owner["metadata"]["uid"] == uid:
                    self._uids[uid] = uid
                return

    def _missing_uids(self, obj: JsonObject) -> Iterator[str]:
        for reference in obj["metadata"].get("ownerReferences") or ():
            if reference["uid"] not in self._uids:
                yield reference["uid"]

    def _missing(self, obj: JsonObject) -> list[str]:
        references = obj["metadata"].get("ownerReferences") or ()
        return [f"{one['kind']} {one['name']}" for one in references if one["uid"] not in self._uids]

    async def _all(self, objects: Sequence[JsonObject]) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(obj: JsonObject) -> None:
            async with gate:
                try:
                    await self._make(obj)
                except ApiError as error:
                    self._problem(obj, error.message)

        async with asyncio.TaskGroup() as group:
            for obj in objects:
                group.create_task(one(obj), name=f"restore {obj['kind']} {obj['metadata']['name']}")

    # What the cluster knows

    async def _look(self) -> None:
        self._kinds = {
            (kind.resource.group, kind.resource.kind): kind for kind in await discover(self._client)
        }

    async def _served(self, definitions: Sequence[JsonObject]) -> None:
        """Wait until the custom resources are there."""
        wanted = {(one["spec"]["group"], one["spec"]["names"]["kind"]) for one in definitions}
        loop = asyncio.get_running_loop()
        end = loop.time() + _SERVED_WITHIN
        while wanted - self._kinds.keys() and loop.time() < end:
            await asyncio.sleep(0.05)
            await self._look()

    def _kind(self, obj: JsonObject) -> Kind:
        return self._kinds[obj["apiVersion"].rpartition("/")[0], obj["kind"]]

    def _makeable(self, obj: JsonObject) -> bool:
        if (obj["apiVersion"].rpartition("/")[0], obj["kind"]) not in self._kinds:
            self._problem(obj, f"the cluster does not know {obj['kind']} of {obj['apiVersion']}")
            return False
        if "deletionTimestamp" in obj["metadata"]:
            self._problem(obj, "it was being deleted when the snapshot was taken")
            return False
        return True

    def _problem(self, obj: JsonObject, why: str) -> None:
        metadata = obj["metadata"]
        name = (
            f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]
        )
        self.outcome.problems.append(f"{obj['kind']} {name}: {why}")

    # One object

    async def _make(self, obj: JsonObject) -> None:
        kind = self._kind(obj)
        body = self._renewed(obj)
        namespace = body["metadata"].get("namespace")
        try:
            there = await self._client.create(kind.resource, body, namespace, field_manager=_MANAGER)
            self.outcome.made += 1
        except AlreadyExists:
            found = await self._client.get(kind.resource, body["metadata"]["name"], namespace)
            if kind.resource.kind == "Job":  # what names its uid can never change
                fixed = {name: found["spec"][name] for name in ("selector", "template")}
                body["spec"].update(fixed)
            there = await self._replace(kind, found, body)
            self.outcome.replaced += 1
        self._uids[obj["metadata"].get("uid", "")] = there["metadata"]["uid"]
        if kind.resource.kind == "Node":  # admission taints a new node, whatever its maker says
            there = await self._replace(kind, there, body)
        if kind.has_status and obj.get("status"):
            there = await self._replace(kind, there, {"status": obj["status"]}, "status")
        labels = obj["metadata"].get("labels") or {}
        if obj["metadata"].get("uid") in labels.values():
            mine = {name: self._uids.get(value, value) for name, value in labels.items()}
            there = await self._replace(kind, there, {"metadata": {"labels": mine}})
        if obj["metadata"].get("managedFields"):
            # last, because each write before has made us the owner of what it brought
            owners = self._translated(obj["metadata"]["managedFields"])
            await self._replace(kind, there, {"metadata": {"managedFields": owners}})

    async def _replace(
        self, kind: Kind, there: JsonObject, parts: JsonObject, subresource: str | None = None
    ) -> JsonObject:
        """What is there with some parts replaced; again, when somebody else changes it at the same time."""
        metadata = there["metadata"]
        for _ in range(_TRIES):
            wanted = {**there, **parts, "metadata": {**there["metadata"], **parts.get("metadata", {})}}
            try:
                return await self._client.replace(
                    kind.resource,
                    wanted,
                    metadata.get("namespace"),
                    subresource=subresource,
                    field_manager=_MANAGER,
                )
            except Conflict:
                there = await self._client.get(kind.resource, metadata["name"], metadata.get("namespace"))
        raise Conflict(409, "Conflict", "it was changed at the same time, again and again")

    def _translated(self, value: Any) -> Any:
        """The same with new uids: field sets name owners by them."""
        if isinstance(value, dict):
            return {self._new_key(key): self._translated(part) for key, part in value.items()}
        return [self._translated(part) for part in value] if isinstance(value, list) else value

    def _new_key(self, key: str) -> str:
        found = _UID_KEY.fullmatch(key)
        return f'k:{{"uid":"{self._uids.get(found[1], found[1])}"}}' if found else key

    def _renewed(self, obj: JsonObject) -> JsonObject:
        """The object as it is to be created: what the server decides is left out, old uids are new ones."""
        body = copy.deepcopy(obj)
        metadata = body["metadata"]
        for name in _OF_THE_SERVER:
            metadata.pop(name, None)
        for reference in metadata.get("ownerReferences") or ():
            reference["uid"] = self._uids[reference["uid"]]
        own = obj["metadata"].get("uid")
        labels = {
            name: self._uids.get(value, value)
            for name, value in (metadata.pop("labels", None) or {}).items()
            if value != own
        }
        if labels:
            metadata["labels"] = labels
        claim = (body.get("spec") or {}).get("claimRef")
        if claim and claim.get("uid") in self._uids:
            claim["uid"] = self._uids[claim["uid"]]
        if body["kind"] == "Job" and not body["spec"].get("manualSelector"):
            body["spec"].pop("selector", None)  # made of the new uid again
            template = body["spec"]["template"].get("metadata") or {}
            for name in _JOB_LABELS:
                (template.get("labels") or {}).pop(name, None)
        return body
