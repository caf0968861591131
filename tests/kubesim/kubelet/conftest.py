"""Real processes in a short-lived node folder, and the proof after each test that none of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from kubesim.kubelet import containerfiles, proc, shims, teardown
from kubesim.kubelet.containerfiles import Spec, State
from kubesim.kubelet.link import Link
from kubesim.kubelet.stream import ShimStream

DEADLINE = 20.0


@pytest.fixture
def root() -> Iterator[Path]:
    """A node's folder. Whatever runs below it is ended; what cannot be ended, or outlives its shim, fails the test."""
    path = Path(os.path.realpath(tempfile.mkdtemp(prefix="w", dir="/tmp")))
    try:
        yield path
        assert teardown.stop_all(path, grace=0.0) == []
        assert proc.marked(str(path)) == []
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Box:
    """Containers without pods: what shims do, seen from the daemon."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.zygote = shims.Zygote(root)
        self.links: list[Link] = []

    def prepare(self, name: str, *argv: str, env: Mapping[str, str] | None = None, **options: bool) -> Path:
        directory = self.root / "pods" / "u1" / "containers" / name / "0"
        directory.mkdir(parents=True)
        environment = {"PATH": os.environ["PATH"], **(env or {})}
        spec = Spec(argv=list(argv), env=environment, cwd=str(self.root), **options)
        containerfiles.write_json(str(directory / containerfiles.SPEC), spec.to_json())
        return directory

    async def start(
        self, name: str, *argv: str, env: Mapping[str, str] | None = None, **options: bool
    ) -> Path:
        directory = self.prepare(name, *argv, env=env, **options)
        link = await self.zygote.start(directory)
        if link is not None:
            self.links.append(link)
        return directory

    async def execute(self, directory: Path, *argv: str, **options: bool) -> ShimStream:
        env = {"PATH": os.environ["PATH"]}
        return await shims.execute(directory, argv, env, str(self.root), **options)

    async def run(
        self, directory: Path, *argv: str, data: bytes | None = None, tty: bool = False
    ) -> tuple[int, bytes, bytes]:
        """Run a command to its end: exit code, stdout, stderr."""
        stream = await self.execute(directory, *argv, stdin=data is not None, tty=tty)
        try:
            return await communicate(stream, data)
        finally:
            await stream.aclose()

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.zygote.close()


async def communicate(stream: ShimStream, data: bytes | None = None) -> tuple[int, bytes, bytes]:
    """Write and read at the same time, to the end."""
    pieces: dict[int, list[bytes]] = {1: [], 2: []}

    async def write() -> None:
        if data is not None:
            await stream.write_stdin(data)
            await stream.close_stdin()

    async with asyncio.timeout(DEADLINE):
        writing = asyncio.ensure_future(write())
        async for number, piece in stream.output():
            pieces[number].append(piece)
        code = await stream.exit_code()
        await writing
    return code, b"".join(pieces[1]), b"".join(pieces[2])


@pytest.fixture
async def box(root: Path) -> AsyncIterator[Box]:
    made = Box(root)
    try:
        yield made
    finally:
        made.close()


async def eventually(condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
    """Wait until something is so."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        await asyncio.sleep(0.01)


def running_state(directory: Path) -> State:
    """Who runs a container."""
    state = containerfiles.read_state(str(directory))
    assert state is not None
    return state


def log_text(directory: Path) -> str:
    """What a container has printed, without the format of the log."""
    with contextlib.suppress(FileNotFoundError):
        lines = (directory / containerfiles.LOG).read_text().splitlines()
        return "".join(
            line.split(" ", 3)[3] + ("\n" if line.split(" ", 3)[2] == "F" else "") for line in lines
        )
    return ""
