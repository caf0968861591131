"""`kubesim fault` against clusters of flesh and blood: what real clients see, and that no fault blocks its commands."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kubesim.cluster.daemonfile import read_daemon_file
from kubesim.cluster.errors import FaultNotFound, InvalidOption, RuntimeUnavailable
from kubesim.cluster.exitcodes import ExitCode
from kubesim.cluster.home import ClusterPaths, Home
from kubesim.faults import Faults
from kubesim.kubelet.aftermath import wait_gone
from kubewire.errors import Unreachable
from kubewire.opening import open_client
from kubewire.resources import NAMESPACES

pytestmark = pytest.mark.anyio

LIMIT = 60.0
KUBECTL = shutil.which("kubectl")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Its environment is the one that the `home` fixture has set."""
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def kubesim(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "kubesim", *arguments)


def do(*arguments: str) -> str:
    done = kubesim(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def paths(home: Home) -> Iterator[ClusterPaths]:
    """The cluster `c`, in memory; nothing of it is left."""
    do("create", "cluster", "--name", "c", "--store", "memory")
    yield home.cluster("c")
    kubesim("delete", "cluster", "--name", "c", "--force")


async def test_a_fault_is_added_listed_and_removed_by_commands(paths: ClusterPaths) -> None:
    added = kubesim(
        "fault", "add", "status", "--code", "503", "--resource", "podz", "--for", "1h", "--name", "c"
    )
    assert (added.returncode, added.stdout) == (0, "status-1\n")
    assert added.stderr == (
        "Warning: nothing that is served now is called 'podz'.\n"
        "It ends by itself in 3600 s, or with: kubesim fault remove status-1 --name c\n"
    )
    table = do("fault", "list", "--name", "c").splitlines()
    assert table[0].split() == ["ID", "STATE", "STRUCK", "LEFT", "FAULT", "REQUESTS"]
    assert table[1].startswith("status-1  active  0")
    assert table[1].endswith("resources=podz")
    (listed,) = json.loads(do("fault", "list", "--name", "c", "--json"))
    assert (listed["id"], listed["parameters"]["code"], listed["resources"]) == ("status-1", 503, ["podz"])
    do("fault", "remove", "status-1", "--name", "c")
    assert json.loads(do("fault", "list", "--name", "c", "--json")) == []
    assert kubesim("fault", "remove", "status-1", "--name", "c").returncode == ExitCode.NOT_FOUND
    refused = kubesim("fault", "add", "cut", "--name", "c")
    assert refused.returncode == ExitCode.INVALID
    assert "--events 10 or --after 30s" in refused.stderr
    assert stat.S_IMODE(paths.control.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["partition", "refuse", "hang"])
async def test_a_cluster_that_answers_nobody_is_still_in_the_hands_of_its_commands(
    paths: ClusterPaths, kind: str
) -> None:
    with Faults.of("c").inject(kind):
        async with open_client("kubesim-c") as client:
            with pytest.raises(Unreachable):
                await client.version()
        (found,) = json.loads(do("get", "clusters", "--json"))
        assert (found["status"], found["problems"]) == ("Running", [])
    async with open_client("kubesim-c") as client:
        assert await client.version()
    do("fault", "add", kind, "--name", "c")
    assert "Deleted" in kubesim("delete", "cluster", "--name", "c").stderr
    assert not paths.root.exists()


async def test_faults_end_with_the_daemon_however_it_ends(paths: ClusterPaths) -> None:
    faults = Faults.of("c")
    faults.add("refuse")
    daemon = read_daemon_file(paths.daemon)
    assert daemon is not None
    daemon.process.send(signal.SIGKILL)
    assert wait_gone([daemon.process], 10) == []
    with pytest.raises(RuntimeUnavailable, match="does not run"):
        faults.list()
    do("start", "cluster", "--name", "c", "--wait", "30s")
    assert faults.list() == []
    async with open_client("kubesim-c") as client:
        assert (await client.list(NAMESPACES)).items
    faults.add("hang")
    do("stop", "cluster", "--name", "c")
    assert not paths.control.exists()


async def test_a_certificate_that_is_not_to_be_trusted_is_not_trusted(paths: ClusterPaths) -> None:
    faults = Faults.of("c")
    for how, words in (("expired", "expired"), ("wrong-name", "127.0.0.1"), ("untrusted", "local issuer")):
        with faults.inject("certificate", how=how):
            async with open_client("kubesim-c") as client:
                with pytest.raises(Unreachable, match=words):
                    await client.version()
    async with open_client("kubesim-c") as client:
        assert await client.version()


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
async def test_kubectl_meets_faults_and_another_client_does_not(paths: ClusterPaths) -> None:
    assert KUBECTL is not None
    get = (KUBECTL, "--context", "kubesim-c", "get", "--raw", "/api/v1/namespaces/default")
    with Faults.of("c").inject("status", code=503, retry_after=0, user_agents=["kubectl"]) as fault:
        refused = run(*get)
        assert refused.returncode == 1
        assert "the server is currently unable to handle the request" in refused.stderr
        async with open_client("kubesim-c") as client:
            assert await client.get(NAMESPACES, "default")
        assert Faults.of("c").get(fault.id).struck >= 1
    with Faults.of("c").inject("certificate", how="expired"):
        assert "certificate has expired" in run(*get).stderr
    with Faults.of("c").inject("refuse"):
        assert "refused" in run(*get).stderr
    assert run(*get).returncode == 0


async def test_what_is_no_request_does_the_daemon_no_harm(paths: ClusterPaths) -> None:
    faults = Faults.of("c")
    for nonsense in (
        b"",
        b"\n",
        b"[]\n",
        b'{"command": 5}\n',
        b'{"command": "fault.add", "arguments": [1]}\n',
        b"\xff\n",
    ):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(paths.control))
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            assert "error" in json.loads(connection.recv(65536))
    with pytest.raises(InvalidOption):
        faults.add("nothing")
    with pytest.raises(FaultNotFound):
        faults.remove("hang-9")
    assert faults.list() == []
