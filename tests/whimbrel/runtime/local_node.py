"""A Node whose exec is a process on this machine, with a home of its own and the shell that is under test."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from whimbrel.model.errors import InfraRefused, NodeLost

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def make_path(folder: Path, shell: str, *, without: Sequence[str] = ()) -> str:
    """A folder for PATH in which `sh` is `shell`; for busybox everything else is busybox too, and no bash."""
    folder.mkdir(parents=True)
    if shell == "busybox":
        busybox = shutil.which("busybox")
        assert busybox
        applets = subprocess.run(
            [busybox, "--list"], capture_output=True, text=True, check=True
        ).stdout.split()
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
    """An ExecStream over a process' pipes. (asyncio's own subprocesses wait for the pipes of grandchildren too.)"""

    def __init__(self, argv: Sequence[str], env: dict[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
            bufsize=0,
        )
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self._stdin = self.process.stdin.fileno()
        self._outputs = {self.process.stdout.fileno(): 1, self.process.stderr.fileno(): 2}
        for fd in (self._stdin, *self._outputs):
            os.set_blocking(fd, False)

        self._queue: asyncio.Queue[int] = asyncio.Queue()

        self.endless = False

    def snap(self) -> None:
        """Break now, as a connection does."""
        self._queue.put_nowait(-1)

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await self._ready(self._stdin, writing=True)
            except BrokenPipeError as error:
                raise NodeLost("the process does not read") from error

    async def close_stdin(self) -> None:
        if self.endless:
            raise InfraRefused("the server cannot close stdin")
        assert self.process.stdin
        self.process.stdin.close()

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        queue = self._queue
        loop = asyncio.get_running_loop()
        for fd in self._outputs:
            loop.add_reader(fd, queue.put_nowait, fd)
        left = set(self._outputs)
        try:
            while left:
                fd = await queue.get()
                if fd < 0:
                    raise NodeLost("the connection was reset")
                try:
                    piece = os.read(fd, 65536) if fd in left else b"-"
                except BlockingIOError:
                    continue
                if not piece:
                    left.discard(fd)
                    loop.remove_reader(fd)
                elif fd in left:
                    yield self._outputs[fd], piece
        finally:
            for fd in self._outputs:
                loop.remove_reader(fd)

    async def exit_code(self) -> int:
        return await self._ended()

    async def _ended(self) -> int:
        if self.process.poll() is None:
            pidfd = os.pidfd_open(self.process.pid)
            try:
                await self._ready(pidfd)
            finally:
                os.close(pidfd)
        return self.process.wait()

    async def close(self) -> None:
        """End the exec'd shell only: what it has started goes on, as with a kubelet."""
        assert self.process.stdin
        self.process.stdin.close()
        try:
            async with asyncio.timeout(0.5):  # a command that has said its last word ends by itself
                await self._ended()
        except TimeoutError:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()

    @staticmethod
    async def _ready(fd: int, *, writing: bool = False) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        add, remove = (
            (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
        )
        add(fd, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            remove(fd)


class LocalNode:
    """`breaks` decides, before each exec, after how many bytes of output its stream breaks (None: never)."""

    def __init__(self, home: Path, path: str, name: str = "node-0") -> None:
        self.home = home
        self.path = path
        self._name = name
        self.execs = 0
        self.break_after: list[int | None] = []
        self.streams: list[LocalStream] = []
        self.endless = False  # as a server below Kubernetes 1.30: stdin has no end

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
        words = [str(Path(self.path.split(":")[0]) / argv[0]), *argv[1:]]
        env = {"HOME": str(self.home), "PATH": self.path}
        kind = LocalStream if broken is None else BreakingStream
        stream = kind(words, env, self.home)
        if isinstance(stream, BreakingStream):
            stream.left = broken or 0
        stream.endless = self.endless
        self.streams.append(stream)
        try:
            yield stream
        finally:
            await stream.close()


class BreakingStream(LocalStream):
    """Delivers `left` bytes of output, then breaks as a connection does."""

    left = 0

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


async def eventually(check: Callable[[], bool]) -> None:
    """Wait, with a bound, for what another process does."""
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 # other processes set no events
            await asyncio.sleep(0.02)


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
