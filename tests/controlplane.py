"""An API server in this process with controllers and scheduler at work, for tests of what they do together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.controllers.manager import Controller, all_controllers, run_all
from kubesim.scheduler.scheduler import Scheduler
from kubesim.store import open_store
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.informer import Informers
from kubewire.requests import PatchType
from kubewire.resources import EVENTS, NODES, PODS, Resource

Object = dict[str, Any]
DEADLINE = 20.0


class ControlPlane:
    """What a test asks of the cluster."""

    def __init__(self, api: ApiServer, client: Client, informers: Informers) -> None:
        self.api = api
        self.client = client
        self.informers = informers

    async def until(
        self,
        resource: Resource,
        name: str,
        test: Callable[[Object], object],
        namespace: str | None = "default",
    ) -> Object:
        """Wait until the object is as the test wants it."""
        key = f"{namespace}/{name}" if namespace else name
        found: list[Object] = []

        def look(obj: Object) -> bool:
            metadata = obj["metadata"]
            if key not in (metadata["name"], f"{metadata.get('namespace')}/{metadata['name']}"):
                return False
            if test(obj):
                found.append(obj)
            return bool(found)

        try:
            async with asyncio.timeout(DEADLINE):
                await self.informers.of(resource).until(look)
        except TimeoutError:
            raise AssertionError(f"{resource} {key} stays {self.informers.of(resource).get(key)}") from None
        return found[0]

    async def gone(self, resource: Resource, name: str, namespace: str | None = "default") -> None:
        """Wait until the object is not there."""
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    await self.client.get(resource, name, namespace)
                except NotFound:
                    return
                changed = asyncio.Event()

                def look(_: object, changed: asyncio.Event = changed) -> None:
                    changed.set()

                informer = self.informers.of(resource)
                informer.subscribe(look)
                try:
                    async with asyncio.timeout(0.5):
                        await changed.wait()
                except TimeoutError:
                    pass
                finally:
                    informer.unsubscribe(look)

    async def event(self, name: str, reason: str) -> Object:
        """Wait for an event about the object of that name."""
        found: list[Object] = []

        def look(event: Object) -> bool:
            if event["involvedObject"].get("name") == name and event["reason"] == reason:
                found.append(event)
            return bool(found)

        try:
            async with asyncio.timeout(DEADLINE):
                await self.informers.of(EVENTS).until(look)
        except TimeoutError:
            said = [
                (one["involvedObject"].get("name"), one["reason"], one["message"])
                for one in self.informers.of(EVENTS).all()
            ]
            raise AssertionError(f"nobody said {reason} of {name}: {said}") from None
        return found[0]

    async def add_node(self, name: str, *, labels: dict[str, str] | None = None, **capacity: str) -> None:
        """A node that is ready, with nobody on it."""
        amounts = {"cpu": "4", "memory": "4Gi", "pods": "110", **capacity}
        labels = {"kubernetes.io/hostname": name, **(labels or {})}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        await self.client.create(NODES, node)
        await self.client.patch(NODES, name, {"spec": {"taints": None}}, type=PatchType.MERGE)

    async def set_phase(self, pod: Object, phase: str, *, ready: bool = False) -> None:
        """What a kubelet would say of the pod."""
        conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        metadata = pod["metadata"]
        status = {"phase": phase, "conditions": conditions, "startTime": "2026-01-01T00:00:00Z"}
        await self.client.patch(
            PODS, metadata["name"], {"status": status}, metadata["namespace"], subresource="status"
        )


@asynccontextmanager
async def control_plane(
    more: Callable[[Client, Informers], Sequence[Controller]] = lambda *_: (),
) -> AsyncIterator[ControlPlane]:
    """Run everything of a control plane but HTTP."""
    store = open_store("memory")
    api = ApiServer(store)
    await api.start()
    client = Client(InProcessTransport(api, user="system:kube-controller-manager"))
    try:
        async with Informers(client) as informers, asyncio.TaskGroup() as group:
            controllers = [*all_controllers(client, informers, ca_pem=""), *more(client, informers)]
            tasks = [
                group.create_task(run_all(controllers), name="controllers"),
                group.create_task(Scheduler(client, informers).run(), name="scheduler"),
            ]
            try:
                yield ControlPlane(api, client, informers)
            finally:
                for task in tasks:
                    task.cancel()
    finally:
        api.drain()
        await store.close()
