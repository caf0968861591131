"""The infrastructure, the server or the command dies at the worst moment; repeating the command finishes the work."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.house import House, eventually, read_until
from kubewire.opening import open_client
from kubewire.resources import PODS
from whimbrel.client.home import process_start_time


def _kubeconfig(path: Path, context: str, server: str) -> None:
    path.write_text(
        "apiVersion: v1\nkind: Config\n"
        f"current-context: {context}\n"
        f"clusters: [{{name: {context}, cluster: {{server: '{server}'}}}}]\n"
        f"contexts: [{{name: {context}, context: {{cluster: {context}, user: {context}}}}}]\n"
        f"users: [{{name: {context}, user: {{token: t}}}}]\n"
    )


@contextmanager
def _silent_endpoint() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    server = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
        for connection in held:
            connection.close()


def _pods(house: House) -> list[str]:
    """Names of all pods of the local Kubernetes."""

    async def names() -> list[str]:
        async with open_client("kubesim-local", paths=[house.root / "kubeconfig"]) as client:
            return [pod["metadata"]["name"] for pod in (await client.list(PODS)).items]

    return asyncio.run(names())


def _jobs(house: House, cluster: str) -> dict[int, str]:
    listed = house.json("queue", cluster)["clusters"][0]["jobs"]
    return {job["id"]: job["status"] for job in listed}


@pytest.mark.parametrize("moment", ["embedded Kubernetes", "creating 1 node", "setting up", "is queued"])
def test_a_launch_survives_kill_9_of_the_server(fresh_house: House, moment: str) -> None:
    """Whatever it was doing: the next server finishes the launch, once."""
    house = fresh_house
    task = house.root / "task.yaml"
    counter = house.root / "counter"
    task.write_text(
        f"setup: |\n  echo setting up; sleep 1\nrun: |\n  echo started >> {counter}\n  echo done\n"
    )
    with house.popen("whim", "launch", "-c", "c1", "-y", "-d", str(task)) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if moment.lower() in line.lower() or "queued" in line or moment == "launching":
                break
        os.kill(house.server_pid, signal.SIGKILL)
        house.whim("api", "start")
        process.wait(60)
        assert process.returncode == 0
    eventually(lambda: _jobs(house, "c1") == {1: "SUCCEEDED"}, "the job has succeeded")
    assert house.whim("logs", "c1", "1") == "done\n"
    assert counter.read_text() == "started\n"


def test_repeating_a_launch_after_kill_9_of_the_command_finishes_the_work(house: House) -> None:
    """The request goes on without its client; the same command again runs on the same cluster."""
    with house.popen("whim", "launch", "-c", "retry", "-y", "echo first") as process:
        eventually(
            lambda: "retry" in [c["name"] for c in house.json("status")["clusters"]], "the launch is recorded"
        )
        process.kill()
    assert house.whim("launch", "-c", "retry", "-y", "echo second").endswith("second\n")
    eventually(lambda: set(_jobs(house, "retry").values()) == {"SUCCEEDED"}, "both jobs have ended")
    assert house.whim("logs", "retry", "1") == "first\n"
    house.whim("down", "-y", "retry")


def test_two_launches_of_one_name_at_once_make_one_cluster(house: House) -> None:
    """The second waits for the first, and then uses its cluster."""
    with (
        house.popen("whim", "launch", "-c", "twin", "-y", "echo a") as one,
        house.popen("whim", "launch", "-c", "twin", "-y", "echo b") as two,
    ):
        assert {one.communicate(timeout=60)[0], two.communicate(timeout=60)[0]} == {"a\n", "b\n"}
        assert (one.returncode, two.returncode) == (0, 0)
    assert len([name for name in _pods(house) if name.startswith("twin-")]) == 1
    assert _jobs(house, "twin") == {1: "SUCCEEDED", 2: "SUCCEEDED"}
    house.whim("down", "-y", "twin")


def test_a_log_stream_survives_sigterm_and_restart_of_the_server(fresh_house: House) -> None:
    """The server is gone in 3 s; the command waits, goes on with the next server, and loses no line."""
    house = fresh_house
    count = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; sleep 0.1; done"
    house.whim("launch", "-c", "c1", "-y", "-d", count, timeout=90)
    with house.popen("whim", "logs", "c1", "1") as process:
        seen = read_until(process, "line 3")
        pid = house.server_pid
        os.kill(pid, signal.SIGTERM)
        start = time.monotonic()
        eventually(lambda: process_start_time(pid) is None, "the server has ended", seconds=3)
        assert time.monotonic() - start < 3
        house.whim("api", "start")
        rest, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert seen + rest == "".join(f"line {number}\n" for number in range(1, 41))


def test_a_running_job_survives_kill_9_of_kubesim(fresh_house: House) -> None:
    """Processes outlive the daemon and are adopted; the job's log is complete."""
    house = fresh_house
    count = "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i; sleep 0.1; done"
    house.whim("launch", "-c", "c1", "-y", "-d", count, timeout=90)
    eventually(lambda: _jobs(house, "c1")[1] == "RUNNING", "the job runs")
    (daemon,) = [line for line in house.processes() if "kubesim.cluster.daemon" in line]
    pids = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and house._mine(entry) == daemon
    ]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert house.run("kubesim", "start", "cluster", "--name", "local").returncode == 0
    printed = house.whim("logs", "c1", "1")
    assert printed == "".join(f"line {number}\n" for number in range(1, 31))
    assert _jobs(house, "c1") == {1: "SUCCEEDED"}


def test_a_stuck_server_is_replaced(fresh_house: House) -> None:
    """It accepts and never answers: the next command ends that process and starts another."""
    house = fresh_house
    house.whim("api", "start")
    stuck = house.server_pid
    os.kill(stuck, signal.SIGSTOP)
    house.whim("status", timeout=30)
    assert house.server_pid != stuck
    assert process_start_time(stuck) is None


def test_a_cluster_whose_context_is_gone_is_kept_by_down_and_forgotten_by_purge(fresh_house: House) -> None:
    """Incident 1: refuses within its deadline, says what to do; purge always works, and says what may be left."""
    house = fresh_house
    house.whim("launch", "-c", "c1", "-y", "true", timeout=90)
    kubeconfig = house.root / "kubeconfig"
    kept = kubeconfig.read_text()
    _kubeconfig(kubeconfig, "another", "https://127.0.0.1:1")
    errors = house.fails("down", "-y", "c1", code=6, timeout=15)
    assert "kubesim-local" in errors
    assert "--purge" in errors
    assert [cluster["name"] for cluster in house.json("status")["clusters"]] == ["c1"]
    done = house.run("whim", "down", "-y", "--purge", "c1", timeout=15)
    assert done.returncode == 0, done.stderr
    assert "c1-" in done.stderr
    assert house.json("status")["clusters"] == []
    kubeconfig.write_text(kept)


def test_a_silent_api_endpoint_costs_only_who_names_it(fresh_house: House) -> None:
    """Incident 2: every command on it ends within 15 s with a clear error; everything else is as quick as before."""
    house = fresh_house
    house.whim("launch", "-c", "c1", "-y", "--infra", "local", "true", timeout=90)
    local = (house.root / "kubeconfig").read_text()
    with _silent_endpoint() as port:
        _kubeconfig(house.root / "silent", "silent", f"https://127.0.0.1:{port}")
        house.env["KUBECONFIG"] = f"{house.root}/silent:{house.root}/kubeconfig"
        assert local == (house.root / "kubeconfig").read_text()
        errors = house.fails("launch", "-c", "c2", "-y", "--infra", "k8s/silent", "true", code=6, timeout=15)
        assert "silent" in errors
        start = time.monotonic()
        done = house.run("whim", "check", timeout=15)
        assert time.monotonic() - start < 10
        assert "k8s/kubesim-local" in done.stdout
        assert "did not answer" in done.stderr + done.stdout or "no answer" in done.stderr + done.stdout
        with house.popen("whim", "launch", "-c", "c2", "-y", "--infra", "k8s/silent", "true"):
            assert house.whim("exec", "c1", "echo quick", timeout=10) == "quick\n"
            assert [c["name"] for c in house.json("status")["clusters"] if c["status"] == "UP"] == ["c1"]


def test_exec_on_a_dead_kubernetes_says_so_and_launch_revives_it(fresh_house: House) -> None:
    """The daemon of the embedded Kubernetes is dead: `exec` ends at once with the way out, `launch` just works."""
    house = fresh_house
    house.whim("launch", "-c", "c1", "-y", "true", timeout=90)
    for entry in Path("/proc").iterdir():
        if "kubesim.cluster.daemon" in house._mine(entry):
            os.kill(int(entry.name), signal.SIGKILL)
    errors = house.fails("exec", "c1", "true", code=6, timeout=15)
    assert "whim local up" in errors
    done = house.run("whim", "status", "-r", timeout=15)
    assert done.returncode == 6
    assert "c1" in done.stderr
    assert "Traceback" not in done.stderr
    assert house.whim("launch", "-c", "c1", "-y", "echo again") == "again\n"
