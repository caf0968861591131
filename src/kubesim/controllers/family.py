"""Owners and their children: which objects belong to a controller's object, and what is known to be on its way.

A mirror is a moment behind. Whoever counts children in it right after making one would make it again: `Family`
remembers what it made and deleted until the mirror has seen it, and `settled` says whether it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from kubesim import clock
from kubesim.apiserver.selectors import LabelSelector, from_object
from kubesim.controllers.objects import controlled_by, controller_of, deleting, labels_of
from kubesim.controllers.recorder import NORMAL, WARNING, Recorder
from kubesim.controllers.workqueue import WorkQueue
from kubewire.client import Client
from kubewire.errors import Conflict, Forbidden, KubeError, NotFound
from kubewire.informer import Change, Informer, Informers, Object, key_of
from kubewire.requests import PatchType
from kubewire.resources import Resource

_PATIENCE = 30.0
_LARGEST_BATCH = 500


class Index:
    """The objects of a mirror by namespace and by controller."""

    def __init__(self, informer: Informer) -> None:
        self.informer = informer
        self._owned: dict[str, dict[str, Object]] = {}  # by the controller's uid, then by key
        self._spaces: dict[str, dict[str, Object]] = {}  # by namespace, then by key
        informer.subscribe(self._changed)

    def owned(self, uid: str) -> list[Object]:
        """What the object with this uid controls."""
        return list(self._owned.get(uid, {}).values())

    def within(self, namespace: str) -> list[Object]:
        """All of a namespace."""
        return list(self._spaces.get(namespace, {}).values())

    def _changed(self, change: Change) -> None:
        if change.old is not None:
            before = controller_of(change.old)
            if before:
                _drop(self._owned, before["uid"], change.key)
            if change.new is None:
                _drop(self._spaces, change.old["metadata"]["namespace"], change.key)
        if change.new is not None:
            after = controller_of(change.new)
            if after:
                self._owned.setdefault(after["uid"], {})[change.key] = change.new
            self._spaces.setdefault(change.new["metadata"]["namespace"], {})[change.key] = change.new


def _drop(index: dict[str, dict[str, Object]], name: str, key: str) -> None:
    found = index.get(name)
    if found is not None:
        found.pop(key, None)
        if not found:
            del index[name]


class Indexes:
    """One index per collection, shared."""

    def __init__(self, informers: Informers) -> None:
        self._informers = informers
        self._made: dict[Resource, Index] = {}

    def of(self, resource: Resource) -> Index:
        """The index of a collection."""
        if resource not in self._made:
            self._made[resource] = Index(self._informers.of(resource))
        return self._made[resource]


class Family:
    """Owners of one kind with their children of one kind."""

    def __init__(
        self,
        client: Client,
        owners: Index,
        children: Index,
        queue: WorkQueue,
        recorder: Recorder,
        *,
        orphans: bool = True,
    ) -> None:
        self._orphans = orphans  # whether children without a controller are looked at
        self._client = client
        self._owners = owners
        self._children = children
        self._queue = queue
        self._recorder = recorder
        self.owner = owners.informer.resource
        self.child = children.informer.resource
        self._awaited: dict[str, tuple[str, bool, float]] = {}  # child uid -> owner key, deletion?, until
        self._open: dict[str, set[str]] = {}  # owner key -> child uids
        children.informer.subscribe(self._changed)

    def settled(self, key: str) -> bool:
        """Whether the mirror has seen all that was made and deleted for this owner."""
        now = clock.monotonic()
        for uid in [one for one in self._open.get(key, ()) if self._awaited[one][2] < now]:
            self._seen(uid)
        if (
            key in self._open
        ):  # what was made may have gone again while nobody watched: look again in any case
            self._queue.add_after(key, _PATIENCE)
            return False
        return True

    async def claim(
        self, owner: Object, *, wanted: Callable[[Object], bool] = lambda _: True
    ) -> list[Object]:
        """The owner's children: those that are, those without a controller that match now; others are released."""
        selector = selector_of(owner)
        metadata = owner["metadata"]
        kept = []
        for child in self._children.owned(metadata["uid"]):
            if selector.matches(labels_of(child)):
                kept.append(child)
            elif not deleting(owner) and not deleting(child):
                await self._release(owner, child)
        if deleting(owner):
            return [child for child in kept if wanted(child)]
        orphans = [
            child
            for child in self._children.within(metadata["namespace"])
            if selector.matches(labels_of(child)) and controller_of(child) is None and not deleting(child)
        ]
        adoptable = [child for child in orphans if wanted(child)]
        if adoptable:
            kept += await self._adopt_all(owner, adoptable)
        return [child for child in kept if wanted(child)]

    async def create(self, owner: Object, child: Object, *, quiet: bool = False) -> Object | None:
        """Make a child; None when the namespace is about to go."""
        namespace = owner["metadata"]["namespace"]
        try:
            made = await self._client.create(self.child, child, namespace)
        except KubeError as error:
            if isinstance(error, Forbidden) and "being terminated" in str(error):
                return None
            if not quiet:
                await self._recorder.say(
                    self.owner, owner, WARNING, "FailedCreate", f"Error creating: {error}"
                )
            raise
        self._await(key_of(owner), made, deletion=False)
        if not quiet:
            text = f"Created {self.child.kind.lower()}: {made['metadata']['name']}"
            await self._recorder.say(self.owner, owner, NORMAL, "SuccessfulCreate", text)
        return made

    async def delete(self, owner: Object, child: Object, *, quiet: bool = False) -> None:
        """Ask for a child's deletion."""
        metadata = child["metadata"]
        try:
            await self._client.delete(
                self.child,
                metadata["name"],
                metadata["namespace"],
                uid=metadata["uid"],
                propagation="Background",
            )
        except (NotFound, Conflict):  # gone, perhaps replaced by another of its name
            return
        self._await(key_of(owner), child, deletion=True)
        if not quiet:
            text = f"Deleted {self.child.kind.lower()}: {metadata['name']}"
            await self._recorder.say(self.owner, owner, NORMAL, "SuccessfulDelete", text)

    async def _release(self, owner: Object, child: Object) -> None:
        uid = owner["metadata"]["uid"]
        metadata = child["metadata"]
        patch = {"metadata": {"uid": metadata["uid"], "ownerReferences": [{"$patch": "delete", "uid": uid}]}}
        try:
            await self._client.patch(
                self.child, metadata["name"], patch, metadata["namespace"], type=PatchType.STRATEGIC
            )
        except NotFound:
            pass  # gone, which is as good

    async def _adopt_all(self, owner: Object, orphans: Iterable[Object]) -> list[Object]:
        metadata = owner["metadata"]
        fresh = await self._client.get(self.owner, metadata["name"], metadata["namespace"])
        if fresh["metadata"]["uid"] != metadata["uid"] or deleting(fresh):
            return []
        adopted = []
        for child in orphans:
            about = child["metadata"]
            patch = {"metadata": {"uid": about["uid"], "ownerReferences": [controlled_by(self.owner, owner)]}}
            try:
                adopted.append(
                    await self._client.patch(
                        self.child, about["name"], patch, about["namespace"], type=PatchType.STRATEGIC
                    )
                )
            except NotFound:
                continue
        return adopted

    def _await(self, key: str, child: Object, *, deletion: bool) -> None:
        uid = child["metadata"]["uid"]
        seen = self._children.informer.get(key_of(child))
        is_there = seen is not None and seen["metadata"]["uid"] == uid
        if deletion and (seen is None or not is_there or deleting(seen)):
            return
        if not deletion and is_there:
            return
        self._awaited[uid] = (key, deletion, clock.monotonic() + _PATIENCE)
        self._open.setdefault(key, set()).add(uid)

    def _seen(self, uid: str) -> None:
        key = self._awaited.pop(uid)[0]
        self._open[key].discard(uid)
        if not self._open[key]:
            del self._open[key]

    def _changed(self, change: Change) -> None:
        uid = change.object["metadata"]["uid"]
        awaited = self._awaited.get(uid)
        if awaited and (not awaited[1] or change.new is None or deleting(change.new)):
            self._seen(uid)
        for obj in (change.old, change.new):
            if obj is not None:
                self._wake(obj)
        if self._orphans and change.new is not None and controller_of(change.new) is None:
            self._wake_matching(change.old, change.new)

    def _wake(self, child: Object) -> None:
        by = controller_of(child)
        if by and by["kind"] == self.owner.kind and by["apiVersion"].rpartition("/")[0] == self.owner.group:
            self._queue.add(f"{child['metadata']['namespace']}/{by['name']}")

    def _wake_matching(self, old: Object | None, new: Object) -> None:
        if old is not None and labels_of(old) == labels_of(new) and controller_of(old) is None:
            return
        for owner in self._owners.within(new["metadata"]["namespace"]):
            if selector_of(owner).matches(labels_of(new)):
                self._queue.add(key_of(owner))


def selector_of(owner: Object) -> LabelSelector:
    """The selector of an owner's spec, labels alone in a ReplicationController; an empty one selects nothing."""
    selector = owner["spec"].get("selector") or {}
    if all(isinstance(value, str) for value in selector.values()):
        selector = {"matchLabels": selector}
    found = from_object(selector)
    return found if found.requirements else LabelSelector(nothing=True)


async def in_batches(count: int, act: Callable[[int], Awaitable[object]]) -> int:
    """Act `count` times, few at first, twice as many each time all went well; returns how many did.

    Raises the first failure, after its batch.
    """
    done, size = 0, 1
    while done < count:
        numbers = range(done, min(done + size, count))
        results = await asyncio.gather(*(act(one) for one in numbers), return_exceptions=True)
        for one in results:
            if isinstance(one, BaseException):
                raise one
        done += len(results)
        size = min(size * 2, _LARGEST_BATCH)
    return done


async def write_status(client: Client, resource: Resource, obj: Object, status: Object) -> Object:
    """Replace the status of an object as it was seen; `Conflict` when it has changed meanwhile."""
    changed = {**obj, "apiVersion": resource.api_version, "kind": resource.kind, "status": status}
    return await client.replace(resource, changed, obj["metadata"]["namespace"], subresource="status")
