"""What Endpoints and EndpointSlices share: Services that need a look when pods or nodes change."""

from __future__ import annotations

from kubesim.controllers.family import Index, Indexes
from kubesim.controllers.objects import deleting, labels_of, ready, status_of
from kubesim.controllers.services import selector_of
from kubesim.controllers.workqueue import WorkQueue
from kubewire.informer import Change, Informer, Object, key_of
from kubewire.resources import PODS, SERVICES


class ServiceQueue:
    """A queue of the keys of Services."""

    def __init__(self, indexes: Indexes, *, nodes: Informer | None = None) -> None:
        self.queue = WorkQueue()
        self._services: Index = indexes.of(SERVICES)
        self._pods: Index = indexes.of(PODS)
        self._services.informer.subscribe(lambda change: self.queue.add(change.key))
        self._pods.informer.subscribe(self._pod_changed)
        self._nodes = nodes
        if nodes is not None:
            nodes.subscribe(self._node_changed)

    async def synced(self) -> None:
        """Wait until all that is needed is known."""
        await self._services.informer.synced.wait()
        await self._pods.informer.synced.wait()
        if self._nodes is not None:
            await self._nodes.synced.wait()

    def get(self, key: str) -> Object | None:
        """The service, if it is there to stay."""
        found = self._services.informer.get(key)
        return None if found is None or deleting(found) else found

    def pods(self, service: Object) -> list[Object]:
        """The pods that the service selects."""
        selector = selector_of(service)
        if selector is None:
            return []
        within = self._pods.within(service["metadata"]["namespace"])
        return [pod for pod in within if selector.matches(labels_of(pod))]

    def _pod_changed(self, change: Change) -> None:
        if change.old is not None and change.new is not None and _facts(change.old) == _facts(change.new):
            return
        for service in self._services.within(change.object["metadata"]["namespace"]):
            selector = selector_of(service)
            if selector is None:
                continue
            for pod in (change.old, change.new):
                if pod is not None and selector.matches(labels_of(pod)):
                    self.queue.add(key_of(service))

    def _node_changed(self, change: Change) -> None:
        if (
            change.old is not None
            and change.new is not None
            and labels_of(change.old) == labels_of(change.new)
        ):
            return
        for key in self._services.informer:
            self.queue.add(key)


def _facts(pod: Object) -> tuple[object, ...]:
    """All of a pod that its services speak of."""
    status = status_of(pod)
    return (
        labels_of(pod),
        pod["spec"].get("nodeName"),
        status.get("phase"),
        status.get("podIP"),
        status.get("podIPs"),
        ready(pod),
        deleting(pod),
    )
