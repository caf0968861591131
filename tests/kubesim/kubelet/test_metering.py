"""What containers use: found by their mark, read from /proc, shown as metrics.k8s.io shows it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane import Object, control_plane
from kubesim.apiserver.nodes import ContainerUsage, NodeUsage
from kubesim.kubelet.metering import Figures, Reading, between, read
from kubesim.kubelet.proc import MARK
from kubewire.errors import NotFound
from kubewire.requests import Request
from kubewire.resources import PODS, Resource

KEY = ("uid-p", "main")
POD_METRICS = Resource("metrics.k8s.io", "v1beta1", "pods", "PodMetrics")
NODE_METRICS = Resource("metrics.k8s.io", "v1beta1", "nodes", "NodeMetrics", namespaced=False)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a container that starts another one, which works and has no mark of its own."""
    folder = tmp_path / "pods" / KEY[0] / "containers" / KEY[1] / "0"
    command = ["sh", "-c", "env -i sh -c 'while :; do :; done' & wait"]
    with subprocess.Popen(
        command, env={MARK: str(folder), "PATH": "/usr/bin:/bin"}, start_new_session=True
    ) as it:
        yield it
        subprocess.run(["pkill", "-KILL", "-s", str(it.pid)], check=True)


def test_the_use_of_a_container_is_that_of_all_its_processes(
    tmp_path: Path, busy: subprocess.Popen[bytes]
) -> None:
    end = time.monotonic() + 20
    before, usage = read(tmp_path), None
    while usage is None or KEY not in usage.containers or not usage.containers[KEY].cpu:
        assert time.monotonic() < end, "the busy process uses nothing"
        now = read(tmp_path)
        usage = between(before, now)
        before = before if KEY in before.containers else now
    assert usage.containers[KEY].memory > 100_000
    assert usage.machine.memory > 0
    assert [key for key in usage.containers if key != KEY] == []


def test_rates_are_over_the_interval_and_new_containers_have_none() -> None:
    old = Reading(at=10.0, containers={KEY: Figures(10**9, 1)}, machine=Figures(0, 5))
    new = Reading(
        at=14.0,
        containers={KEY: Figures(3 * 10**9, 7), ("u", "new"): Figures(1, 1)},
        machine=Figures(8 * 10**9, 6),
    )
    usage = between(old, new)
    assert usage.containers == {KEY: ContainerUsage(cpu=500_000_000, memory=7)}
    assert (usage.machine, usage.window) == (ContainerUsage(cpu=2 * 10**9, memory=6), 4.0)


class FixedMeter:
    def __init__(self, usage: NodeUsage) -> None:
        self._usage = usage

    def usage(self) -> NodeUsage:
        return self._usage


def simulated(name: str, node: str, **annotations: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": name},
            "annotations": {f"kwok.x-k8s.io/usage-{key}": value for key, value in annotations.items()},
        },
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "i"}]},
    }


@pytest.mark.anyio
async def test_metrics_are_served_from_meters_and_from_what_pods_pretend() -> None:
    async with control_plane() as cluster:
        with pytest.raises(NotFound):
            await cluster.client.list(NODE_METRICS)
        for node in ("real", "pretended"):
            await cluster.add_node(node)
        await cluster.until(
            Resource("", "v1", "serviceaccounts", "ServiceAccount"), "default", lambda _: True
        )
        made = await cluster.client.create(PODS, simulated("p", "real"), "default")
        other = await cluster.client.create(
            PODS, simulated("q", "pretended", cpu="250m", memory="64Mi"), "default"
        )
        for one in (made, other):
            await cluster.set_phase(one, "Running", ready=True)
        used = ContainerUsage(cpu=1_500_000, memory=4096 * 1024)
        usage = NodeUsage(
            at=time.time(), window=10.0, machine=used, containers={(made["metadata"]["uid"], "main"): used}
        )
        cluster.api.nodes.add("real", None, FixedMeter(usage))  # type: ignore[arg-type]
        pods = {
            one["metadata"]["name"]: one for one in (await cluster.client.list(POD_METRICS, "default")).items
        }
        assert pods["p"]["containers"] == [{"name": "main", "usage": {"cpu": "1500000n", "memory": "4096Ki"}}]
        assert pods["q"]["containers"] == [
            {"name": "main", "usage": {"cpu": "250000000n", "memory": "65536Ki"}}
        ]
        assert pods["p"]["window"] == "10.000s"
        chosen = await cluster.client.list(POD_METRICS, "default", label_selector="app=q")
        assert [one["metadata"]["name"] for one in chosen.items] == ["q"]
        assert (await cluster.client.get(NODE_METRICS, "pretended"))["usage"]["memory"] == "65536Ki"
        groups = await cluster.client.raw(Request(method="GET", path="/apis"), 5.0)
        assert "metrics.k8s.io" in {one["name"] for one in groups.json()["groups"]}
