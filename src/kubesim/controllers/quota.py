"""Resource quotas: what is used of each, counted anew whenever it may have changed.

Admission adds to a quota what it lets in; this counts what there is, and so takes away what has gone and what was
there before the quota. The quota is read before the objects are, and written on the version that was read: what
admission adds meanwhile is never lost. Objects are listed when they are counted; what is followed all the time are only
the collections that some quota is about, and of what is merely counted one object is enough.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime

from kubesim import clock
from kubesim.apiserver.kinds.podtotals import Amounts
from kubesim.apiserver.quota.usage import (
    CLAIMS,
    PODS,
    SERVICES,
    ZERO,
    limits_of,
    one_of,
    resource_of,
    shown,
    total,
    usage,
)
from kubesim.controllers.discovery import served
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import KubeError, NotFound
from kubewire.informer import Change, Informers, Object, split_key
from kubewire.requests import Request
from kubewire.resources import RESOURCE_QUOTAS, Resource

log = logging.getLogger(__name__)

_MEASURED = frozenset({PODS, SERVICES, CLAIMS})
_UNKNOWN_AGAIN = 10.0
_LONGEST_REST = 5.0
_REST = 9  # seconds of rest for each second that counting took


class QuotaController:
    """Keys are quotas."""

    name = "resource quota"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        *,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._client = client
        self._informers = informers
        self._now = now
        self._quotas = informers.of(RESOURCE_QUOTAS)
        self._queue = WorkQueue()
        self._followed: set[Resource] = set()
        self._known: dict[str, Resource] = {}
        self._looked = -_UNKNOWN_AGAIN
        self._by_namespace: dict[str, set[str]] = {}
        self._rests: dict[str, float] = {}
        """Until when a quota that takes long to count is left alone, in event loop time."""
        self._quotas.subscribe(self._quota_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._quotas.synced.wait()
        await work(self.name, self._queue, self.reconcile, workers=2)

    def _quota_changed(self, change: Change) -> None:
        namespace = change.object["metadata"]["namespace"]
        if change.new is None:
            self._rests.pop(change.key, None)
            self._by_namespace.get(namespace, set()).discard(change.key)
        else:
            self._by_namespace.setdefault(namespace, set()).add(change.key)
        self._queue.add(change.key)
        if change.old is None or change.new is None:
            self._wake(namespace, "resourcequotas")

    def _object_changed(self, resource: str, change: Change) -> None:
        namespace = change.object["metadata"].get("namespace", "")
        if not self._by_namespace.get(namespace):
            return
        if change.old is not None and change.new is not None:
            if resource not in _MEASURED:
                return
            now = self._now()
            if usage(resource, change.old, now=now) == usage(resource, change.new, now=now):
                return
        self._wake(namespace, resource)

    def _wake(self, namespace: str, resource: str) -> None:
        """Look at those quotas of the namespace that are about the resource."""
        for key in self._by_namespace.get(namespace, ()):
            quota = self._quotas.get(key)
            if quota and limits_of(resource, (quota.get("spec") or {}).get("hard") or ()):
                self._queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        """Count one quota."""
        loop = asyncio.get_running_loop()
        rest = self._rests.get(key, 0.0) - loop.time()
        if rest > 0.1:
            return rest
        namespace, name = split_key(key)
        try:
            quota = await self._client.get(RESOURCE_QUOTAS, name, namespace)
        except NotFound:
            return None
        began = time.process_time()
        used, all_known = await self._counted(quota)
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        wanted = {"hard": spec.get("hard") or {}, "used": shown(used)}
        if {"hard": status.get("hard") or {}, "used": status.get("used") or {}} != wanted:
            await self._client.replace(
                RESOURCE_QUOTAS, {**quota, "status": wanted}, namespace, subresource="status"
            )
        self._rests[key] = loop.time() + min(_LONGEST_REST, _REST * (time.process_time() - began))
        return None if all_known else _UNKNOWN_AGAIN

    async def _counted(self, quota: Object) -> tuple[Amounts, bool]:
        """What is used of each limit, and whether all that is limited is known."""
        used: Amounts = {}
        hard = (quota.get("spec") or {}).get("hard") or {}
        all_known = True
        for group_resource in sorted({about for one in hard if (about := resource_of(one))}):
            resource = await self._resource(group_resource)
            if resource is None:
                all_known = False
                continue
            await self._follow(resource, group_resource)
            try:
                used |= await self._used(quota, group_resource, resource)
            except NotFound:  # the kind is not served any more
                self._known.pop(group_resource, None)
                all_known = False
        return used, all_known

    async def _used(self, quota: Object, group_resource: str, resource: Resource) -> Amounts:
        """What is used of those limits that are about one resource."""
        spec, namespace = quota["spec"], quota["metadata"]["namespace"]
        limits = limits_of(group_resource, spec["hard"])
        used = dict.fromkeys(limits, ZERO)
        if group_resource in _MEASURED:
            objects = (await self._client.list(resource, namespace)).items
            found = total(group_resource, objects, spec, self._now())
            return used | {one: found[one] for one in limits if one in found}
        if spec.get("scopes") or spec.get("scopeSelector"):
            return used
        return dict.fromkeys(limits, one_of(await self._count(resource, namespace)))

    async def _count(self, resource: Resource, namespace: str) -> int:
        """How many there are, from the first of them and what the server says of the rest."""
        request = Request(method="GET", path=resource.path(namespace), query=(("limit", "1"),))
        found = (await self._client.raw(request, self._client.deadlines.read)).json()
        return len(found["items"]) + int(found["metadata"].get("remainingItemCount", 0))

    async def _follow(self, resource: Resource, group_resource: str) -> None:
        """From now on look when one of these comes or goes."""
        if resource in self._followed or resource == RESOURCE_QUOTAS:
            return
        self._followed.add(resource)
        informer = self._informers.of(resource)
        await informer.synced.wait()
        informer.subscribe(lambda change: self._object_changed(group_resource, change))

    async def _resource(self, name: str) -> Resource | None:
        found = self._known.get(name)
        now = asyncio.get_running_loop().time()
        if found is None and now - self._looked >= 1.0:
            self._looked = now
            try:
                self._known = {
                    str(one.resource): one.resource
                    for one in await served(self._client)
                    if one.resource.namespaced and {"list", "watch", "create"} <= one.verbs
                }
            except KubeError as error:
                log.warning("%s: %s", self.name, error)
            found = self._known.get(name)
        return found
