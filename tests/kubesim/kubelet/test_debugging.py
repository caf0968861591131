"""Containers that are added to a running pod for debugging: started once, never part of the pod's own fate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubesim.apiserver.nodes import ExecOptions
from kubesim.kubelet.containerfiles import Exit
from kubesim.kubelet.containers import Attempt, ContainerView, PodView
from kubesim.kubelet.reconcile import Start, decide
from kubesim.kubelet.status import pod_status
from kubesim.store import open_store
from kubewire.resources import PODS

from .conftest import communicate
from .nodecluster import NodeCluster, Pod

EPHEMERAL = {"name": "debug", "image": "busybox"}


def view(policy: str = "Always", **containers: Attempt) -> PodView:
    spec = {
        "restartPolicy": policy,
        "initContainers": [{"name": "init"}],
        "containers": [{"name": "main"}],
        "ephemeralContainers": [EPHEMERAL],
    }
    known = {name: ContainerView(current=attempt) for name, attempt in containers.items()}
    return PodView(pod={"metadata": {"name": "p"}, "spec": spec}, containers=known)


RUNNING = Attempt(number=0, started_at=1.0)


def ended(code: int) -> Attempt:
    return Attempt(number=0, started_at=1.0, exit=Exit(exit_code=code, started_at=1.0, finished_at=2.0))


def test_it_is_started_even_while_the_init_containers_run() -> None:
    assert decide(view(init=RUNNING), 10.0).start == (Start(container="debug", number=0, backoff=0.0),)


@pytest.mark.parametrize("attempt", [RUNNING, ended(0), ended(1)])
def test_it_is_started_once_whatever_became_of_it(attempt: Attempt) -> None:
    assert decide(view(init=ended(0), main=RUNNING, debug=attempt), 1000.0).start == ()


def test_it_neither_keeps_a_pod_from_ending_nor_fails_it() -> None:
    finished = view("Never", init=ended(0), main=ended(0), debug=RUNNING)
    assert decide(finished, 10.0).stop == ("debug",)
    done = view("Never", init=ended(0), main=ended(0), debug=ended(137))
    status = pod_status(done, decide(done, 10.0), host_ip="127.0.0.1", now=10.0)
    assert status["phase"] == "Succeeded"
    assert [one["name"] for one in status["containerStatuses"]] == ["main"]
    (reported,) = status["ephemeralContainerStatuses"]
    assert (reported["ready"], reported["state"]["terminated"]["exitCode"]) == (False, 137)


@pytest.fixture
async def cluster(root: Path) -> AsyncIterator[NodeCluster]:
    store = open_store("memory")
    made = NodeCluster(root, store)
    await made.open()
    try:
        await made.start_kubelet()
        yield made
    finally:
        await made.close()
        await store.close()


async def debug(cluster: NodeCluster, pod: str, name: str, **container: Any) -> None:
    known = (await cluster.get(pod))["spec"].get("ephemeralContainers") or []
    change = {"spec": {"ephemeralContainers": [*known, {"name": name, "image": "busybox", **container}]}}
    await cluster.client.patch(PODS, pod, change, "default", subresource="ephemeralcontainers")


def state_of(pod: Pod, name: str) -> dict[str, Any]:
    reported = pod["status"].get("ephemeralContainerStatuses") or ()
    return next((one["state"] for one in reported if one["name"] == name), {})


@pytest.mark.anyio
async def test_it_runs_beside_the_others_and_ends_with_the_pod(cluster: NodeCluster) -> None:
    await cluster.create("p")
    await cluster.until_phase("p", "Running")
    await debug(
        cluster,
        "p",
        "d",
        command=["sh", "-c", "echo $MODE; exec sleep 1000"],
        env=[{"name": "MODE", "value": "x"}],
    )
    pod = await cluster.until_pod("p", lambda pod: "running" in state_of(pod, "d"), "d runs")
    conditions = {one["type"]: one["status"] for one in pod["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    stream = await cluster.kubelet.exec("default", "p", "d", ExecOptions(command=("sh", "-c", "echo $MODE")))
    assert await communicate(stream) == (0, b"x\n", b"")
    await stream.aclose()
    assert await cluster.logs("p", "d") == "x\n"
    await cluster.delete("p")
    await cluster.until_gone("p")  # and the fixture finds no process left


@pytest.mark.anyio
async def test_its_end_is_told_and_a_restarted_kubelet_does_not_start_it_again(cluster: NodeCluster) -> None:
    await cluster.create("p")
    await cluster.until_phase("p", "Running")
    await debug(cluster, "p", "d", command=["sh", "-c", "echo once; exit 3"])
    pod = await cluster.until_pod("p", lambda pod: "terminated" in state_of(pod, "d"), "d has ended")
    assert state_of(pod, "d")["terminated"]["exitCode"] == 3
    await cluster.stop_kubelet()
    await cluster.start_kubelet()
    await debug(cluster, "p", "later", command=["true"])
    await cluster.until_pod("p", lambda pod: "terminated" in state_of(pod, "later"), "the next one has ended")
    assert await cluster.logs("p", "d") == "once\n"
    pod = await cluster.get("p")
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.anyio
async def test_with_a_terminal_and_no_command_it_is_a_shell(cluster: NodeCluster) -> None:
    await cluster.create("p")
    await cluster.until_phase("p", "Running")
    await debug(cluster, "p", "d", stdin=True, tty=True)
    await cluster.until_pod("p", lambda pod: "running" in state_of(pod, "d"), "d runs")
    options = ExecOptions(stdin=True, tty=True)
    stream = await cluster.kubelet.attach("default", "p", "d", options)
    await stream.resize(100, 40)
    await stream.write_stdin(b"stty size; exit 4\n")
    assert b"40 100\r\n" in (await communicate(stream))[1]
    await stream.aclose()
    pod = await cluster.until_pod("p", lambda pod: "terminated" in state_of(pod, "d"), "d has ended")
    assert state_of(pod, "d")["terminated"]["exitCode"] == 4


@pytest.mark.anyio
async def test_without_a_command_it_waits_and_says_why(cluster: NodeCluster) -> None:
    await cluster.create("p")
    await debug(cluster, "p", "d")
    pod = await cluster.until_pod(
        "p", lambda pod: "message" in state_of(pod, "d").get("waiting", {}), "d waits"
    )
    assert state_of(pod, "d")["waiting"]["reason"] == "CreateContainerConfigError"
    assert "names no command" in state_of(pod, "d")["waiting"]["message"]
    await cluster.until_phase("p", "Running")
