"""Lifecycle hooks, and the order in which the containers of a pod are started and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from kubesim.kubelet.containers import Attempt, ContainerView, PodView
from kubesim.kubelet.events import EventRecorder
from kubesim.kubelet.reconcile import Decision, Kill
from kubesim.kubelet.stopping import Stopping
from kubewire.client import Client

from .conftest import eventually
from .nodecluster import NodeCluster, main_state, node_cluster

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cluster(root: Path) -> AsyncIterator[NodeCluster]:
    async with node_cluster(root) as made:
        yield made


def run(*command: str) -> dict[str, Any]:
    return {"exec": {"command": list(command)}}


def until_told(flag: Path) -> list[str]:
    return ["sh", "-c", f"until test -e {flag}; do sleep 0.02; done"]


async def test_a_container_counts_as_running_and_the_next_one_starts_after_its_post_start_hook(
    cluster: NodeCluster, root: Path
) -> None:
    go, log = root / "go", root / "log"
    first = {
        "name": "main",
        "image": "i",
        "command": ["sleep", "1000"],
        "lifecycle": {"postStart": run(*until_told(go)[:2], f"{until_told(go)[2]}; echo hook >> {log}")},
    }
    second = {"name": "second", "image": "i", "command": ["sh", "-c", f"echo second >> {log}; sleep 1000"]}
    await cluster.create("p", containers=[first, second])
    pod = await cluster.until_pod("p", lambda pod: pod["status"].get("containerStatuses"), "a status")
    folder = cluster.folder(pod) / "containers"
    await cluster.until(lambda: _exists(folder / "main" / "0" / "state.json"), "the first runs")
    pod = await cluster.get("p")
    assert pod["status"]["phase"] == "Pending"
    assert main_state(pod) == {"waiting": {"reason": "ContainerCreating"}}
    assert not (folder / "second").exists()
    go.touch()
    await cluster.until_phase("p", "Running")
    await cluster.until(lambda: _has(log, "hook\nsecond\n"), "the second started after the hook")


async def test_a_container_whose_post_start_hook_fails_is_ended_and_says_so(cluster: NodeCluster) -> None:
    hook = run("sh", "-c", "echo a secret; exit 1")
    await cluster.create("p", container={"lifecycle": {"postStart": hook}})
    await cluster.until_phase("p", "Failed")
    await cluster.until(lambda: cluster.events("FailedPostStartHook"), "it is told")
    assert await cluster.events("FailedPostStartHook") == ["PostStartHook failed"]
    await cluster.until(lambda: cluster.events("Killing"), "the end is told")
    assert await cluster.events("Killing") == ["FailedPostStartHook"]


async def test_a_pre_stop_hook_is_done_before_the_container_gets_term(
    cluster: NodeCluster, root: Path
) -> None:
    log = root / "log"
    script = f"trap 'echo term >> {log}; exit 0' TERM; echo up >> {log}; while :; do sleep 0.02; done"
    hook = {"preStop": run("sh", "-c", f"sleep 0.2; echo hook >> {log}")}
    await cluster.create("p", script, container={"lifecycle": hook}, terminationGracePeriodSeconds=30)
    await cluster.until(lambda: _has(log, "up\n"), "it is up")
    await cluster.delete("p")
    await cluster.until_gone("p")
    assert log.read_text() == "up\nhook\nterm\n"


async def test_a_pre_stop_hook_that_takes_longer_than_the_grace_leaves_two_seconds_to_the_container(
    cluster: NodeCluster, root: Path
) -> None:
    log = root / "log"
    script = f"trap 'echo term >> {log}; exit 0' TERM; echo up >> {log}; while :; do sleep 0.02; done"
    hook = {"preStop": {"sleep": {"seconds": 1}}}
    await cluster.create("p", script, container={"lifecycle": hook}, terminationGracePeriodSeconds=1)
    await cluster.until(lambda: _has(log, "up\n"), "it is up")
    await cluster.delete("p")
    await cluster.until_gone("p")
    assert log.read_text() == "up\nterm\n"


async def test_a_pre_stop_hook_that_fails_is_told_and_keeps_nothing_up(cluster: NodeCluster) -> None:
    await cluster.create(
        "p", container={"lifecycle": {"preStop": run("nonesuch")}}, terminationGracePeriodSeconds=30
    )
    await cluster.until_phase("p", "Running")
    await cluster.delete("p")
    await cluster.until_gone("p")
    await cluster.until(lambda: cluster.events("FailedPreStopHook"), "it is told")
    assert await cluster.events("FailedPreStopHook") == ["PreStopHook failed"]


async def test_a_hook_can_be_a_get_to_the_pods_own_address(cluster: NodeCluster) -> None:
    asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set_result((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 500 it does not matter\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        action = {"port": server.sockets[0].getsockname()[1], "path": "/started"}
        hook = {"postStart": {"httpGet": action}}
        await cluster.create("p", container={"lifecycle": hook}, hostNetwork=True)
        await cluster.until_phase("p", "Running")
        assert (await asked).startswith("GET /started HTTP/1.1")
        assert "User-Agent: kube-lifecycle/1.36" in await asked
    finally:
        server.close()


async def test_sidecars_end_after_the_containers_and_in_reverse_order(
    cluster: NodeCluster, root: Path
) -> None:
    log = root / "log"

    def container(name: str, **more: Any) -> dict[str, Any]:
        script = (
            f"trap 'sleep 0.1; echo {name} >> {log}; exit 0' TERM; touch {root}/{name}.up; "
            "while :; do sleep 0.02; done"
        )
        return {"name": name, "image": "i", "command": ["sh", "-c", script], **more}

    sidecars = [container(name, restartPolicy="Always") for name in ("one", "two")]
    await cluster.create(
        "p", containers=[container("main")], initContainers=sidecars, terminationGracePeriodSeconds=30
    )
    await eventually(lambda: len(list(root.glob("*.up"))) == 3, "all run")
    await cluster.delete("p")
    await cluster.until_gone("p")
    assert log.read_text() == "main\ntwo\none\n"


async def test_an_ending_is_over_when_the_container_runs_again(root: Path) -> None:
    events = EventRecorder(cast(Client, None), "node")
    stopping = Stopping(
        events=events, clock=lambda: 1000.0, directory=lambda name, number: root / name / str(number)
    )
    pod = {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"containers": [{"name": "c"}]}}

    def attempt(number: int) -> PodView:
        current = Attempt(number=number, started_at=900.0)
        return PodView(pod=pod, containers={"c": ContainerView(current=current)})

    kill = Kill(container="c", grace=5.0, message="Container c failed liveness probe, will be restarted")
    try:
        await stopping.carry_out(attempt(0), Decision(kill=(kill,)))
        assert stopping.times == [1012.0]
        await stopping.carry_out(attempt(1), Decision())
        assert stopping.times == []
    finally:
        await stopping.aclose()


async def _exists(path: Path) -> bool:
    return path.exists()


async def _has(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text
