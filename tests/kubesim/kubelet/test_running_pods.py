"""What happens to a pod that runs or is about to: admission, memory limits, changes in its volumes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubesim.kubelet import memory
from kubesim.kubelet.admission import Admission, Share, examine, share_of
from kubesim.kubelet.payload import File, replace_files
from kubesim.kubelet.refreshing import is_old
from kubewire.resources import CONFIG_MAPS, NODES

from .conftest import Box, eventually
from .nodecluster import NODE, NodeCluster, main_state, node_cluster

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cluster(root: Path) -> AsyncIterator[NodeCluster]:
    async with node_cluster(root) as made:
        yield made


# --- admission ---


def pod(**spec: Any) -> dict[str, Any]:
    labels = spec.pop("labels", {})
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": labels},
        "spec": {"containers": [{"name": "c", **spec.pop("container", {})}], **spec},
    }


def requests(**amounts: str) -> dict[str, Any]:
    return {"container": {"resources": {"requests": amounts}}}


def port(number: int, address: str | None = None) -> dict[str, Any]:
    return {"container": {"ports": [{"hostPort": number, **({"hostIP": address} if address else {})}]}}


NODE_OBJECT: dict[str, Any] = {
    "metadata": {"name": "n", "labels": {"disk": "ssd"}},
    "spec": {"taints": [{"key": "soft", "effect": "NoSchedule"}]},
    "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "2"}},
}
BUSY = Share(amounts={"pods": 1, "cpu": 1500}, ports=frozenset({("TCP", 80, "0.0.0.0")}))


@pytest.mark.parametrize(
    ("wanted", "reason", "message"),
    [
        (
            requests(cpu="1"),
            "OutOfcpu",
            "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000",
        ),
        (
            requests(memory="2Gi"),
            "OutOfmemory",
            "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824",
        ),
        (
            {"nodeSelector": {"disk": "tape"}},
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ),
        (
            port(80, "127.0.0.1"),
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        ),
        (
            {"os": {"name": "windows"}},
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        ),
    ],
)
def test_a_pod_that_does_not_fit_is_rejected_in_the_words_of_the_real_kubelet(
    wanted: dict[str, Any], reason: str, message: str
) -> None:
    rejection = examine(pod(**wanted), NODE_OBJECT, [BUSY])
    assert rejection is not None
    assert (rejection.reason, rejection.message) == (reason, message)


@pytest.mark.parametrize(
    "wanted",
    [
        requests(cpu="500m"),
        requests(**{"example.com/dongle": "1"}),
        port(81),
        {"nodeSelector": {"disk": "ssd"}},
    ],
)
def test_a_pod_that_fits_is_admitted(wanted: dict[str, Any]) -> None:
    assert examine(pod(**wanted), NODE_OBJECT, [BUSY]) is None


@pytest.mark.parametrize(
    ("term", "fits"),
    [
        ({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd", "nvme"]}]}, True),
        ({"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}, False),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}, True),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["m"]}]}, False),
        ({}, False),
    ],
)
def test_required_node_affinity_holds_on_the_node_too(term: dict[str, Any], fits: bool) -> None:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    affine = pod(affinity={"nodeAffinity": required})
    assert (examine(affine, NODE_OBJECT, []) is None) is fits


def test_a_taint_that_ends_pods_keeps_them_from_starting_unless_they_tolerate_it() -> None:
    node = {**NODE_OBJECT, "spec": {"taints": [{"key": "broken", "effect": "NoExecute"}]}}
    rejection = examine(pod(), node, [])
    assert rejection is not None
    assert rejection.reason == "TaintToleration"
    assert examine(pod(tolerations=[{"key": "broken", "operator": "Exists"}]), node, []) is None


def test_the_third_pod_on_a_node_for_two_is_too_many() -> None:
    rejection = examine(pod(), NODE_OBJECT, [share_of(pod()), share_of(pod())])
    assert rejection is not None
    assert rejection.reason == "OutOfpods"


async def test_a_rejected_pod_fails_without_having_run_and_its_place_stays_free(cluster: NodeCluster) -> None:
    cpus = len(os.sched_getaffinity(0))
    node = await cluster.client.get(NODES, NODE)
    capacity = int(node["status"]["allocatable"]["cpu"])
    assert capacity <= cpus
    whole = {"resources": {"requests": {"cpu": str(capacity)}}}
    first = await cluster.create("first", container=whole)
    await cluster.until_phase("first", "Running")
    rejected = await cluster.create("second", container=whole)
    failed = await cluster.until_phase("second", "Failed")
    assert failed["status"]["reason"] == "OutOfcpu"
    assert failed["status"]["message"] == (
        f"Pod was rejected: Node didn't have enough resource: cpu, requested: {capacity}000, "
        f"used: {capacity}000, capacity: {capacity}000"
    )
    assert not cluster.folder(rejected).exists()
    await cluster.until(lambda: cluster.events("OutOfcpu"), "it is told")
    await cluster.stop_kubelet()
    await cluster.start_kubelet()  # what runs keeps its place and is not examined again
    await cluster.create("third", container=whole)
    await cluster.until_phase("third", "Failed")
    assert (await cluster.get("first"))["status"]["phase"] == "Running"
    await cluster.delete("first")
    await cluster.until_gone("first")
    await eventually(lambda: not cluster.folder(first).exists(), "its folder is gone")
    await cluster.create("fourth", "exit 0", container=whole)
    await cluster.until_phase("fourth", "Succeeded")
    await cluster.delete("second")
    await cluster.until_gone("second")


async def test_a_new_pod_is_decided_on_only_when_all_that_runs_is_counted(cluster: NodeCluster) -> None:
    admission = Admission(cluster.client, NODE)
    many = requests(cpu="100000")
    decision = asyncio.ensure_future(admission.admit(pod(**many)))
    old = pod()
    old["metadata"]["uid"] = "old"
    for _ in range(100):
        await asyncio.sleep(0)
    assert not decision.done()
    admission.keep(old)
    admission.knows_all()
    rejection = await decision
    assert rejection is not None
    assert rejection.reason == "OutOfcpu"


# --- memory ---


async def test_a_container_over_its_memory_limit_is_killed_and_says_so(cluster: NodeCluster) -> None:
    script = "import time; held = bytearray(b'x' * (96 << 20)); time.sleep(1000)"
    limited = {
        "command": ["sh", "-c", f'python -c "{script}" & wait'],
        "resources": {"limits": {"memory": "64Mi"}},
    }
    await cluster.create("p", container=limited)
    pod = await cluster.until_phase("p", "Failed")
    terminated = main_state(pod)["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)


async def test_memory_that_processes_share_counts_once(box: Box) -> None:
    script = (
        "import os, time; held = bytearray(b'x' * (24 << 20)); "
        "os.fork(); print('up', flush=True); time.sleep(1000)"
    )
    directory = await box.start("main", "python3", "-c", script)
    await eventually(lambda: _lines(directory) == 2, "both processes are up")
    assert not await asyncio.to_thread(memory.enforce, str(directory), 44 << 20)
    assert await asyncio.to_thread(memory.enforce, str(directory), 16 << 20)
    await eventually((directory / "exit.json").exists, "it has ended")


def _lines(directory: Path) -> int:
    return (directory / "log").read_text().count("up") if (directory / "log").exists() else 0


# --- last words ---


async def test_the_last_output_becomes_the_message_of_a_failure_where_that_is_wanted(
    cluster: NodeCluster,
) -> None:
    asked = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    await cluster.create("says", "for i in $(seq 90); do echo line $i; done; exit 3", container=asked)
    await cluster.create("fine", "echo done", container=asked)
    await cluster.create("silent", "echo no; exit 3")
    message = main_state(await cluster.until_phase("says", "Failed"))["terminated"]["message"]
    assert message.splitlines()[0] == "line 11"
    assert message.endswith("line 90\n")
    assert "message" not in main_state(await cluster.until_phase("fine", "Succeeded"))["terminated"]
    assert "message" not in main_state(await cluster.until_phase("silent", "Failed"))["terminated"]


# --- volumes ---


def test_the_files_of_a_volume_change_all_at_once(tmp_path: Path) -> None:
    place = tmp_path / "v"
    assert replace_files(place, [File("a", b"1", 0o640), File("deep/b", b"2", 0o600)])
    before = os.readlink(place / "..data")
    assert not replace_files(place, [File("a", b"1", 0o640), File("deep/b", b"2", 0o600)])
    assert os.readlink(place / "..data") == before
    assert replace_files(place, [File("a", b"3", 0o640), File("c", b"4", 0o644)])
    assert {one.name for one in place.iterdir() if not one.name.startswith("..")} == {"a", "c"}
    assert ((place / "a").read_bytes(), (place / "c").read_bytes()) == (b"3", b"4")
    assert not (place / before).exists()
    assert len([one for one in place.iterdir() if one.name.startswith("..2")]) == 1


def token(issued: float, expires: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"iat": issued, "exp": expires}).encode()).decode()
    return f"head.{claims.rstrip('=')}.signature"


@pytest.mark.parametrize(
    ("text", "old"),
    [
        (token(1000, 2000), False),
        (token(100, 1100), True),
        (token(-90_000, 1_000_000), True),
        ("no token", True),
    ],
)
def test_a_token_is_renewed_after_four_fifths_of_its_life_or_a_day(text: str, old: bool) -> None:
    assert is_old(text, 1000.0) is old


async def test_a_changed_config_map_reaches_a_running_pod(root: Path) -> None:
    async with node_cluster(root) as cluster:
        await cluster.stop_kubelet()
        cluster.sync_every = 0.1
        await cluster.start_kubelet()
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c"},
            "data": {"key": "one"},
        }
        await cluster.client.create(CONFIG_MAPS, config, "default")
        sources = [{"configMap": {"name": "c"}}, {"serviceAccountToken": {"path": "token"}}]
        volumes = [{"name": "v", "projected": {"sources": sources}}]
        container = {"volumeMounts": [{"name": "v", "mountPath": "/etc/v"}]}
        pod = await cluster.create("p", container=container, volumes=volumes)
        await cluster.until_phase("p", "Running")
        mounted = cluster.folder(pod) / "containers" / "main" / "0" / "root" / "etc" / "v"
        first = (mounted / "token").read_text()
        await cluster.client.patch(CONFIG_MAPS, "c", {"data": {"key": "two", "more": "x"}}, "default")
        await eventually(lambda: (mounted / "key").read_text() == "two", "the change has come")
        assert (mounted / "more").read_text() == "x"
        assert (mounted / "token").read_text() == first, "a young token is kept"
        await cluster.client.delete(CONFIG_MAPS, "c", "default")
        await cluster.until(lambda: cluster.events("FailedMount"), "its loss is told")
        assert (mounted / "key").read_text() == "two"
