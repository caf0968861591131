"""Endpoints that somebody writes by hand, for a Service without a selector, as EndpointSlices.

A slice for each group of ports and each address family. What is marked `skip-mirror`, or is a leader election lock of
old, is left alone.
"""

from __future__ import annotations

from kubesim.controllers import services
from kubesim.controllers.family import Index, Indexes
from kubesim.controllers.objects import annotations_of, controlled_by, deleting, labels_of, oldest_first
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.informer import Change, Object
from kubewire.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_COPIED = (services.TRIGGER_TIME, "kubectl.kubernetes.io/last-applied-configuration")
_MOST = 1000


class EndpointsMirror:
    """Keys are those of Endpoints, which are those of their Services."""

    name = "endpoints mirroring"

    def __init__(self, client: Client, indexes: Indexes) -> None:
        self._client = client
        self._endpoints = indexes.of(ENDPOINTS)
        self._services = indexes.of(SERVICES)
        self._slices = indexes.of(ENDPOINT_SLICES)
        self._queue = WorkQueue()
        self._endpoints.informer.subscribe(lambda change: self._queue.add(change.key))
        self._services.informer.subscribe(lambda change: self._queue.add(change.key))
        self._slices.informer.subscribe(self._slice_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        for index in (self._endpoints, self._services, self._slices):
            await index.informer.synced.wait()
        await work(self.name, self._queue, self.reconcile)

    def _slice_changed(self, change: Change) -> None:
        labels = labels_of(change.object)
        if labels.get(services.MANAGED_BY) == MANAGER and services.NAME in labels:
            self._queue.add(f"{change.object['metadata']['namespace']}/{labels[services.NAME]}")

    async def reconcile(self, key: str) -> None:
        """Make the slices of one Endpoints object what they should be."""
        endpoints, service = self._endpoints.informer.get(key), self._services.informer.get(key)
        wanted = []
        if endpoints is not None and service is not None and _is_mirrored(endpoints, service):
            wanted = slices_of(endpoints)
        namespace, _, name = key.partition("/")
        left = [one for one in _mine(self._slices, namespace, name) if not deleting(one)]
        for made in wanted:
            same = [one for one in left if _group(one) == _group(made)]
            before = same[0] if same else None
            if before is None:
                await self._create(made, namespace)
                continue
            left.remove(before)
            if any(before.get(part) != made[part] for part in ("endpoints", "ports")) or _about(
                before
            ) != _about(made):
                metadata = {**before["metadata"], **made["metadata"]}
                await self._client.replace(ENDPOINT_SLICES, {**made, "metadata": metadata}, namespace)
        for one in left:
            try:
                await self._client.delete(
                    ENDPOINT_SLICES, one["metadata"]["name"], namespace, uid=one["metadata"]["uid"]
                )
            except NotFound:
                continue

    async def _create(self, made: Object, namespace: str) -> None:
        """The mirror of slices may be behind: what is there already is not made again."""
        selector = (
            f"{services.NAME}={made['metadata']['labels'][services.NAME]},{services.MANAGED_BY}={MANAGER}"
        )
        there = await self._client.list(ENDPOINT_SLICES, namespace, label_selector=selector)
        if all(_group(one) != _group(made) for one in there.items):
            name = made["metadata"]["labels"][services.NAME]
            fresh = {**made, "metadata": {**made["metadata"], "generateName": f"{name}-"}}
            await self._client.create(ENDPOINT_SLICES, fresh, namespace)


def _is_mirrored(endpoints: Object, service: Object) -> bool:
    return (
        services.selector_of(service) is None
        and labels_of(endpoints).get(SKIP) != "true"
        and labels_of(endpoints).get(services.ENDPOINTS_MANAGED_BY) != services.ENDPOINTS_MANAGER
        and _LEADER not in annotations_of(endpoints)
        and not deleting(endpoints)
    )


def slices_of(endpoints: Object) -> list[Object]:
    """The slices of one Endpoints object."""
    about = endpoints["metadata"]
    metadata: Object = {
        "labels": {**labels_of(endpoints), services.NAME: about["name"], services.MANAGED_BY: MANAGER},
        "ownerReferences": [controlled_by(ENDPOINTS, endpoints)],
    }
    kept = {key: value for key, value in annotations_of(endpoints).items() if key not in _NOT_COPIED}
    if kept:
        metadata["annotations"] = kept
    made = []
    for subset in endpoints.get("subsets") or ():
        held: dict[str, list[Object]] = {}
        for part, is_ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(part) or ():
                family = "IPv6" if ":" in address["ip"] else "IPv4"
                held.setdefault(family, []).append(_endpoint(address, ready=is_ready))
        for family, found in held.items():
            made.append(
                {
                    "apiVersion": ENDPOINT_SLICES.api_version,
                    "kind": ENDPOINT_SLICES.kind,
                    "metadata": metadata,
                    "addressType": family,
                    "endpoints": found[:_MOST],
                    "ports": [{"name": "", **port} for port in subset.get("ports") or ()],
                }
            )
    return made


def _endpoint(address: Object, *, ready: bool) -> Object:
    more: Object = {key: address[key] for key in ("hostname", "nodeName", "targetRef") if key in address}
    return {"addresses": [address["ip"]], "conditions": {"ready": ready}, **more}


def _mine(slices: Index, namespace: str, name: str) -> list[Object]:
    return [
        one
        for one in oldest_first(slices.within(namespace))
        if labels_of(one).get(services.MANAGED_BY) == MANAGER and labels_of(one).get(services.NAME) == name
    ]


def _group(found: Object) -> tuple[object, ...]:
    """What makes two slices the same one."""
    ports = found.get("ports") or ()
    return found["addressType"], *((one.get("name"), one.get("port"), one.get("protocol")) for one in ports)


def _about(found: Object) -> tuple[object, ...]:
    return labels_of(found), annotations_of(found)
