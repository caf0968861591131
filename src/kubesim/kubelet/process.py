"""The process kubelet: this machine as a node whose pods are local process trees.

It registers the node, follows the pods that are bound to it, and has one worker for each. At its start it takes over
what runs already: containers outlive it, however it ends. It is also the node's API (logs, exec, attach, connections),
which the API server finds in the `NodeDirectory`. Ending containers when the cluster stops is `teardown.stop_all`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from kubesim.apiserver.nodes import ExecOptions, LogOptions, NodeDirectory, ProcessStream
from kubesim.clock import timestamp
from kubesim.kubelet import containerfiles, machine, memory, nodeapi, venv
from kubesim.kubelet.admission import Admission
from kubesim.kubelet.containers import JsonObject
from kubesim.kubelet.devices import Devices
from kubesim.kubelet.environment import host_path, host_variables
from kubesim.kubelet.events import EventRecorder
from kubesim.kubelet.metering import Metering
from kubesim.kubelet.node import NodeAgent, capacity
from kubesim.kubelet.podworker import PodWorker
from kubesim.kubelet.records import PodFolder, PodRecord, pod_folders
from kubesim.kubelet.shims import ShimError, Zygote
from kubesim.kubelet.surroundings import Surroundings
from kubewire.client import Client
from kubewire.errors import KubeError
from kubewire.resources import PODS

log = logging.getLogger(__name__)

RETRY = 1.0
HELPER_LIMIT = 120.0


class ProcessKubelet:
    """One process node. Implements `kubesim.apiserver.nodes.NodeApi`."""

    def __init__(
        self,
        client: Client,
        node_name: str,
        root: Path,
        nodes: NodeDirectory,
        *,
        sync_every: float = 60.0,
        clock: Callable[[], float] = timestamp,
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._root = Path(os.path.realpath(root))
        self._nodes = nodes
        self._sync_every = sync_every
        self._clock = clock
        self._zygote = Zygote(self._root)
        self._events = EventRecorder(client, node_name, clock)
        self._workers: dict[str, PodWorker] = {}
        self._template: venv.Template | None = None
        self._template_lock = threading.Lock()
        self._surroundings: Surroundings | None = None

    async def run(self) -> None:
        """Be the node, until cancelled. What runs then goes on."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o700)
        here = await asyncio.to_thread(machine.inspect, self._root)
        self._surroundings = self._make_surroundings(here)
        metering = Metering(self._root)
        self._nodes.add(self._node_name, self, metering)
        try:
            async with asyncio.TaskGroup() as group:
                agent = NodeAgent(self._client, self._node_name, here, self._clock)
                group.create_task(agent.run(), name="kubelet: node")
                group.create_task(self._events.run(), name="kubelet: events")
                group.create_task(metering.run(), name="kubelet: metering")
                group.create_task(self._warm_up(), name="kubelet: warm up")
                group.create_task(memory.watch(self._limited), name="kubelet: memory")
                await self._adopt(group)
                await self._follow_pods(group)
        finally:
            self._nodes.remove(self._node_name)
            self._zygote.close()

    # --- the node's API ---

    async def logs(
        self, namespace: str, pod: str, container: str, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """What a container printed."""
        worker = self._find(namespace, pod)
        async with aclosing(nodeapi.logs(worker, container, options, self._clock())) as pieces:
            async for piece in pieces:
                yield piece

    async def exec(self, namespace: str, pod: str, container: str, options: ExecOptions) -> ProcessStream:
        """Run a command in a container."""
        return await nodeapi.execute(self._find(namespace, pod), container, options)

    async def attach(self, namespace: str, pod: str, container: str, options: ExecOptions) -> ProcessStream:
        """Follow a container's output, and write to its stdin."""
        return await nodeapi.attach(self._find(namespace, pod), container, options)

    async def dial(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a port of a pod."""
        return await nodeapi.dial(self._find(namespace, pod), port)

    # --- inside ---

    def _find(self, namespace: str, name: str) -> PodWorker:
        for worker in self._workers.values():
            metadata = (worker.pod or {}).get("metadata", {})
            if metadata.get("name") == name and metadata.get("namespace") == namespace:
                return worker
        raise nodeapi.unknown_pod(namespace, name)

    def _make_surroundings(self, here: machine.Machine) -> Surroundings:
        return Surroundings(
            client=self._client,
            root=self._root,
            zygote=self._zygote,
            events=self._events,
            admission=Admission(self._client, self._node_name),
            devices=Devices(gpu.index for gpu in here.gpus),
            template=self._get_template,
            host_variables=host_variables(os.environ, Path.home()),
            host_path=tuple(host_path(os.environ, Path.home())),
            allocatable=capacity(here),
            taken_addresses=self._taken_addresses,
            sync_every=self._sync_every,
            clock=self._clock,
        )

    def _limited(self) -> list[memory.Limited]:
        return [one for worker in self._workers.values() for one in worker.limited]

    def _taken_addresses(self) -> set[str]:
        workers = list(self._workers.values())
        return {worker.record.ip for worker in workers if worker.record is not None}

    def _get_template(self) -> venv.Template:
        with self._template_lock:
            if self._template is None:
                self._template = venv.template(self._root)
            return self._template

    async def _warm_up(self) -> None:
        """Have ready what the first pod would wait for."""
        try:
            await asyncio.gather(self._zygote.ensure(), asyncio.to_thread(self._get_template))
        except (ShimError, OSError, TimeoutError) as error:
            log.warning("the first pod will have to wait: %s", error)
            return
        if (command := self._get_template().compile_command()) is not None:
            await _run_in_background(command)

    async def _adopt(self, group: asyncio.TaskGroup) -> None:
        """Employ a worker for each pod that has a folder here; whether its pod exists is known only later."""
        for folder in await asyncio.to_thread(pod_folders, self._root):
            await asyncio.to_thread(self._restore_devices, folder)
            record = await asyncio.to_thread(folder.record)
            self._employ(folder.path.name, group, record)

    def _restore_devices(self, folder: PodFolder) -> None:
        assert self._surroundings is not None
        for name, view in folder.containers().items():
            if view.current is not None and view.current.running:
                spec = containerfiles.read_spec(str(folder.attempt(name, view.current.number)))
                gpus = spec.notes.get("gpus") or [] if spec else []
                self._surroundings.devices.restore(f"{folder.path.name}/{name}", gpus)

    async def _follow_pods(self, group: asyncio.TaskGroup) -> None:
        seen: set[str] = set()
        complete = False
        while True:
            selector = f"spec.nodeName={self._node_name}"
            try:
                async with aclosing(self._client.watch(PODS, field_selector=selector)) as events:
                    async for event in events:
                        if event.type in ("ADDED", "MODIFIED"):
                            seen.add(self._has_pod(event.object, group))
                        elif event.type == "DELETED":
                            self._lost_pod(event.object["metadata"]["uid"])
                        elif event.type == "RELISTED":
                            seen = {self._has_pod(pod, group) for pod in event.object["items"]}
                        if event.complete and (event.type == "RELISTED" or not complete):
                            complete = True
                            self._know_all()
                            for uid in set(self._workers) - seen:
                                self._lost_pod(uid)
            except KubeError as error:
                log.warning("node %s cannot follow its pods: %s", self._node_name, error)
                seen, complete = set(), False
                await asyncio.sleep(RETRY)

    def _know_all(self) -> None:
        assert self._surroundings is not None
        self._surroundings.admission.knows_all()

    def _has_pod(self, pod: JsonObject, group: asyncio.TaskGroup) -> str:
        uid = str(pod["metadata"]["uid"])
        self._employ(uid, group).update(pod)
        return uid

    def _lost_pod(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(None)

    def _employ(self, uid: str, group: asyncio.TaskGroup, record: PodRecord | None = None) -> PodWorker:
        worker = self._workers.get(uid)
        if worker is None:
            assert self._surroundings is not None
            worker = self._workers[uid] = PodWorker(self._surroundings, uid, record)
            task = group.create_task(worker.run(), name=f"kubelet: pod {uid}")
            task.add_done_callback(lambda _: self._workers.pop(uid, None))
        return worker


async def _run_in_background(command: list[str]) -> None:
    """Run a helper to its end; it is killed when the kubelet ends. What it does is an optimization: it may fail."""
    nothing = asyncio.subprocess.DEVNULL
    try:
        helper = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=nothing, stderr=nothing)
    except OSError as error:
        log.info("%s could not be run: %s", command[0], error)
        return
    try:
        async with asyncio.timeout(HELPER_LIMIT):
            await helper.wait()
    except TimeoutError:
        log.info("%s took too long", " ".join(command))
    finally:
        if helper.returncode is None:
            helper.kill()
            await helper.wait()
