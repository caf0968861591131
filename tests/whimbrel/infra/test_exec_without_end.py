"""An exec stream whose bytes have all come and whose end never does wedges nothing: the end is known by more than EOF.

The far end is a real shell behind a real WebSocket that misbehaves when the shell has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubewire.testing import Process, stream_server
from whimbrel.infra.base import ClusterSpec, Node
from whimbrel.infra.kubernetes.contexts import Contexts
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.infra.kubernetes.settings import KubernetesSettings
from whimbrel.model.errors import NodeLost
from whimbrel.runtime.conversation import run

from .conftest import KUBECONFIG

pytestmark = pytest.mark.anyio

After = Callable[[Process], Awaitable[None]]


def shell(after: After) -> Callable[[Process], Awaitable[None]]:
    """A far end that runs the command that is asked for, and then does what it should not."""

    async def far_end(process: Process) -> None:
        command = await asyncio.create_subprocess_exec(
            *process.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert command.stdin
        assert command.stdout
        assert command.stderr

        async def feed() -> None:
            async for data in process.stdin():
                command.stdin.write(data)

        async def tell(source: asyncio.StreamReader, say: Callable[[bytes], Awaitable[None]]) -> None:
            while data := await source.read(65536):
                await say(data)

        feeding = asyncio.create_task(feed(), name="stdin of the shell")
        try:
            await asyncio.gather(tell(command.stdout, process.stdout), tell(command.stderr, process.stderr))
            await command.wait()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            command.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                command.kill()
            await command.wait()
        await after(process)

    return far_end


async def say_nothing_more(process: Process) -> None:
    """No Status, no close frame, no end of the connection."""
    await process.hang()


async def end_without_status(process: Process) -> None:
    """The connection ends, and how the command ended is not said."""


async def drop(process: Process) -> None:
    """The connection is cut."""
    process.drop()


async def keep_open_after_status(process: Process) -> None:
    """Says how it ended, and stays."""
    await process.exit(0)
    await process.hang()


@asynccontextmanager
async def node_behind(after: After, folder: Path, spec: ClusterSpec) -> AsyncIterator[Node]:
    """A node whose exec streams end like that."""
    async with stream_server(shell(after)) as url:
        path = folder / "kubeconfig"
        path.write_text(KUBECONFIG.replace("http://127.0.0.1:1", url))
        infra = KubernetesInfra(
            "fake", Contexts([path]), KubernetesSettings(command=["sh"], namespace="default")
        )
        try:
            yield infra.node(spec, 0)
        finally:
            await infra.aclose()


@pytest.mark.parametrize("after", [say_nothing_more, end_without_status, drop, keep_open_after_status])
async def test_all_that_was_printed_and_the_exit_code_are_known_however_the_stream_ends(
    after: After, tmp_path: Path, one: ClusterSpec
) -> None:
    async with node_behind(after, tmp_path, one) as node, asyncio.timeout(10):
        result = await run(node, "cat; echo end >&2; exit 3", data=b"x" * 300_000, timeout=8)
    assert (result.exit_code, len(result.stdout), result.stderr) == (3, 300_000, b"end\n")


async def test_many_streams_without_an_end_are_all_left_behind(tmp_path: Path, one: ClusterSpec) -> None:
    async with node_behind(say_nothing_more, tmp_path, one) as node, asyncio.timeout(20):
        results = await asyncio.gather(*(run(node, f"echo {n}", timeout=15) for n in range(20)))
    assert [int(result.stdout) for result in results] == list(range(20))


async def test_a_stream_that_ends_before_its_command_is_not_taken_for_done(
    tmp_path: Path, one: ClusterSpec
) -> None:
    async with node_behind(end_without_status, tmp_path, one) as node, asyncio.timeout(10):
        with pytest.raises(NodeLost, match="ended before the command did"):
            await run(node, "echo half; kill -9 $$", timeout=8)
