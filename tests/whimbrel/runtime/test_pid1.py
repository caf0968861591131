"""The command of a node: it makes the places, waits, and ends its jobs in order when the node ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from whimbrel.runtime.pid1 import node_command
from whimbrel.runtime.spool import JobFiles

from .driving import start_job
from .local_node import LocalNode, LocalStream, eventually

pytestmark = pytest.mark.anyio


PATIENCE = "3 * w_ticks"  # for jobs that ignore TERM; the tests have less


@pytest.fixture
async def pid1(node: LocalNode) -> AsyncIterator[LocalStream]:
    """The running command, ready."""
    option, text = node_command()[1:]
    assert PATIENCE in text
    argv = [str(Path(node.path.split(":")[0]) / "sh"), option, text.replace(PATIENCE, "w_ticks")]
    stream = LocalStream(argv, {"HOME": str(node.home), "PATH": node.path}, node.home)
    async with asyncio.timeout(10):
        async for _, piece in stream.output():
            assert b"ready" in piece
            break
    yield stream
    stream.process.kill()
    await stream.close()


async def ended(stream: LocalStream) -> int:
    """The exit code, with a bound."""
    async with asyncio.timeout(10):
        return await stream.exit_code()


async def test_it_makes_the_places(node: LocalNode, pid1: LocalStream) -> None:
    assert (node.home / "whimbrel_workdir").is_dir()
    assert (node.home / "sky_workdir").is_symlink()
    assert (node.home / ".whimbrel/jobs").is_dir()
    assert (node.home / ".whimbrel").stat().st_mode & 0o077 == 0


async def test_term_ends_it_at_once_when_there_is_nothing_to_do(pid1: LocalStream) -> None:
    pid1.process.send_signal(signal.SIGTERM)
    assert await ended(pid1) == 0


async def test_term_reaches_the_jobs_and_waits_for_what_they_write(
    node: LocalNode, pid1: LocalStream
) -> None:
    script = "trap 'sleep 0.2; echo saved >$HOME/saved; exit 0' TERM\necho up >$HOME/up\nwhile :; do sleep 0.05; done\n"
    await start_job(node, JobFiles(id="1", script=script))
    await eventually((node.home / "up").exists)
    pid1.process.send_signal(signal.SIGTERM)
    assert await ended(pid1) == 0
    assert (node.home / "saved").read_text() == "saved\n"


async def test_a_job_that_ignores_term_does_not_keep_it(node: LocalNode, pid1: LocalStream) -> None:
    await start_job(node, JobFiles(id="1", script="trap '' TERM\nwhile :; do sleep 0.05; done\n"))
    pid1.process.send_signal(signal.SIGTERM)
    assert await ended(pid1) == 0


def test_the_command_fits_into_a_pod() -> None:
    command = node_command()
    assert command[:2] == ["sh", "-c"]
    assert len(command[2]) < 8000
