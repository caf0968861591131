"""Each Service with a selector has Endpoints: the oldest list of the pods behind it, which clients still read."""

from __future__ import annotations

from kubesim.controllers import services
from kubesim.controllers.family import Indexes
from kubesim.controllers.objects import labels_of
from kubesim.controllers.serving import ServiceQueue
from kubesim.controllers.workqueue import work
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.informer import Object, split_key
from kubewire.resources import ENDPOINTS


class EndpointsController:
    """Keys are those of Services."""

    name = "endpoints"

    def __init__(self, client: Client, indexes: Indexes) -> None:
        self._client = client
        self._serving = ServiceQueue(indexes)
        self._endpoints = indexes.of(ENDPOINTS)
        self._endpoints.informer.subscribe(lambda change: self._serving.queue.add(change.key))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._serving.synced()
        await self._endpoints.informer.synced.wait()
        await work(self.name, self._serving.queue, self.reconcile, workers=2)

    async def reconcile(self, key: str) -> float | None:
        """Write what stands behind one service."""
        namespace, name = split_key(key)
        found = self._endpoints.informer.get(key)
        service = self._serving.get(key)
        if service is None:
            if found is not None and services.ENDPOINTS_MANAGED_BY in labels_of(found):
                try:
                    await self._client.delete(ENDPOINTS, name, namespace, uid=found["metadata"]["uid"])
                except NotFound:
                    pass  # gone, which is what was wanted
            return None
        if services.selector_of(service) is None:
            return None
        wanted = _wanted(service, self._serving.pods(service), found)
        if found is None:
            await self._client.create(ENDPOINTS, wanted, namespace)
        elif not _same(found, wanted):
            await self._client.replace(ENDPOINTS, wanted, namespace)
        return None


def _wanted(service: Object, pods: list[Object], found: Object | None) -> Object:
    subsets, cut = services.truncated(services.subsets(service, pods))
    about = service["metadata"]
    before = found if found is not None else {"metadata": {}}
    annotations = services.with_annotation(
        before, services.TRIGGER_TIME, services.trigger_time(pods) if subsets else None
    )
    annotations.pop(services.OVER_CAPACITY, None)
    if cut:
        annotations[services.OVER_CAPACITY] = "truncated"
    metadata: Object = {
        **before["metadata"],
        "name": about["name"],
        "namespace": about["namespace"],
        "labels": services.endpoints_labels(service),
    }
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    made: Object = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
    return {**made, "subsets": subsets} if subsets else made


def _same(found: Object, wanted: Object) -> bool:
    cut = (one["metadata"].get("annotations", {}).get(services.OVER_CAPACITY) for one in (found, wanted))
    return (
        (found.get("subsets") or []) == wanted.get("subsets", [])
        and labels_of(found) == labels_of(wanted)
        and len(set(cut)) == 1
    )
