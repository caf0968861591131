"""The garbage collector: what is owned goes when the last of its owners has gone.

Background: the owner is gone, its dependents follow. Foreground: the owner waits, marked, until the dependents that
block it have gone. Orphan: the dependents lose their reference, then the owner goes. Keys are uids. An owner that was
never seen is asked for at the API server before it is taken for gone, because mirrors may be behind.
"""

from __future__ import annotations

import asyncio
import logging

from kubesim.controllers import discovery
from kubesim.controllers.ownership import FOREGROUND, ORPHAN, Node, Owner, OwnershipGraph, node_of
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import KubeError, NotFound
from kubewire.informer import Change, Informers
from kubewire.resources import Resource

log = logging.getLogger(__name__)

_REDISCOVER = 30.0
_MOST_ABSENT = 10_000
_IGNORED = frozenset({"events"})


class GarbageCollector:
    """Follows every collection whose objects can be deleted."""

    name = "garbage collector"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._informers = informers
        self._graph = OwnershipGraph()
        self._queue = WorkQueue()
        self._followed: set[Resource] = set()
        self._by_kind: dict[tuple[str, str], Resource] = {}
        self._absent: set[str] = set()  # uids of owners that the API server does not know

    async def run(self) -> None:
        """Work until cancelled."""
        await self.follow()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._rediscover(), name="garbage collector discovery")
            group.create_task(work(self.name, self._queue, self.reconcile, workers=4), name=self.name)

    async def follow(self) -> None:
        """Follow what is served now, and wait until it is known."""
        served = {
            one.resource
            for one in await discovery.served(self._client)
            if {"list", "watch", "delete"} <= one.verbs and one.resource.plural not in _IGNORED
        }
        self._by_kind = {(one.api_version, one.kind): one for one in served}
        for gone in self._followed - served:
            self._informers.drop(gone)
        new = served - self._followed
        self._followed = served
        for resource in new:
            self._informers.of(resource).subscribe(_Feed(self, resource))
        await self._informers.synced(*new)

    async def _rediscover(self) -> None:
        while True:
            await asyncio.sleep(_REDISCOVER)
            try:
                await self.follow()
            except KubeError as error:
                log.warning("%s: %s", self.name, error)

    def changed(self, resource: Resource, change: Change) -> None:
        """Take in what an informer says."""
        if change.new is None:
            self._removed(node_of(resource, change.object).uid)
            return
        if change.old is not None and change.old["metadata"]["uid"] != change.new["metadata"]["uid"]:
            self._removed(change.old["metadata"]["uid"])
        node = node_of(resource, change.new)
        before = self._graph.put(node)
        self._absent.discard(node.uid)
        if node.owners or node.deleting:
            self._queue.add(node.uid)
        if before is None or before.owners != node.owners:
            for owner in {*node.owners, *(before.owners if before else ())}:
                if owner.uid in self._graph.nodes and self._graph.nodes[owner.uid].deleting:
                    self._queue.add(owner.uid)

    def _removed(self, uid: str) -> None:
        node = self._graph.remove(uid)
        self._absent.add(uid)
        dependents = self._graph.dependents(uid)
        if not dependents:
            self._absent.discard(uid)
        if len(self._absent) > _MOST_ABSENT:  # what is still needed is asked for again
            self._absent.clear()
        for dependent in dependents:
            self._queue.add(dependent.uid)
        for owner in node.owners if node else ():
            if owner.uid in self._graph.nodes:
                self._queue.add(owner.uid)

    async def reconcile(self, uid: str) -> float | None:
        """Look at one object."""
        node = self._graph.nodes.get(uid)
        if node is None:
            return None
        if node.deleting:
            if ORPHAN in node.finalizers:
                await self._orphan_dependents(node)
            elif FOREGROUND in node.finalizers:
                await self._delete_dependents(node)
            return None
        if node.owners:
            await self._check_owners(node)
        return None

    async def _orphan_dependents(self, node: Node) -> None:
        for dependent in self._graph.dependents(node.uid):
            await self._drop_owners(dependent, {node.uid})
        await self._drop_finalizer(node, ORPHAN)

    async def _delete_dependents(self, node: Node) -> None:
        blocking = self._graph.blocking(node.uid)
        if not blocking:
            await self._drop_finalizer(node, FOREGROUND)
        for dependent in blocking:
            if not dependent.deleting:
                self._queue.add(dependent.uid)

    async def _check_owners(self, node: Node) -> None:
        solid: list[Owner] = []
        dangling: list[Owner] = []
        waiting: list[Owner] = []
        for owner in node.owners:
            if not await self._exists(node, owner):
                dangling.append(owner)
                continue
            known = self._graph.nodes.get(owner.uid)
            (waiting if known and known.deleting and FOREGROUND in known.finalizers else solid).append(owner)
        if solid:
            if dangling or waiting:
                await self._drop_owners(node, {one.uid for one in (*dangling, *waiting)})
            return
        propagation = "Background"
        if ORPHAN in node.finalizers:
            propagation = "Orphan"
        elif FOREGROUND in node.finalizers or (waiting and self._graph.dependents(node.uid)):
            propagation = "Foreground"
        try:
            await self._client.delete(
                node.resource, node.name, node.namespace, propagation=propagation, uid=node.uid
            )
        except NotFound:
            return  # gone already
        log.info("%s %s/%s deleted: its owners are gone", node.resource, node.namespace or "", node.name)

    async def _exists(self, node: Node, owner: Owner) -> bool:
        if owner.uid in self._graph.nodes:
            return True
        if owner.uid in self._absent:
            return False
        resource = self._by_kind.get((owner.api_version, owner.kind)) or self._other_version(owner)
        if resource is None:
            return True  # a kind that is not served (yet): nothing is deleted on a guess
        try:
            found = await self._client.get(
                resource, owner.name, node.namespace if resource.namespaced else None
            )
        except (
            NotFound,
            ValueError,
        ):  # ValueError: a cluster-scoped object cannot have an owner in a namespace
            self._absent.add(owner.uid)
            return False
        return bool(found["metadata"]["uid"] == owner.uid)

    def _other_version(self, owner: Owner) -> Resource | None:
        group = owner.api_version.rpartition("/")[0]
        for (_, kind), resource in self._by_kind.items():
            if resource.group == group and kind == owner.kind:
                return resource
        return None

    async def _drop_owners(self, node: Node, uids: set[str]) -> None:
        try:
            current = await self._client.get(node.resource, node.name, node.namespace)
            if current["metadata"]["uid"] != node.uid:
                return
            kept = [one for one in current["metadata"].get("ownerReferences", []) if one["uid"] not in uids]
            metadata = {
                "ownerReferences": kept or None,
                "resourceVersion": current["metadata"]["resourceVersion"],
            }
            await self._client.patch(node.resource, node.name, {"metadata": metadata}, node.namespace)
        except NotFound:
            return

    async def _drop_finalizer(self, node: Node, finalizer: str) -> None:
        try:
            current = await self._client.get(node.resource, node.name, node.namespace)
            if current["metadata"]["uid"] != node.uid:
                return
            kept = [one for one in current["metadata"].get("finalizers", []) if one != finalizer]
            metadata = {"finalizers": kept or None, "resourceVersion": current["metadata"]["resourceVersion"]}
            await self._client.patch(node.resource, node.name, {"metadata": metadata}, node.namespace)
        except NotFound:
            return


class _Feed:
    """One informer's changes, with the resource that they are of."""

    def __init__(self, collector: GarbageCollector, resource: Resource) -> None:
        self._collector = collector
        self._resource = resource

    def __call__(self, change: Change) -> None:
        self._collector.changed(self._resource, change)
