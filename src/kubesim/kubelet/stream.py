"""A running command as the API server sees it: stdin, output, size and exit code of an exec or attach.

The daemon reads the pipes (or the terminal) of the command itself; the shim only says when the command has ended. The
order of things is kept here: everything that the command wrote is given out before its exit code. Who still holds the
pipes after the command has ended is waited for while he is in its session, as a real container runtime would; who has
left it (setsid) is not.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import termios
from collections.abc import AsyncIterator

from kubesim.kubelet.link import Link

PIECE = 64 << 10
LARGEST_BACKLOG = 1 << 20
SETTLE = 0.02
"""Seconds after a command's end in which its pipes usually end too; after that its shim is asked who holds them."""
STDOUT = 1
STDERR = 2
_END_OF_TRANSMISSION = b"\x04"
_KILLED = 137  # what becomes of a command that is let go of before its end


class _Outlet:
    """The near end of one pipe; it is read only as long as the backlog has room."""

    def __init__(self, number: int, descriptor: int) -> None:
        self.number = number
        self.descriptor = descriptor
        self.watched = False
        self.open = True


class ShimStream:
    """Implements `kubesim.apiserver.nodes.ProcessStream`."""

    def __init__(
        self,
        link: Link,
        *,
        stdin: int | None,
        outputs: dict[int, int],
        terminal: int | None = None,
        ends_with_output: bool = False,
    ) -> None:
        self._link = link
        self._stdin = stdin
        self._terminal = terminal
        self._ends_with_output = ends_with_output  # attach: there is no exit code but success
        self._outlets = [_Outlet(number, descriptor) for number, descriptor in outputs.items()]
        self._backlog: list[tuple[int, bytes]] = []
        self._backlog_size = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._quiet = False
        self._closed = False
        self._exhausted = False
        self._listener = asyncio.create_task(self._listen(), name="exec: listen to the shim")
        self._listener.add_done_callback(lambda _: link.close())  # also when it never got to its first step
        self._watch()

    # --- what the API server calls ---

    async def write_stdin(self, data: bytes) -> None:
        """Pass input on; waits while the command does not read. What nobody reads any more is dropped."""
        view = memoryview(data)
        while view and self._stdin is not None:
            try:
                view = view[os.write(self._stdin, view[:PIECE]) :]
            except BlockingIOError:
                await self._wait_for_room(self._stdin)
            except OSError:
                await self.close_stdin()

    async def close_stdin(self) -> None:
        """End of input. On a terminal that is Ctrl-D."""
        if self._stdin is None:
            return
        if self._terminal is not None:
            try:
                os.write(self._terminal, _END_OF_TRANSMISSION)
            except OSError:
                pass  # nobody reads from it any more
        self._close_stdin()
        if self._ends_with_output:
            self._tell("eof")

    async def resize(self, width: int, height: int) -> None:
        """The size of the client's window."""
        if self._terminal is not None and not self._closed:
            size = struct.pack("HHHH", max(0, height) & 0xFFFF, max(0, width) & 0xFFFF, 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Pieces of output in the order of their arrival, until the command has ended and all is given out."""
        while True:
            while self._backlog:
                batch, self._backlog, self._backlog_size = self._backlog, [], 0
                self._watch()
                for number, data in batch:
                    yield number, data
            if self._closed or self._is_complete():
                break
            self._changed.clear()
            if not self._backlog:
                await self._wait_for_change()
        self._exhausted = True

    async def exit_code(self) -> int:
        """The exit code; 128 + N for signal N. Raises ConnectionError when the container's shim was killed."""
        return await asyncio.shield(self._code)

    async def aclose(self) -> None:
        """Release everything. A command whose output was not taken to its end is killed by its shim."""
        if self._closed:
            return
        self._closed = True
        if self._exhausted and self._code.done():
            self._tell("leave")
        self._listener.cancel()
        self._release()  # before the first await: who closes this may itself be cancelled
        await asyncio.gather(self._listener, return_exceptions=True)

    # --- inside ---

    def _release(self) -> None:
        loop = asyncio.get_running_loop()
        for outlet in self._outlets:
            if outlet.watched:
                loop.remove_reader(outlet.descriptor)
            if outlet.descriptor != self._terminal:
                os.close(outlet.descriptor)
        self._close_stdin()
        if self._terminal is not None:
            os.close(self._terminal)
        if not self._code.done():
            self._code.set_result(_KILLED)
        self._code.exception()  # seen: nobody may have asked
        self._changed.set()

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            asyncio.get_running_loop().remove_writer(self._stdin)
            if self._stdin != self._terminal:
                os.close(self._stdin)
        self._stdin = None
        self._room.set()

    async def _wait_for_room(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        self._room.clear()
        loop.add_writer(descriptor, self._room.set)
        try:
            await self._room.wait()
        finally:
            if self._stdin is not None:
                loop.remove_writer(descriptor)

    async def _listen(self) -> None:
        while True:
            message, descriptors = await self._link.receive()
            for descriptor in descriptors:
                os.close(descriptor)
            if message is None:
                break
            if "exit" in message and not self._code.done():
                self._code.set_result(int(message["exit"]))
            if message.get("quiet"):
                self._quiet = True
            self._changed.set()
        self._quiet = True
        if not self._code.done():
            if self._ends_with_output:
                self._code.set_result(0)
            else:
                self._code.set_exception(
                    ConnectionResetError(
                        errno.ECONNRESET, "the container ended before the command's exit code was known"
                    )
                )
        self._changed.set()

    def _is_complete(self) -> bool:
        if not any(outlet.open for outlet in self._outlets):
            return self._code.done() or (self._ends_with_output and bool(self._outlets))
        if not (self._quiet and self._code.done()):
            return False
        for outlet in self._outlets:  # nobody who matters writes any more: take what is there
            self._read(outlet)
        return not self._backlog

    async def _wait_for_change(self) -> None:
        if not self._code.done() or self._quiet or self._closed or self._ends_with_output:
            await self._changed.wait()
            return
        try:
            async with asyncio.timeout(SETTLE):
                await self._changed.wait()
        except TimeoutError:
            self._tell("quiet")
            await self._changed.wait()

    def _tell(self, operation: str) -> None:
        try:
            self._link.send({"op": operation})
        except OSError:
            self._quiet = True  # the shim has gone; `_listen` sees the same

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        for outlet in self._outlets:
            if outlet.open and not outlet.watched and not self._closed:
                loop.add_reader(outlet.descriptor, self._read, outlet)
                outlet.watched = True

    def _read(self, outlet: _Outlet) -> None:
        if not outlet.open or self._closed:
            return
        try:
            data = os.read(outlet.descriptor, PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal without anybody at its other end
        if data:
            self._backlog.append((outlet.number, data))
            self._backlog_size += len(data)
        else:
            outlet.open = False
        if outlet.watched and (not outlet.open or self._backlog_size >= LARGEST_BACKLOG):
            self._unwatch()
        self._changed.set()

    def _unwatch(self) -> None:
        loop = asyncio.get_running_loop()
        full = self._backlog_size >= LARGEST_BACKLOG
        for outlet in self._outlets:
            if outlet.watched and (full or not outlet.open):
                loop.remove_reader(outlet.descriptor)
                outlet.watched = False
