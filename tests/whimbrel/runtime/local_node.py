"""A Node whose exec is a process on this machine, with a home of its own and the shell that is under test."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from whimbrel.model.errors import NodeLost

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def make_path(folder: Path, shell: str, *, without: Sequence[str] = ()) -> str:
    """A folder for PATH in which `sh` is `shell`; for busybox everything else is busybox too, and no bash."""
    folder.mkdir(parents=True)
    if shell == "busybox":
        busybox = shutil.which("busybox")
        assert busybox
        applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
        for name in applets:
            if name not in ("busybox", *without):
                (folder / name).symlink_to(busybox)
        return str(folder)
    (folder / "sh").symlink_to(str(shutil.which(shell)))
    if not without:
        return f"{folder}:/usr/bin:/bin"
    for place in ("/usr/bin", "/bin"):
        for tool in Path(place).iterdir():
            link = folder / tool.name
            if tool.name not in without and not link.is_symlink():
                link.symlink_to(tool)
    return str(folder)


class LocalStream:
    """An ExecStream over a process' pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def write(self, data: bytes) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(data)
            await self.process.stdin.drain()
        except ConnectionError as error:
            raise NodeLost("the process does not read") from error

    async def close_stdin(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        queue: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()

        async def pump(kind: int, reader: asyncio.StreamReader | None) -> None:
            assert reader
            while piece := await reader.read(65536):
                queue.put_nowait((kind, piece))
            queue.put_nowait(None)

        pumps = [
            asyncio.create_task(pump(1, self.process.stdout)),
            asyncio.create_task(pump(2, self.process.stderr)),
        ]
        try:
            open_ends = 2
            while open_ends:
                item = await queue.get()
                if item is None:
                    open_ends -= 1
                else:
                    yield item
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def exit_code(self) -> int:
        return await self.process.wait()


class LocalNode:
    """`breaks` decides, before each exec, after how many bytes of output its stream breaks (None: never)."""

    def __init__(self, home: Path, path: str, name: str = "node-0") -> None:
        self.home = home
        self.path = path
        self._name = name
        self.execs = 0
        self.break_after: list[int | None] = []
        self.streams: list[LocalStream] = []

    @property
    def name(self) -> str:
        return self._name

    @asynccontextmanager
    async def exec(
        self, argv: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> AsyncIterator[LocalStream]:
        assert not tty
        self.execs += 1
        broken = self.break_after.pop(0) if self.break_after else None
        process = await asyncio.create_subprocess_exec(
            str(Path(self.path.split(":")[0]) / argv[0]),
            *argv[1:],
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(self.home), "PATH": self.path},
            cwd=self.home,
            start_new_session=True,
        )
        stream = LocalStream(process) if broken is None else BreakingStream(process, broken)
        self.streams.append(stream)
        try:
            yield stream
        finally:
            if process.stdin:
                process.stdin.close()
            try:
                async with asyncio.timeout(0.5):  # a command that has said its last word ends by itself
                    await process.wait()
            except TimeoutError:
                process.kill()  # the exec'd shell only: what it has started goes on, as with a kubelet
                await process.wait()
            process._transport.close()  # type: ignore[attr-defined] # pipes that children still hold open


class BreakingStream(LocalStream):
    """Delivers `after` bytes of output, then breaks as a connection does."""

    def __init__(self, process: asyncio.subprocess.Process, after: int) -> None:
        super().__init__(process)
        self.left = after

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        if self.left <= 0:
            raise NodeLost("the connection was reset")
        async for kind, piece in super().output():
            yield kind, piece[: self.left]
            self.left -= len(piece)
            if self.left <= 0:
                raise NodeLost("the connection was reset")

    async def exit_code(self) -> int:
        raise NodeLost("the connection was reset")


def processes_of(home: Path) -> list[int]:
    """Every live process whose environment or command line names this home."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(") ")[2][0]
        except OSError:
            continue
        if str(home).encode() in text and state != "Z":
            found.append(int(entry.name))
    return found


def kill_all(home: Path) -> None:
    """What a test may have left behind."""
    for pid in processes_of(home):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
