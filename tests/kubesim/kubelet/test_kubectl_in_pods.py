"""kubectl with pods that run: windows, attaching, copying and debugging, over WebSockets and over SPDY."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import struct
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from kubesim.apiserver.serve import TlsFiles, serve
from kubesim.store import open_store
from kubewire.testing import Authority

from .conftest import DEADLINE
from .nodecluster import NodeCluster

KUBECTL = shutil.which("kubectl")
pytestmark = [pytest.mark.anyio, pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")]


class Terminal:
    """kubectl at a terminal whose window can change."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen = b""
        self._master = master

    def resize(self, rows: int, columns: int) -> None:
        set_size(self._master, rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    def write(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def until(self, text: bytes) -> None:
        """Wait until this is on the screen."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._master, changed.set)
        try:
            async with asyncio.timeout(DEADLINE):
                while text not in self.seen:
                    await changed.wait()
                    changed.clear()
                    with contextlib.suppress(BlockingIOError):
                        self.seen += os.read(self._master, 65536)
        except (OSError, TimeoutError):
            pytest.fail(f"{text!r} is not in {self.seen!r}")
        finally:
            loop.remove_reader(self._master)

    async def exit_code(self) -> int:
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


class Kubectl:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._env = {
            "KUBECONFIG": str(home / "config"),
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "TERM": "xterm",
        }

    def without_websockets(self) -> None:
        self._env |= {
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false",
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false",
        }

    async def __call__(self, *argv: str, stdin: bytes = b"") -> tuple[int, str]:
        """Run a command to its end: exit code, and all that it printed."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            str(KUBECTL),
            *argv,
            env=self._env,
            cwd=self._home,
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with killed_at_the_end(process), asyncio.timeout(DEADLINE):
            out, _ = await process.communicate(stdin)
        return process.returncode or 0, out.decode()

    @contextlib.asynccontextmanager
    async def at_a_terminal(self, *argv: str) -> AsyncIterator[Terminal]:
        master, slave = os.openpty()
        os.set_blocking(master, False)
        set_size(master, 24, 80)
        process = await asyncio.create_subprocess_exec(
            str(KUBECTL), *argv, env=self._env, cwd=self._home, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        try:
            async with killed_at_the_end(process):
                yield Terminal(master, process)
        finally:
            os.close(master)


@contextlib.asynccontextmanager
async def killed_at_the_end(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def set_size(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


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


@pytest.fixture(params=["websockets", "spdy"])
async def kubectl(
    request: pytest.FixtureRequest, cluster: NodeCluster, tmp_path: Path
) -> AsyncIterator[Kubectl]:
    authority = Authority()
    server, admin = authority.server("127.0.0.1"), authority.client("admin", "system:masters")
    files = {"ca.crt": authority.certificate, "server.crt": server.certificate, "server.key": server.key}
    files |= {"admin.crt": admin.certificate, "admin.key": admin.key}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    tls = TlsFiles(
        certificate=tmp_path / "server.crt", key=tmp_path / "server.key", client_ca=tmp_path / "ca.crt"
    )
    serving = await serve(cluster.api, tls=tls)
    address = {"server": f"https://127.0.0.1:{serving.port}", "certificate-authority": "ca.crt"}
    user = {"client-certificate": "admin.crt", "client-key": "admin.key"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": address}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    made = Kubectl(tmp_path)
    if request.param == "spdy":
        made.without_websockets()
    yield made
    await serving.stop()


async def test_a_pod_is_worked_with(cluster: NodeCluster, kubectl: Kubectl, tmp_path: Path) -> None:
    """One pod for all, because each costs a second."""
    await cluster.create("p", "exec cat", container={"stdin": True, "stdinOnce": True})
    await cluster.until_phase("p", "Running")
    await the_window_of_exec_has_a_size_that_changes(kubectl)
    await files_and_folders_are_copied_both_ways(kubectl, tmp_path)
    await debug_gives_a_shell(kubectl)
    await attach_reaches_the_main_process(kubectl)
    await cluster.until_phase("p", "Succeeded")  # its only input has ended


async def the_window_of_exec_has_a_size_that_changes(kubectl: Kubectl) -> None:
    # The command may run before its window has a size, as everywhere; then the trap tells of it.
    script = "trap 'stty size' WINCH; trap 'exit 3' INT; stty size; while :; do sleep 0.05; done"
    async with kubectl.at_a_terminal("exec", "-it", "p", "--", "sh", "-c", script) as terminal:
        await terminal.until(b"24 80\r\n")
        terminal.resize(50, 132)
        await terminal.until(b"50 132\r\n")
        terminal.write("\x03")
        assert await terminal.exit_code() == 3


async def files_and_folders_are_copied_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "data").write_bytes(data)
    (tmp_path / "folder" / "run").write_text("#!/bin/sh\n")
    (tmp_path / "folder" / "run").chmod(0o755)
    assert await kubectl("cp", "folder", "p:there") == (0, "")
    assert (await kubectl("exec", "p", "--", "sh", "-c", "wc -c < there/inner/data"))[1] == "1000000\n"
    assert await kubectl("cp", "p:there", "back") == (0, "")
    assert (tmp_path / "back" / "inner" / "data").read_bytes() == data
    assert (await kubectl("exec", "p", "--", "test", "-x", "there/run"))[0] == 0


async def attach_reaches_the_main_process(kubectl: Kubectl) -> None:
    code, said = await kubectl("attach", "-i", "p", stdin=b"to cat\n")
    assert (code, "to cat\n" in said) == (0, True)


async def debug_gives_a_shell(kubectl: Kubectl) -> None:
    command = ("debug", "-it", "p", "--image=busybox", "--target=main", "-c", "d", "--profile=general")
    async with kubectl.at_a_terminal(*command) as terminal:
        await terminal.until(b"try pressing enter")
        terminal.write("echo $((6*7)) is it; stty size; exit\r")
        await terminal.until(b"42 is it\r\n24 80\r\n")
        assert await terminal.exit_code() == 0
    code, said = await kubectl("logs", "p", "-c", "d")
    assert (code, "42 is it" in said) == (0, True)
