"""Claims on a process node: a folder each, there for the pods and gone with the claim."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controlplane import ControlPlane, Object, control_plane
from kubesim.controllers.localvolumes import CLASS, NAME, LocalProvisioner
from kubesim.kubelet.process import ProcessKubelet
from kubesim.kubelet.teardown import stop_all
from kubewire.resources import NODES, PODS, STATEFUL_SETS, STORAGE_CLASSES
from kubewire.resources import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from kubewire.resources import PERSISTENT_VOLUMES as VOLUMES
from storage_objects import fresh, phase

NODE = "this-machine"
WRITER = 'echo "$POD" >> "$KUBESIM_ROOT/data/names"; trap "exit 0" TERM; sleep 600 & wait'


@pytest.fixture
def root() -> Iterator[Path]:
    """Short, because sockets live below it."""
    made = Path(tempfile.mkdtemp(prefix="w", dir="/tmp")).resolve()
    yield made
    shutil.rmtree(made)


@asynccontextmanager
async def process_node(root: Path) -> AsyncIterator[ControlPlane]:
    async with control_plane(
        lambda client, informers: [LocalProvisioner(client, informers, root / "volumes", NODE)]
    ) as cluster:
        kubelet = ProcessKubelet(cluster.client, NODE, root / "node", cluster.api.nodes)
        task = asyncio.create_task(kubelet.run(), name="the kubelet under test")
        try:
            await cluster.until(NODES, NODE, _is_ready, None)
            await cluster.until(STORAGE_CLASSES, CLASS, lambda _: True, None)
            yield cluster
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(stop_all, root / "node")


def _is_ready(node: Object) -> bool:
    return any(
        one["type"] == "Ready" and one["status"] == "True"
        for one in node.get("status", {}).get("conditions", ())
    )


def stateful_set(name: str) -> Object:
    container = {
        "name": "c",
        "image": "i",
        "command": ["sh", "-c", WRITER],
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "resources": {"requests": {"cpu": "10m"}},
    }
    template = {"metadata": {"labels": {"a": name}}, "spec": {"containers": [container]}}
    claims = [{"metadata": {"name": "data"}, "spec": fresh("data")["spec"]}]
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "selector": {"matchLabels": {"a": name}},
            "template": template,
            "volumeClaimTemplates": claims,
        },
    }


async def until_there(file: Path, words: list[str]) -> None:
    """Nobody tells when a process has written a file."""
    async with asyncio.timeout(20):
        while not file.exists() or file.read_text().split() != words:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def running(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


@pytest.mark.anyio
async def test_a_stateful_set_finds_its_data_again_until_its_claim_is_deleted(root: Path) -> None:
    async with process_node(root) as cluster:
        await cluster.client.create(STATEFUL_SETS, stateful_set("s"), "default")
        first = await cluster.until(PODS, "s-0", running)
        claim = await cluster.until(CLAIMS, "data-s-0", phase("Bound"))
        assert claim["spec"]["storageClassName"] == CLASS
        volume = await cluster.client.get(VOLUMES, claim["spec"]["volumeName"])
        assert volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == NAME
        folder = Path(volume["spec"]["hostPath"]["path"])
        assert folder.parent == root / "volumes"
        await cluster.event("data-s-0", "ProvisioningSucceeded")
        await cluster.client.delete(PODS, "s-0", "default", grace_period=1)
        uid = first["metadata"]["uid"]
        await cluster.until(PODS, "s-0", lambda pod: pod["metadata"]["uid"] != uid and running(pod))
        await until_there(folder / "names", ["s-0", "s-0"])
        await cluster.client.delete(STATEFUL_SETS, "s", "default")
        await cluster.client.delete(CLAIMS, "data-s-0", "default")
        await cluster.gone(PODS, "s-0")
        await cluster.gone(CLAIMS, "data-s-0")
        await cluster.gone(VOLUMES, volume["metadata"]["name"], None)
        assert not folder.exists()


@pytest.mark.anyio
async def test_what_a_folder_cannot_be_is_refused(root: Path) -> None:
    async with control_plane(
        lambda client, informers: [LocalProvisioner(client, informers, root, NODE)]
    ) as cluster:
        await cluster.until(STORAGE_CLASSES, CLASS, lambda _: True, None)
        made = await cluster.client.create(CLAIMS, fresh("c", volumeMode="Block"), "default")
        marks = {"volume.kubernetes.io/selected-node": NODE}
        await cluster.client.patch(CLAIMS, "c", {"metadata": {"annotations": marks}}, "default")
        said = await cluster.event("c", "ProvisioningFailed")
        assert "volumes of the mode Block are not supported" in said["message"]
        assert made["spec"]["storageClassName"] == CLASS
