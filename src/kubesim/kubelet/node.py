"""The Node object and the Lease of a process node: registered once, renewed for as long as the kubelet runs.

`node_object` and `node_status` are pure; `NodeAgent` sends them. Whether a silent node is given up is the node
lifecycle controller's decision.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubesim import __version__
from kubesim.clock import sleep, timestamp
from kubesim.kubelet.addresses import HOST
from kubesim.kubelet.devices import GPU_RESOURCE
from kubesim.kubelet.machine import Machine
from kubesim.kubelet.status import rfc3339
from kubewire.client import Client
from kubewire.errors import AlreadyExists, KubeError, NotFound
from kubewire.requests import PatchType
from kubewire.resources import LEASES, NODES

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
RENEW_EVERY = 10.0
STATUS_EVERY = 300.0
RETRY = 0.2
LONGEST_RETRY = 5.0
MOST_PODS = 110
KUBELET_VERSION = "v1.36.0"

_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


def capacity(machine: Machine) -> dict[str, str]:
    """What the node offers, as quantities."""
    amounts = {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory // 1024}Ki",
        "ephemeral-storage": f"{machine.disk // 1024}Ki",
        "pods": str(MOST_PODS),
    }
    if machine.gpus:
        amounts[GPU_RESOURCE] = str(len(machine.gpus))
    return amounts


def labels(machine: Machine, name: str) -> dict[str, str]:
    """What selectors find the node by."""
    found = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": machine.architecture,
        "kubesim.dev/runtime": "process",
    }
    if machine.gpus:
        product = re.sub(r"[^A-Za-z0-9._-]+", "-", machine.gpus[0].name).strip("-._")[:63]
        found |= {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": product,
            "nvidia.com/gpu.count": str(len(machine.gpus)),
            "nvidia.com/gpu.memory": str(machine.gpus[0].memory_mib),
        }
    return found


def node_status(machine: Machine, name: str, old: dict[str, Any], now: float) -> dict[str, Any]:
    """The node's status; the times of conditions that have not changed are kept."""
    before = {one["type"]: one for one in old.get("conditions") or ()}
    wanted = [(kind, "False", reason, message) for kind, reason, message in _PRESSURES]
    wanted.append(("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    conditions = []
    for kind, state, reason, message in wanted:
        known = before.get(kind)
        since = known["lastTransitionTime"] if known and known.get("status") == state else rfc3339(now)
        conditions.append(
            {
                "type": kind,
                "status": state,
                "lastHeartbeatTime": rfc3339(now),
                "lastTransitionTime": since,
                "reason": reason,
                "message": message,
            }
        )
    return {
        "capacity": capacity(machine),
        "allocatable": capacity(machine),
        "conditions": conditions,
        "addresses": [{"type": "InternalIP", "address": HOST}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.machine_id,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": f"kubesim-process://{__version__}",
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
    }


def node_object(machine: Machine, name: str, now: float) -> dict[str, Any]:
    """The Node to create."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels(machine, name)},
        "spec": {"providerID": f"kubesim://process/{name}"},
        "status": node_status(machine, name, {}, now),
    }


class NodeAgent:
    """Keeps the Node and its Lease."""

    def __init__(
        self, client: Client, name: str, machine: Machine, clock: Callable[[], float] = timestamp
    ) -> None:
        self._client = client
        self._name = name
        self._machine = machine
        self._clock = clock
        self._status_at = float("-inf")
        self.registered = asyncio.Event()

    async def run(self) -> None:
        """Register, and renew for ever. What fails is tried again."""
        pause = RETRY
        while True:
            try:
                await self._renew()
                self.registered.set()
            except (KubeError, TimeoutError, OSError) as error:
                log.warning("node %s could not be renewed: %s", self._name, error)
            except Exception:  # a mistake in here must not end the pods' workers
                log.exception("node %s could not be renewed", self._name)
            else:
                pause = RETRY
                await sleep(RENEW_EVERY)
                continue
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_RETRY)

    async def _renew(self) -> None:
        node = await self._node()
        now = self._clock()
        ready = {one["type"]: one["status"] for one in (node.get("status") or {}).get("conditions") or ()}
        if ready.get("Ready") != "True" or now - self._status_at >= STATUS_EVERY:
            status = node_status(self._machine, self._name, node.get("status") or {}, now)
            await self._client.patch(
                NODES, self._name, {"status": status}, type=PatchType.STRATEGIC, subresource="status"
            )
            self._status_at = now
        await self._lease(node, now)

    async def _node(self) -> dict[str, Any]:
        try:
            found = await self._client.get(NODES, self._name)
        except NotFound:
            try:
                made = node_object(self._machine, self._name, self._clock())
                return await self._client.create(NODES, made)
            except AlreadyExists:
                found = await self._client.get(NODES, self._name)
        wanted = labels(self._machine, self._name)
        held = found["metadata"].get("labels") or {}
        if any(held.get(key) != value for key, value in wanted.items()):
            found = await self._client.patch(NODES, self._name, {"metadata": {"labels": wanted}})
        return found

    async def _lease(self, node: dict[str, Any], now: float) -> None:
        renewed = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        try:
            await self._client.patch(LEASES, self._name, {"spec": {"renewTime": renewed}}, LEASE_NAMESPACE)
        except NotFound:
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": node["metadata"]["uid"]}
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": self._name,
                    "namespace": LEASE_NAMESPACE,
                    "ownerReferences": [owner],
                },
                "spec": {
                    "holderIdentity": self._name,
                    "leaseDurationSeconds": LEASE_SECONDS,
                    "renewTime": renewed,
                },
            }
            await self._client.create(LEASES, lease, LEASE_NAMESPACE)
