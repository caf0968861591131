"""Each Service with a selector has EndpointSlices: at most a hundred pods each, one set for each address family."""

from __future__ import annotations

from kubesim.controllers import services
from kubesim.controllers.family import Family, Indexes
from kubesim.controllers.objects import annotations_of, controlled_by, deleting, labels_of, oldest_first
from kubesim.controllers.recorder import Recorder
from kubesim.controllers.serving import ServiceQueue
from kubesim.controllers.workqueue import work
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.informer import Change, Informers, Object
from kubewire.resources import ENDPOINT_SLICES, NODES, SERVICES


class EndpointSliceController:
    """Keys are those of Services."""

    name = "endpoint slices"

    def __init__(self, client: Client, informers: Informers, indexes: Indexes) -> None:
        self._client = client
        self._nodes = informers.of(NODES)
        self._serving = ServiceQueue(indexes, nodes=self._nodes)
        self._slices = indexes.of(ENDPOINT_SLICES)
        recorder = Recorder(client, "endpoint-slice-controller")
        queue = self._serving.queue
        self._family = Family(client, indexes.of(SERVICES), self._slices, queue, recorder, orphans=False)
        self._slices.informer.subscribe(self._slice_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._serving.synced()
        await self._slices.informer.synced.wait()
        await work(self.name, self._serving.queue, self.reconcile, workers=2)

    def _slice_changed(self, change: Change) -> None:
        name = _service_of(change.object)
        if name:
            self._serving.queue.add(f"{change.object['metadata']['namespace']}/{name}")

    async def reconcile(self, key: str) -> float | None:
        """Write what stands behind one service."""
        service = self._serving.get(key)
        if service is None:
            await self._remove(key)
            return None
        if services.selector_of(service) is None or not self._family.settled(key):
            return None
        own = [one for one in self._of(key) if not deleting(one)]
        pods = self._serving.pods(service)
        families = services.families_of(service)
        for family in families:
            mine = [one for one in own if one["addressType"] == family]
            await self._write(service, pods, mine, family)
        for one in own:
            if one["addressType"] not in families:
                await self._family.delete(service, one, quiet=True)
        return None

    def _of(self, key: str) -> list[Object]:
        namespace, _, name = key.partition("/")
        return [one for one in self._slices.within(namespace) if _service_of(one) == name]

    async def _remove(self, key: str) -> None:
        """The garbage collector would do it, later."""
        for one in self._of(key):
            metadata = one["metadata"]
            try:
                await self._client.delete(
                    ENDPOINT_SLICES, metadata["name"], metadata["namespace"], uid=metadata["uid"]
                )
            except NotFound:
                continue

    async def _write(self, service: Object, pods: list[Object], own: list[Object], family: str) -> None:
        nodes = {}
        for pod in pods:
            name = pod["spec"].get("nodeName")
            node = self._nodes.get(name) if name else None
            if node is not None:
                nodes[name] = node
        left = oldest_first(own)
        trigger = services.trigger_time(pods)
        writes: list[tuple[Object, Object]] = []  # a slice, what becomes of it
        missing: list[tuple[list[Object], list[Object]]] = []  # endpoints and ports that have no slice yet
        for ports, wanted in services.slices(service, pods, nodes, family):
            shown = services.slice_ports(ports)
            mine = [one for one in left if (one.get("ports") or []) == shown]
            kept, new = services.packed(wanted, mine)
            left = [one for one in left if all(one is not other for other, _ in kept)]
            writes += [
                (before, _filled(service, before, held, shown, family, trigger)) for before, held in kept
            ]
            missing += [(held, shown) for held in new]
        for held, shown in missing:  # a slice that nobody needs any more is filled before one is made
            before = left.pop(0) if left else _fresh(service)
            writes.append((before, _filled(service, before, held, shown, family, trigger)))
        for before, made in writes:
            if "uid" not in before["metadata"]:
                await self._family.create(service, made, quiet=True)
            elif not _same(before, made):
                await self._client.replace(ENDPOINT_SLICES, made, service["metadata"]["namespace"])
        for one in left:
            await self._family.delete(service, one, quiet=True)


def _service_of(found: Object) -> str | None:
    labels = labels_of(found)
    return labels.get(services.NAME) if labels.get(services.MANAGED_BY) == services.SLICE_MANAGER else None


def _fresh(service: Object) -> Object:
    about = service["metadata"]
    metadata = {
        "generateName": f"{about['name']}-",
        "namespace": about["namespace"],
        "ownerReferences": [controlled_by(SERVICES, service)],
    }
    return {"metadata": metadata}


def _filled(
    service: Object,
    before: Object,
    held: list[Object],
    ports: list[Object],
    family: str,
    trigger: str | None,
) -> Object:
    annotations = services.with_annotation(before, services.TRIGGER_TIME, trigger if held else None)
    metadata = {**before["metadata"], "labels": services.slice_labels(service)}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    return {
        **before,
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": metadata,
        "addressType": family,
        "endpoints": held,
        "ports": ports,
    }


def _same(before: Object, after: Object) -> bool:
    return (
        (before.get("endpoints") or []) == after["endpoints"]
        and (before.get("ports") or []) == after["ports"]
        and labels_of(before) == labels_of(after)
        and set(annotations_of(before)) >= set(annotations_of(after)) - {services.TRIGGER_TIME}
    )
