"""The whole way on the embedded Kubernetes: real pods, real exec streams, a real kubeconfig."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    directory = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("KUBESIM_HOME", str(directory / "kubesim"))
    monkeypatch.setenv("KUBECONFIG", str(directory / "kubeconfig"))
    server = Server(directory, real=True)
    server.start()
    yield server
    server.close()
    command = [sys.executable, "-m", "kubesim", "delete", "cluster", "--name", "local", "--force"]
    subprocess.run(command, capture_output=True, timeout=60)
    assert processes_below(directory) == []
    shutil.rmtree(directory)


def processes_below(directory: Path) -> list[str]:
    """The command lines of processes that live in this directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if str(directory).encode() in (entry / "cmdline").read_bytes():
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
    return found


def test_a_launch_on_nothing_survives_the_servers_death_and_goes_down_again(server: Server) -> None:
    setup = "echo begun; until [ -e ~/go ]; do sleep 0.05; done"
    request = server.launch("c1", "echo rank $WHIMBREL_NODE_RANK", num_nodes=2, setup=setup)
    server.until_events(request, "(rank 1) begun")
    server.kill()
    server.start()
    pods = server.world.root.parent / "kubesim"
    for home in pods.rglob("home/.whimbrel"):
        (home.parent / "go").touch()
    assert server.output_of(request) == {"cluster": "c1", "job_id": 1}
    text, end = server.logs("c1")
    assert sorted(text.splitlines()) == ["(rank 0) rank 0", "(rank 1) rank 1"]
    assert end["exit_codes"] == [0, 0]
    assert server.get("clusters?refresh=1")["errors"] == []
    (check,) = server.http.call("POST", "/api/v1/check", {"infra": None})["results"]
    assert (check["infra"], check["usable"]) == ("k8s/kubesim-local", True)
    done = server.output_of(server.post("clusters/c1/down", {"purge": False})["request_id"])
    assert done["outcome"] == "removed"
    assert server.logs("c1", "latest")[0] == text
    server.output_of(server.launch("c2", "sleep 600"))
    closed = server.output_of(server.post("local/down", {})["request_id"])
    assert closed["closed"] == ["c2"]
    assert server.get("clusters")["clusters"] == []


def test_a_kubernetes_that_was_killed_refuses_down_and_a_purge_forgets(server: Server) -> None:
    server.output_of(server.launch("c1", "echo up; sleep 600"))
    home = Path(os.environ["KUBESIM_HOME"])
    command = [sys.executable, "-m", "kubesim", "stop", "cluster", "--name", "local"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert home.exists()
    began = time.monotonic()
    error = server.end_of(server.post("clusters/c1/down", {"purge": False})["request_id"])["error"]
    assert time.monotonic() - began < 10
    assert error["code"] == "Unreachable"
    assert "--purge" in error["remedy"]
    assert [cluster["name"] for cluster in server.get("clusters")["clusters"]] == ["c1"]
    output = server.output_of(server.post("clusters/c1/down", {"purge": True})["request_id"])
    assert output["outcome"] == "forgotten"
    assert output["left"]
    assert server.get("clusters")["clusters"] == []
