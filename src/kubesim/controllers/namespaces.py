"""A deleted namespace goes with everything in it: pods first, then the rest, then the namespace.

While something is left (finalizers, pods that end in their own time) the conditions of the namespace say what it is.
The last act is the `finalize` subresource, which takes the finalizer `kubernetes` away; the API server then removes
the object.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kubesim import clock
from kubesim.controllers import discovery
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import ApiError, NotFound
from kubewire.informer import Informers, Object
from kubewire.resources import NAMESPACES, PODS, Resource

log = logging.getLogger(__name__)

FINALIZER = "kubernetes"
_LOOK_AGAIN = 0.25
_LOOK_AGAIN_AT_MOST = 5.0


@dataclass(kw_only=True)
class Remaining:
    """What is left in a namespace."""

    resources: Counter[str] = field(default_factory=Counter)  # "configmaps." -> how many
    finalizers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.resources or self.failures)


class NamespaceController:
    """Keys are names of namespaces."""

    name = "namespaces"

    def __init__(
        self, client: Client, informers: Informers, *, now: Callable[[], datetime] = clock.now
    ) -> None:
        self._client = client
        self._namespaces = informers.of(NAMESPACES)
        self._now = now
        self._queue = WorkQueue()
        self._looks: Counter[str] = Counter()
        self._namespaces.subscribe(lambda change: self._queue.add(change.key))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._namespaces.synced.wait()
        await work(self.name, self._queue, self.reconcile, workers=4)

    async def reconcile(self, name: str) -> float | None:
        """Bring a namespace that is being deleted further."""
        namespace = self._namespaces.get(name)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            self._looks.pop(name, None)
            return None
        if FINALIZER not in namespace.get("spec", {}).get("finalizers", []):
            return None
        remaining = await self._empty(name)
        await self._report(name, namespace, remaining)
        if remaining:
            self._looks[name] += 1
            return float(min(_LOOK_AGAIN_AT_MOST, _LOOK_AGAIN * self._looks[name]))
        self._looks.pop(name, None)
        await self._finalize(name)
        return None

    async def _empty(self, name: str) -> Remaining:
        """Ask for the deletion of all that is there, and count what stays."""
        remaining = Remaining()
        await self._empty_of(PODS, name, remaining)
        if remaining:
            return remaining
        for one in await discovery.served(self._client):
            if one.resource.namespaced and {"list", "delete"} <= one.verbs and one.resource != PODS:
                await self._empty_of(one.resource, name, remaining)
        return remaining

    async def _empty_of(self, resource: Resource, name: str, remaining: Remaining) -> None:
        try:
            found = (await self._client.list(resource, name)).items
            if not found:
                return
            for obj in found:
                if "deletionTimestamp" not in obj["metadata"]:
                    await self._delete(resource, name, obj)
            found = (await self._client.list(resource, name)).items
        except NotFound:  # the kind itself has gone
            return
        except ApiError as error:
            remaining.failures.append(str(error))
            return
        for obj in found:
            remaining.resources[f"{resource.plural}.{resource.group}"] += 1
            remaining.finalizers.update(obj["metadata"].get("finalizers", []))

    async def _delete(self, resource: Resource, namespace: str, obj: Object) -> None:
        metadata = obj["metadata"]
        try:
            await self._client.delete(
                resource, metadata["name"], namespace, propagation="Background", uid=metadata["uid"]
            )
        except NotFound:
            pass  # gone already, which is what was wanted

    async def _report(self, name: str, namespace: Object, remaining: Remaining) -> None:
        if not remaining and "conditions" not in namespace.get("status", {}):
            return  # all at once: nobody has time to read it
        before = namespace.get("status", {}).get("conditions", [])
        after = conditions(before, remaining, self._now())
        if after != before:
            await self._client.patch(
                NAMESPACES, name, {"status": {"conditions": after}}, subresource="status"
            )

    async def _finalize(self, name: str) -> None:
        try:
            namespace = await self._client.get(NAMESPACES, name)
            kept = [one for one in namespace["spec"].get("finalizers", []) if one != FINALIZER]
            namespace["spec"]["finalizers"] = kept
            await self._client.replace(NAMESPACES, namespace, subresource="finalize")
        except NotFound:
            pass  # somebody else was as quick
        else:
            log.info("namespace %s is empty and gone", name)


def conditions(before: list[Object], remaining: Remaining, now: datetime) -> list[Object]:
    """The conditions of a namespace that is being deleted; times stay where nothing has changed."""
    failures = "; ".join(remaining.failures)
    resources = ", ".join(
        sorted(f"{what} has {n} resource instances" for what, n in remaining.resources.items())
    )
    finalizers = ", ".join(
        sorted(f"{what} in {n} resource instances" for what, n in remaining.finalizers.items())
    )
    wanted: Mapping[str, tuple[bool, str, str]] = {
        "NamespaceDeletionDiscoveryFailure": (
            False,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        "NamespaceDeletionGroupVersionParsingFailure": (
            False,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        "NamespaceDeletionContentFailure": (True, "ContentDeletionFailed", failures)
        if failures
        else (False, "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        "NamespaceContentRemaining": (
            True,
            "SomeResourcesRemain",
            f"Some resources are remaining: {resources}",
        )
        if resources
        else (False, "ContentRemoved", "All content successfully removed"),
        "NamespaceFinalizersRemaining": (
            True,
            "SomeFinalizersRemain",
            f"Some content in the namespace has finalizers remaining: {finalizers}",
        )
        if finalizers
        else (False, "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
    }
    old = {one["type"]: one for one in before}
    after: list[Object] = []
    for kind, (is_so, reason, message) in wanted.items():
        status = "True" if is_so else "False"
        previous = old.pop(kind, None)
        at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        if previous and previous["status"] == status:
            at = previous["lastTransitionTime"]
        after.append(
            {"type": kind, "status": status, "lastTransitionTime": at, "reason": reason, "message": message}
        )
    return [*old.values(), *after]
