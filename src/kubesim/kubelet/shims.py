"""Containers as the daemon handles them: start through the zygote, watch, exec, attach, stop, signal.

A container is known by the folder of its attempt (`containerfiles.py`); everything here works on any such folder, also
after a restart of the daemon. What a container's end means for its pod is not decided here.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kubesim.kubelet import aftermath, containerfiles, zygote
from kubesim.kubelet.containerfiles import Exit
from kubesim.kubelet.link import Link
from kubesim.kubelet.stream import STDERR, STDOUT, ShimStream

START_LIMIT = 10.0
TRIES = 3
ASK_LIMIT = 5.0


class ShimError(Exception):
    """The container's shim cannot be reached, or refuses."""

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code  # of a command that could not be started: 126 or 127


class Zygote:
    """The zygote of one node, started when there is none."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / zygote.FOLDER
        self._starting = asyncio.Lock()
        self._lease: Link | None = None

    async def ensure(self) -> None:
        """Have a zygote that answers. Keeps a connection, so that it does not end for lack of use."""
        async with self._starting:
            try:
                if self._lease is not None:
                    await self._lease.ask({"op": "ping"}, ASK_LIMIT)
                    return
            except (OSError, TimeoutError):
                self.close()
            try:
                self._lease = await Link.open(self._folder, zygote.SOCKET)
            except (OSError, TimeoutError):
                await asyncio.to_thread(self._launch)
                self._lease = await Link.open(self._folder, zygote.SOCKET)
            await self._lease.ask({"op": "ping"}, ASK_LIMIT)

    async def start(self, directory: Path) -> Link | None:
        """Start the container of a folder. Gives the connection to its shim, None when it ended at once.

        Safe to repeat: an attempt that runs, or has ended, is never started a second time.
        """
        for _ in range(TRIES):
            await self.ensure()
            with await Link.open(self._folder, zygote.SOCKET) as link:
                try:
                    answer = await link.ask({"op": "start", "directory": str(directory)}, START_LIMIT)
                    return link.keep() if "started" in answer else None
                except ConnectionError:
                    if await asyncio.to_thread(_was_begun, str(directory)):
                        return None  # another shim has this attempt, or it has ended
        raise ShimError("the zygote ended before it had started the container")

    def close(self) -> None:
        """Let go of the zygote; it goes on."""
        if self._lease is not None:
            self._lease.close()
            self._lease = None

    def _launch(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "kubesim.kubelet.zygote", os.path.realpath(self._root)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=START_LIMIT, check=False
        )
        if done.returncode != 0:
            reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise ShimError(
                f"the zygote did not start: {reason[-1] if reason else f'see {self._folder}/log'}"
            )


async def watch(directory: Path, link: Link | None = None) -> Exit:
    """Wait until a container has ended. When its shim was killed, what is left of the container is ended here."""
    try:
        with link or await _open_started(directory) as opened:
            opened.send({"op": "watch"})
            while True:
                message, descriptors = await opened.receive()
                for descriptor in descriptors:
                    os.close(descriptor)
                if message is None or "exit" in message:
                    break
    except (OSError, TimeoutError):
        pass  # nobody listens: it has ended, or its shim was killed; the files tell
    return await asyncio.to_thread(aftermath.settle, str(directory))


async def _open_started(directory: Path) -> Link:
    """Connect to a shim that may still be starting."""
    async with asyncio.timeout(START_LIMIT):
        while True:
            try:
                return await Link.open(directory, containerfiles.SOCKET)
            except OSError:
                if not await asyncio.to_thread(containerfiles.has_shim, str(directory)):
                    raise
                await asyncio.sleep(0.02)


async def stop(directory: Path, grace: float) -> None:
    """Ask a container to end: TERM now, KILL to all of it after `grace` seconds. Its end is seen by `watch`."""
    await _ask(directory, {"op": "stop", "grace": grace})


async def send_signal(directory: Path, number: int) -> None:
    """Signal the main process."""
    await _ask(directory, {"op": "signal", "signal": number})


async def execute(
    directory: Path,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    *,
    stdin: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    tty: bool = False,
) -> ShimStream:
    """Run a further command in a container. Raises ShimError when it cannot be started."""
    link = await _open(directory)
    far: list[int] = []
    near: list[int] = []
    try:
        if tty:
            terminal, slave = os.openpty()
            near, far = [terminal], [slave, slave, slave]
            stdin_end: int | None = terminal if stdin else None
            outputs = {STDOUT: terminal}
        else:
            terminal = None
            stdin_far, stdin_end = _input(stdin, far, near)
            outputs = {}
            ends = [stdin_far]
            for number, wanted in ((STDOUT, stdout), (STDERR, stderr)):
                ends.append(_output(number, wanted, outputs, far, near))
            far = ends
        message = {"op": "exec", "argv": list(argv), "env": dict(env), "cwd": cwd, "tty": tty}
        link.send(message, far)
        answer, _ = await link.answer(ASK_LIMIT)
        if "error" in answer:
            raise ShimError(str(answer["error"]), exit_code=answer.get("code"))
        for descriptor in near:
            os.set_blocking(descriptor, False)
        return ShimStream(link, stdin=stdin_end, outputs=outputs, terminal=terminal)
    except BaseException as error:
        for descriptor in near:
            os.close(descriptor)
        link.close()
        if isinstance(error, (OSError, TimeoutError)):
            raise ShimError(f"the container's shim did not start the command: {error}") from error
        raise
    finally:
        for descriptor in set(far):
            os.close(descriptor)


async def attach(directory: Path, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> ShimStream:
    """Follow the output of a container's main process from now on, and write to its stdin if it has one."""
    link = await _open(directory)
    far: list[int] = []
    near: list[int] = []
    received: list[int] = []
    outputs: dict[int, int] = {}
    try:
        ends = [_output(STDOUT, stdout or tty, outputs, far, near)]
        if not tty:
            ends.append(_output(STDERR, stderr, outputs, far, near))
        far = ends
        link.send({"op": "attach"}, far)
        _, received = await link.answer(ASK_LIMIT)
        way_in = received[0] if received else None
        if way_in is not None:
            os.set_blocking(way_in, False)
            if not stdin and not tty:
                os.close(way_in)
                way_in = None
        for descriptor in near:
            os.set_blocking(descriptor, False)
        return ShimStream(
            link,
            stdin=way_in if stdin else None,
            outputs=outputs,
            terminal=way_in if tty else None,
            ends_with_output=True,
        )
    except BaseException as error:
        for descriptor in [*near, *received]:
            os.close(descriptor)
        link.close()
        if isinstance(error, (OSError, TimeoutError)):
            raise ShimError(f"the container's shim did not answer: {error}") from error
        raise
    finally:
        for descriptor in set(far):
            os.close(descriptor)


def _was_begun(directory: str) -> bool:
    return containerfiles.has_shim(directory) or containerfiles.read_exit(directory) is not None


def _input(wanted: bool, far: list[int], near: list[int]) -> tuple[int, int | None]:
    if not wanted:
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        far.append(nothing)
        return nothing, None
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    far.append(read_end)
    near.append(write_end)
    return read_end, write_end


def _output(number: int, wanted: bool, outputs: dict[int, int], far: list[int], near: list[int]) -> int:
    if not wanted:
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        far.append(nothing)
        return nothing
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    far.append(write_end)
    near.append(read_end)
    outputs[number] = read_end
    return write_end


async def _open(directory: Path) -> Link:
    try:
        return await Link.open(directory, containerfiles.SOCKET)
    except (OSError, TimeoutError) as error:
        raise ShimError("the container is not running") from error


async def _ask(directory: Path, message: dict[str, object]) -> None:
    with await _open(directory) as link:
        try:
            await link.ask(message, ASK_LIMIT)
        except (OSError, TimeoutError) as error:
            raise ShimError(f"the container's shim did not answer: {error}") from error
