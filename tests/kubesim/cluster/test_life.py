"""Clusters of flesh and blood: created, killed, started, stopped and deleted by the real commands."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kubesim.cluster.daemonfile import read_daemon_file
from kubesim.cluster.exitcodes import ExitCode
from kubesim.cluster.home import ClusterPaths, Home
from kubesim.kubelet.aftermath import wait_gone
from kubesim.kubelet.proc import Identity, identify
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.opening import open_client
from kubewire.resources import CONFIG_MAPS, NAMESPACES, PODS, SERVICE_ACCOUNTS, Resource
from kubewire.watch import ADDED, DELETED

pytestmark = pytest.mark.anyio

LIMIT = 60.0
BODY = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}


def kubesim(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command; its environment is the one that the `home` fixture has set."""
    command = [sys.executable, "-m", "kubesim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def do(*arguments: str) -> str:
    """Run a command that has to succeed; its standard output."""
    done = kubesim(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def state_of(name: str) -> str:
    found = {one["name"]: one["status"] for one in json.loads(do("get", "clusters", "--json"))}
    return str(found.get(name, "Absent"))


def daemon_of(paths: ClusterPaths) -> Identity:
    found = read_daemon_file(paths.daemon)
    assert found is not None
    assert found.process.is_alive()
    return found.process


@pytest.fixture
def paths(home: Home) -> Iterator[ClusterPaths]:
    """The cluster `c`, which the test creates; nothing of it is left."""
    yield home.cluster("c")
    kubesim("delete", "cluster", "--name", "c", "--force")


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    opened = open_client("kubesim-c", paths=[Path(os.environ["KUBECONFIG"])])
    try:
        yield opened
    finally:
        await opened.aclose()


async def deleted(api: Client, resource: Resource, obj: dict[str, Any]) -> None:
    """Wait until the object has gone."""
    metadata = obj["metadata"]
    watching = api.watch(
        resource,
        metadata.get("namespace"),
        field_selector=f"metadata.name={metadata['name']}",
        resource_version=metadata["resourceVersion"],
    )
    try:
        async for event in watching:
            if event.type == DELETED:
                return
    finally:
        await watching.aclose()


async def test_a_pod_can_be_created_the_moment_create_returns(paths: ClusterPaths) -> None:
    made = json.loads(do("create", "cluster", "--name", "c", "--store", "memory", "--json"))
    assert made["context"] == "kubesim-c"
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    async with client() as api:
        created = await api.create(PODS, pod, "default")
        assert created["spec"]["serviceAccountName"] == "default"
        async with asyncio.timeout(LIMIT):
            async for event in api.watch(PODS, "default"):
                conditions = event.object.get("status", {}).get("conditions", [])
                if conditions:
                    break
    assert conditions[0]["message"] == "no nodes available to schedule pods"


def test_creating_again_is_the_same_cluster_and_a_different_one_is_refused(paths: ClusterPaths) -> None:
    do("create", "cluster", "--name", "c", "--store", "memory")
    before = daemon_of(paths)
    again = json.loads(do("create", "cluster", "--name", "c", "--store", "memory", "--wait", "30s", "--json"))
    assert again["existed"] is True
    assert daemon_of(paths) == before
    other = kubesim("create", "cluster", "--name", "c", "--store", "durable")
    assert other.returncode == ExitCode.CONFLICT
    assert "its store is memory, not durable" in other.stderr
    assert daemon_of(paths) == before


async def test_what_was_answered_is_there_after_a_kill_and_the_server_keeps_its_address(
    paths: ClusterPaths,
) -> None:
    do("create", "cluster", "--name", "c", "--wait", "30s")
    async with client() as api:
        written = await api.create(CONFIG_MAPS, BODY, "default")
    daemon = daemon_of(paths)
    daemon.send(signal.SIGKILL)
    assert wait_gone([daemon], 10) == []
    assert state_of("c") == "Dead"
    do("start", "cluster", "--name", "c", "--wait", "30s")
    assert daemon_of(paths) != daemon
    async with client() as api:
        assert await api.get(CONFIG_MAPS, "a", "default") == written
    do("stop", "cluster", "--name", "c")
    assert state_of("c") == "Stopped"
    do("stop", "cluster", "--name", "c")
    do("start", "cluster", "--name", "c")
    async with client() as api:
        assert await api.get(CONFIG_MAPS, "a", "default") == written


async def test_a_watch_ends_and_the_daemon_is_gone_soon_after_sigterm(paths: ClusterPaths) -> None:
    do("create", "cluster", "--name", "c", "--store", "memory")
    daemon = daemon_of(paths)
    async with client() as api, asyncio.timeout(LIMIT):
        watching = api.watch(SERVICE_ACCOUNTS, "default")
        assert (await anext(watching)).type == ADDED
        before = time.monotonic()
        daemon.send(signal.SIGTERM)
        left = await asyncio.to_thread(wait_gone, [daemon], 10)
        assert left == []
        assert time.monotonic() - before < 4.0
        await watching.aclose()


def test_two_daemons_never_serve_one_cluster(paths: ClusterPaths) -> None:
    do("create", "cluster", "--name", "c", "--store", "memory")
    first = daemon_of(paths)
    second = subprocess.run(
        [sys.executable, "-m", "kubesim.cluster.daemon", str(paths.root)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert second.returncode == ExitCode.NOT_STARTED
    assert "another process serves" in second.stderr
    assert daemon_of(paths) == first


@pytest.mark.parametrize(
    "moment", ["cluster.json", "daemon.log", "daemon.json", "pki/ca.crt", "pki/sa.pub", "store", "kubeconfig"]
)
def test_a_creation_that_was_killed_is_carried_on_with(paths: ClusterPaths, moment: str) -> None:
    """Whatever it had come to: no daemon, one that waits for its keys, one that has just got the word to go."""
    creation = subprocess.Popen([sys.executable, "-m", "kubesim", "create", "cluster", "--name", "c"])
    sign = Path(os.environ["KUBECONFIG"]) if moment == "kubeconfig" else paths.root / moment
    deadline = time.monotonic() + LIMIT
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    creation.kill()
    creation.wait()
    assert sign.exists()
    if state_of("c") == "Creating":  # else it was quicker than the kill
        assert kubesim("start", "cluster", "--name", "c").returncode == ExitCode.CONFLICT
    do("create", "cluster", "--name", "c", "--wait", "30s")
    assert state_of("c") == "Running"


def test_a_creation_that_was_killed_can_be_deleted(paths: ClusterPaths) -> None:
    creation = subprocess.Popen([sys.executable, "-m", "kubesim", "create", "cluster", "--name", "c"])
    deadline = time.monotonic() + LIMIT
    while not paths.log.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    creation.kill()
    creation.wait()
    do("delete", "cluster", "--name", "c")
    assert not paths.root.exists()


def test_a_port_that_is_taken_is_an_error_that_leaves_nothing_behind(paths: ClusterPaths, home: Home) -> None:
    do("create", "cluster", "--name", "c", "--store", "memory")
    [port] = [one["server"].rpartition(":")[2] for one in json.loads(do("get", "clusters", "--json"))]
    other = kubesim("create", "cluster", "--name", "other", "--port", port)
    assert other.returncode == ExitCode.NOT_STARTED
    assert "already in use" in other.stderr
    assert not home.cluster("other").root.exists()
    assert "other" not in Path(os.environ["KUBECONFIG"]).read_text()


def test_a_daemon_that_hangs_is_unavailable_and_only_force_removes_it(paths: ClusterPaths) -> None:
    do("create", "cluster", "--name", "c", "--store", "memory")
    daemon = daemon_of(paths)
    daemon.send(signal.SIGSTOP)
    assert state_of("c") == "Unavailable"
    refused = kubesim("delete", "cluster", "--name", "c")
    assert refused.returncode == ExitCode.UNAVAILABLE
    assert "--force" in refused.stderr
    daemon.send(signal.SIGCONT)
    assert state_of("c") == "Running"
    daemon.send(signal.SIGSTOP)
    do("delete", "cluster", "--name", "c", "--force")
    assert not daemon.is_alive()
    assert not paths.root.exists()


def test_corrupt_data_under_a_running_daemon_is_refused_and_then_forced(paths: ClusterPaths) -> None:
    do("create", "cluster", "--name", "c")
    daemon = daemon_of(paths)
    (paths.store / "objects.db").write_bytes(b"corrupt" * 5000)
    refused = kubesim("delete", "cluster", "--name", "c")
    assert refused.returncode == ExitCode.UNAVAILABLE
    assert daemon.is_alive()
    do("delete", "cluster", "--name", "c", "--force")
    assert not daemon.is_alive()
    assert not paths.root.exists()


def test_a_cluster_with_a_damaged_store_does_not_start_and_says_why(paths: ClusterPaths) -> None:
    do("create", "cluster", "--name", "c")
    do("stop", "cluster", "--name", "c")
    (paths.store / "objects.db").write_bytes(b"corrupt" * 5000)
    refused = kubesim("start", "cluster", "--name", "c")
    assert refused.returncode == ExitCode.UNAVAILABLE
    assert "objects.db" in refused.stderr
    assert "--force" in refused.stderr


def test_deleting_a_running_cluster_leaves_no_process_file_or_context(
    paths: ClusterPaths, home: Home
) -> None:
    do("create", "cluster", "--name", "c", "--process-node", "--wait", "60s")
    daemon = daemon_of(paths)
    do("delete", "cluster", "--name", "c")
    assert not daemon.is_alive()
    assert [path.name for path in home.root.rglob("*") if path.is_file()] == ["audit.log"]
    assert "kubesim-c" not in Path(os.environ["KUBECONFIG"]).read_text()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "cmdline").exists():
            assert str(paths.root).encode() not in (entry / "cmdline").read_bytes()


async def test_a_namespace_goes_with_all_that_is_in_it(paths: ClusterPaths) -> None:
    do("create", "cluster", "--name", "c", "--store", "memory")
    async with client() as api, asyncio.timeout(LIMIT):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
        created = await api.create(NAMESPACES, namespace)
        await api.create(CONFIG_MAPS, BODY, "n")
        await api.delete(NAMESPACES, "n")
        await deleted(api, NAMESPACES, created)
        with pytest.raises(NotFound):
            await api.get(CONFIG_MAPS, "a", "n")


async def test_what_is_owned_goes_with_its_owner(paths: ClusterPaths) -> None:
    do("create", "cluster", "--name", "c", "--store", "memory", "--wait", "30s")
    async with client() as api, asyncio.timeout(LIMIT):
        owner = await api.create(CONFIG_MAPS, BODY, "default")
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": owner["metadata"]["uid"]}
        child = {**BODY, "metadata": {"name": "child", "ownerReferences": [reference]}}
        created = await api.create(CONFIG_MAPS, child, "default")
        await api.delete(CONFIG_MAPS, "a", "default", propagation="Background")
        await deleted(api, CONFIG_MAPS, created)


def kubectl(*arguments: str) -> str:
    """Run the real kubectl, which keeps a cache at home; its standard output."""
    done = subprocess.run(
        ["kubectl", "--context", "kubesim-c", *arguments],
        env={**os.environ, "HOME": os.environ["KUBESIM_HOME"]},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _pids_of(marker: str) -> list[int]:
    """The processes of this machine whose command line holds the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile
    return found


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_runs_reads_and_enters_a_pod_that_outlives_the_daemon(paths: ClusterPaths) -> None:
    do("create", "cluster", "--name", "c", "--process-node", "--wait", "60s")
    marker = f"marker-{paths.root.parent.parent.parent.name}"
    script = f"echo hello from {marker}; exec -a {marker} sleep 600"
    kubectl("run", "p", "--image=any", "--restart=Never", "--", "bash", "-c", script)
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
    assert kubectl("logs", "p") == f"hello from {marker}\n"
    assert kubectl("exec", "p", "--", "sh", "-c", "echo inside; exit 0") == "inside\n"
    [pid] = [one for one in _pids_of(marker) if b"sleep" in Path(f"/proc/{one}/comm").read_bytes()]
    daemon = daemon_of(paths)
    daemon.send(signal.SIGKILL)
    assert wait_gone([daemon], 10) == []
    do("start", "cluster", "--name", "c", "--wait", "60s")
    assert kubectl("exec", "p", "--", "echo", "still inside") == "still inside\n"
    assert kubectl(
        "get", "pod", "p", "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].restartCount}"
    ) == ("Running 0")
    assert identify(pid) is not None
    do("stop", "cluster", "--name", "c")
    assert _pids_of(marker) == []
