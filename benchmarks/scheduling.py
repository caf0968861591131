"""Pods that the scheduler of kubesim places per second: `python benchmarks/scheduling.py [--nodes N] [--pods N]`.

Everything runs in this process against a memory store: deciding, binding, events, and the API server behind them. Wall
clock and CPU seconds are told apart, because the second does not depend on who else uses the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

import uvloop

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.scheduler.scheduler import Scheduler
from kubesim.store import open_store
from kubewire.client import Client
from kubewire.informer import Informers
from kubewire.resources import NODES, PODS, SERVICE_ACCOUNTS

_LABELS = {"app": "bench"}
_ZONE = "topology.kubernetes.io/zone"
_TERM = {"labelSelector": {"matchLabels": _LABELS}, "topologyKey": _ZONE}
WORKLOADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "spread over zones": {
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": _ZONE,
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": _LABELS},
            }
        ]
    },
    "preferred anti-affinity": {
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": _TERM}]
            }
        }
    },
}


async def measure(more: dict[str, Any], nodes: int, pods: int) -> tuple[float, float]:
    """Pods per second of wall clock, and of CPU."""
    store = open_store("memory")
    api = ApiServer(store)
    await api.start()
    client = Client(InProcessTransport(api, user="system:kube-scheduler"))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await client.create(SERVICE_ACCOUNTS, account, "default")
    room = {"cpu": "8", "memory": "32Gi", "pods": "110"}
    for number in range(nodes):
        metadata = {"name": f"n{number}", "labels": {_ZONE: f"z{number % 5}"}}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": {"allocatable": room}}
        await client.create(NODES, node)
        await client.patch(NODES, f"n{number}", {"spec": {"taints": None}})
    container = {
        "name": "c",
        "image": "i",
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    for number in range(pods):
        metadata = {"name": f"p{number}", "labels": _LABELS}
        spec = {"containers": [container], **more}
        await client.create(
            PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, "default"
        )
    async with Informers(client) as informers:
        await informers.synced(NODES, PODS)
        placed: set[str] = set()
        done = asyncio.Event()

        def look(change: Any) -> None:
            if change.new is not None and change.new["spec"].get("nodeName"):
                placed.add(change.key)
                if len(placed) == pods:
                    done.set()

        informers.of(PODS).subscribe(look)
        wall, cpu = time.perf_counter(), time.process_time()
        task = asyncio.create_task(Scheduler(client, informers).run(), name="scheduler")
        async with asyncio.timeout(600):
            await done.wait()
        found = pods / (time.perf_counter() - wall), pods / (time.process_time() - cpu)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    api.drain()
    await store.close()
    return found


def main() -> None:
    """Print one line of JSON for each workload."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=5000)
    options = parser.parse_args()
    for name, more in WORKLOADS.items():
        wall, cpu = uvloop.run(measure(more, options.nodes, options.pods))
        print(json.dumps({"pods": name, "per second": round(wall), "per CPU second": round(cpu)}))


if __name__ == "__main__":
    main()
