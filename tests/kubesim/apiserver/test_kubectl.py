"""The real kubectl against the real server: TLS, client certificates, discovery, tables, apply, streams."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.serve import TlsFiles, serve
from kubewire.client import Client
from kubewire.resources import PODS
from kubewire.testing import Authority

from .conftest import FakeNode, pod

KUBECTL = shutil.which("kubectl")
pytestmark = [pytest.mark.anyio, pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Kubectl:
    def __init__(self, kubeconfig: Path, home: Path) -> None:
        self._env = {"KUBECONFIG": str(kubeconfig), "HOME": str(home), "PATH": "/usr/bin:/bin"}

    def without_websockets(self) -> None:
        """From now on speak as kubectl did before 1.31, and as client-go's SPDY executor still does."""
        self._env |= {
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false",
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false",
        }

    async def start(self, *argv: str, stdin: bool = False) -> asyncio.subprocess.Process:
        assert KUBECTL is not None
        return await asyncio.create_subprocess_exec(
            KUBECTL,
            *argv,
            env=self._env,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *argv: str, stdin: bytes | None = None) -> Result:
        process = await self.start(*argv, stdin=stdin is not None)
        try:
            async with asyncio.timeout(40):
                out, err = await process.communicate(stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Result(process.returncode or 0, out.decode(), err.decode())

    async def __call__(self, *argv: str, stdin: bytes | None = None) -> str:
        result = await self.run(*argv, stdin=stdin)
        assert result.code == 0, result.err
        return result.out


@pytest.fixture
async def kubectl(api: ApiServer, tmp_path: Path) -> AsyncIterator[Kubectl]:
    authority = Authority()
    server, admin = authority.server("127.0.0.1"), authority.client("admin", "system:masters")
    files = {
        "ca.crt": authority.certificate,
        "server.crt": server.certificate,
        "server.key": server.key,
        "admin.crt": admin.certificate,
        "admin.key": admin.key,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    tls = TlsFiles(
        certificate=tmp_path / "server.crt", key=tmp_path / "server.key", client_ca=tmp_path / "ca.crt"
    )
    serving = await serve(api, tls=tls)
    kubeconfig = tmp_path / "config"
    cluster = {
        "server": f"https://127.0.0.1:{serving.port}",
        "certificate-authority": str(tmp_path / "ca.crt"),
    }
    user = {"client-certificate": str(tmp_path / "admin.crt"), "client-key": str(tmp_path / "admin.key")}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        )
    )
    yield Kubectl(kubeconfig, tmp_path)
    await serving.stop()


MANIFEST = b"""
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: demo}}
data: {mode: fast}
"""


async def test_create_get_and_delete(kubectl: Kubectl) -> None:
    assert "configmap/a created" in await kubectl("create", "configmap", "a", "--from-literal=k=v")
    assert "a " in await kubectl("get", "configmaps")
    shown = json.loads(await kubectl("get", "cm", "a", "-o", "json"))
    assert shown["data"] == {"k": "v"}
    assert "name: a" in await kubectl("get", "cm", "a", "-o", "yaml")
    assert "deleted" in await kubectl("delete", "cm", "a")
    missing = await kubectl.run("get", "cm", "a")
    assert missing.code == 1
    assert missing.err.strip() == 'Error from server (NotFound): configmaps "a" not found'


async def test_apply_both_ways_and_explain(kubectl: Kubectl) -> None:
    assert "settings created" in await kubectl("apply", "-f", "-", stdin=MANIFEST)
    changed = MANIFEST.replace(b"fast", b"slow")
    assert "settings configured" in await kubectl("apply", "-f", "-", stdin=changed)
    assert "settings unchanged" in await kubectl("apply", "-f", "-", stdin=changed)
    conflicting = await kubectl.run("apply", "--server-side", "-f", "-", stdin=MANIFEST)
    assert "conflict" in conflicting.err
    forced = await kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=MANIFEST)
    assert "serverside-applied" in forced
    assert "data" in await kubectl("explain", "configmap")
    typo = await kubectl.run("apply", "-f", "-", stdin=MANIFEST.replace(b"\ndata:", b"\ndta:"))
    assert 'unknown field "dta"' in typo.err


async def test_pods_on_nodes_are_shown_with_the_columns_of_kubectl(kubectl: Kubectl, node: FakeNode) -> None:
    wide = (await kubectl("get", "pods", "-o", "wide")).splitlines()
    assert wide[0].split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert wide[1].split()[:3] == ["p", "0/1", "Pending"]
    assert "Unknown" in await kubectl("get", "nodes")
    assert "Node:" in await kubectl("describe", "pod", "p")
    resources = await kubectl("api-resources")
    assert "deployments" in resources
    assert "yes" in await kubectl("auth", "can-i", "create", "pods")
    assert (await kubectl.run("auth", "can-i", "create", "pods", "--as=ann")).out == "no\n"


async def test_an_unknown_kind_is_named(kubectl: Kubectl) -> None:
    frob = b"apiVersion: v1\nkind: Frob\nmetadata: {name: f}\n"
    result = await kubectl.run("create", "-f", "-", stdin=frob)
    assert 'no matches for kind "Frob" in version "v1"' in result.err


async def test_logs_come_from_the_kubelet(kubectl: Kubectl, node: FakeNode) -> None:
    assert await kubectl("logs", "p", "--tail=2") == "line 1\nline 2\n"


@pytest.mark.parametrize("transport", ["websockets", "spdy"])
async def test_exec_and_attach_go_through_to_the_kubelet(
    kubectl: Kubectl, node: FakeNode, transport: str
) -> None:
    if transport == "spdy":
        kubectl.without_websockets()
    assert await kubectl("attach", "p") == "attached\n"
    assert await kubectl("exec", "p", "--", "say", "hello", "there") == "hello there\n"
    data = bytes(range(10)) * 100
    assert (await kubectl("exec", "-i", "p", "--", "cat", stdin=data)).encode() == data
    refused = await kubectl.run("exec", "p", "--", "missing")
    assert 'container "main" is not running' in refused.err
    failed = await kubectl.run("exec", "p", "--", "fail", "7")
    assert failed.code == 7
    assert "failing" in failed.err


@pytest.mark.parametrize("transport", ["websockets", "spdy"])
async def test_ports_are_forwarded_for_many_connections(
    kubectl: Kubectl, node: FakeNode, local: Client, transport: str
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.read()  # to the end: a half-closed connection passes as one
        writer.write(said.upper())
        writer.close()

    async def ask(port: int, said: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        writer.write_eof()
        answered = await reader.read()
        writer.close()
        return answered

    if transport == "spdy":
        kubectl.without_websockets()
    await local.patch(PODS, "p", {"status": {"phase": "Running"}}, "default", subresource="status")
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    remote = server.sockets[0].getsockname()[1]
    forwarding = await kubectl.start("port-forward", "pod/p", f":{remote}", "--address=127.0.0.1")
    assert forwarding.stdout is not None
    assert forwarding.stderr is not None
    try:
        async with asyncio.timeout(30):
            line = (await forwarding.stdout.readline()).decode()
            assert line.startswith("Forwarding from 127.0.0.1:"), line
            port = int(line.split()[2].rpartition(":")[2])
            said = [bytes([letter]) * 100_000 for letter in b"abcdefgh"]
            async with server:
                answers = await asyncio.gather(*(ask(port, one) for one in said))
            assert answers == [one.upper() for one in said]
            assert await ask(port, b"nobody listens any more") == b""
            assert b"connection refused" in await forwarding.stderr.read()
    finally:
        if forwarding.returncode is None:
            forwarding.terminate()
        await forwarding.communicate()


async def test_following_a_log_shows_lines_as_they_come(kubectl: Kubectl, node: FakeNode) -> None:
    following = await kubectl.start("logs", "-f", "p")
    assert following.stdout is not None
    async with asyncio.timeout(20):
        assert await following.stdout.readline() == b"line 1\n"
        assert await following.stdout.readline() == b"line 2\n"
        following.terminate()
        await following.wait()
        await node.follow_ended.wait()


async def test_watching_shows_changes_as_they_happen(kubectl: Kubectl, local: Client) -> None:
    await local.create(PODS, pod("p"), "default")
    watching = await kubectl.start("get", "pods", "-w", "--no-headers")
    assert watching.stdout is not None
    async with asyncio.timeout(30):
        assert (await watching.stdout.readline()).split()[:3] == [b"p", b"0/1", b"Pending"]
        await local.patch(PODS, "p", {"status": {"phase": "Failed"}}, "default", subresource="status")
        assert (await watching.stdout.readline()).split()[:3] == [b"p", b"0/1", b"Failed"]
        watching.terminate()
        await watching.wait()


async def test_a_pod_is_waited_for_until_its_deletion_is_done(kubectl: Kubectl, local: Client) -> None:
    await local.create(PODS, pod("p", nodeName="n"), "default")
    deleting = await kubectl.start("delete", "pod", "p")
    async with asyncio.timeout(30):
        async for event in local.watch(PODS, "default"):
            if event.type == "MODIFIED" and event.object["metadata"].get("deletionTimestamp"):
                break
        await local.delete(PODS, "p", "default", grace_period=0)
        assert await deleting.wait() == 0
