"""A cluster in this process: a real API server, and process kubelets that come and go."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.apiserver.nodes import ExecOptions, LogOptions
from kubesim.kubelet.process import ProcessKubelet
from kubesim.store import Store, open_store
from kubewire.client import Client
from kubewire.errors import AlreadyExists, NotFound
from kubewire.resources import CONFIG_MAPS, EVENTS, NODES, PODS, SERVICE_ACCOUNTS

from .conftest import DEADLINE

NODE = "this-machine"
Pod = dict[str, Any]


class NodeCluster:
    """What a test needs of a cluster with one process node."""

    def __init__(self, root: Path, store: Store) -> None:
        self.root = root
        self.api = ApiServer(store)
        self.client = Client(InProcessTransport(self.api))
        self.sync_every = 60.0
        self.kubelet: ProcessKubelet
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the API server, and make what the controllers of a whole cluster would make."""
        await self.api.start()
        root_ca = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kube-root-ca.crt"},
            "data": {"ca.crt": "CA"},
        }
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        for resource, made in ((SERVICE_ACCOUNTS, account), (CONFIG_MAPS, root_ca)):
            try:
                await self.client.create(resource, made, "default")
            except AlreadyExists:
                continue

    async def start_kubelet(self) -> None:
        """A kubelet as the daemon would start it; its node is registered when this returns."""
        self.kubelet = ProcessKubelet(
            self.client, NODE, self.root, self.api.nodes, sync_every=self.sync_every
        )
        self._task = asyncio.create_task(self.kubelet.run(), name="the kubelet under test")
        await self.until(self._is_registered, "the node is ready")

    async def stop_kubelet(self) -> None:
        """End the kubelet; what runs goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def close(self) -> None:
        await self.stop_kubelet()
        self.api.drain()
        await self.client.aclose()

    async def _is_registered(self) -> bool:
        try:
            node = await self.client.get(NODES, NODE)
        except NotFound:
            return False
        conditions = {one["type"]: one["status"] for one in node["status"].get("conditions", ())}
        return conditions.get("Ready") == "True"

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until an asynchronous condition holds; its value."""
        end = time.monotonic() + DEADLINE
        while not (value := await condition()):
            assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
            await asyncio.sleep(0.01)
        return value

    # --- pods ---

    async def create(
        self,
        name: str,
        script: str = "sleep 1000",
        *,
        container: Mapping[str, Any] | None = None,
        **spec: Any,
    ) -> Pod:
        """A pod of one container on the node."""
        main = {"name": "main", "image": "any:1", "command": ["/bin/sh", "-c", script], **(container or {})}
        fields = {
            "nodeName": NODE,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [main],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**fields, **spec}}
        return await self.client.create(PODS, pod, "default")

    async def get(self, name: str) -> Pod:
        return await self.client.get(PODS, name, "default")

    async def until_pod(self, name: str, condition: Callable[[Pod], Any], what: str) -> Pod:
        pod: Pod = {}

        async def holds() -> bool:
            nonlocal pod
            pod = await self.get(name)
            return bool(condition(pod))

        await self.until(holds, f"{what} ({name})")
        return pod

    async def until_phase(self, name: str, phase: str) -> Pod:
        return await self.until_pod(name, lambda pod: pod["status"].get("phase") == phase, phase)

    async def until_gone(self, name: str) -> None:
        async def gone() -> bool:
            try:
                await self.get(name)
            except NotFound:
                return True
            return False

        await self.until(gone, f"{name} is gone")

    async def delete(self, name: str, grace: int | None = None) -> None:
        await self.client.delete(PODS, name, "default", grace_period=grace)

    async def logs(self, name: str, container: str = "main", **options: Any) -> str:
        pieces = [
            piece async for piece in self.kubelet.logs("default", name, container, LogOptions(**options))
        ]
        return b"".join(pieces).decode()

    async def run(self, name: str, *command: str) -> tuple[int, str]:
        """Run a command in the container `main` of a pod: exit code and stdout."""
        stream = await self.kubelet.exec("default", name, "main", ExecOptions(command=command))
        async with asyncio.timeout(DEADLINE):
            out = b"".join([piece async for number, piece in stream.output() if number == 1])
            code = await stream.exit_code()
        await stream.aclose()
        return code, out.decode()

    async def events(self, reason: str) -> list[str]:
        """The messages of the events with a reason."""
        return [
            one["message"]
            for one in (await self.client.list(EVENTS, "default")).items
            if one["reason"] == reason
        ]

    def folder(self, pod: Pod) -> Path:
        return self.root / "pods" / pod["metadata"]["uid"]


@asynccontextmanager
async def node_cluster(root: Path) -> AsyncIterator[NodeCluster]:
    """A cluster in memory whose node is ready."""
    store = open_store("memory")
    made = NodeCluster(root, store)
    await made.open()
    try:
        await made.start_kubelet()
        yield made
    finally:
        await made.close()
        await store.close()


def main_state(pod: Pod) -> dict[str, Any]:
    """The state of the only container."""
    state: dict[str, Any] = pod["status"]["containerStatuses"][0]["state"]
    return state


def environment_of_a_process(pid: int) -> dict[str, str]:
    """The variables that a process was started with."""
    pairs = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if pair)
