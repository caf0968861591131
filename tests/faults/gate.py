"""A door in front of an API server that really runs: what is behind it can be taken away while clients go through.

A context of the laboratory leads to a `Gate`. While it is open, bytes pass in both directions, TLS and all. A fault
puts something else behind it, at the same address, so that a cluster is launched on a real Kubernetes and meets the
fault afterwards, with kept-alive connections, running execs and watches open, as it happens to people.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from kubewire.testing.servers import reset

Passage = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What happens to a connection that somebody made to the gate."""
Relay = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""How bytes come from the one to the other."""

PIECE = 65536


class Gate:
    """One address on loopback, kept for the gate's whole life."""

    def __init__(self, behind: int) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))  # never listens: it only keeps the number while nobody does
        self.port: int = self._holder.getsockname()[1]
        self.accepted = 0
        self._normal: Passage = through(behind)
        self._passage = self._normal
        self._listener: asyncio.Server | None = None
        self._live: dict[asyncio.Task[None], tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, behind: int) -> AsyncIterator[Gate]:
        """A gate to a port of this machine."""
        gate = cls(behind)
        try:
            await gate._listen()
            yield gate
        finally:
            gate._shut()
            await gate._end_connections()
            gate._holder.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._live)

    @contextlib.asynccontextmanager
    async def leading(self, passage: Passage, *, silently: bool = False) -> AsyncIterator[None]:
        """New connections meet this; those that are open are reset, or `silently` never hear anything again."""
        self._passage = passage
        await self._end_connections(silently=silently)
        try:
            yield
        finally:
            self._passage = self._normal
            await self._end_connections()

    @contextlib.asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Nobody listens, and what was open is reset."""
        self._shut()
        await self._end_connections()
        try:
            yield
        finally:
            await self._listen()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def _shut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._begin(self._passage, reader, writer)

    def _begin(self, passage: Passage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_carry(passage, reader, writer), name="connection through the gate")
        self._live[task] = (reader, writer)
        task.add_done_callback(lambda done: self._ended(done, writer))

    def _ended(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        if self._live.pop(task, None) is not None:
            writer.transport.abort()

    async def _end_connections(self, *, silently: bool = False) -> None:
        before, self._live = self._live, {}
        for task in before:
            task.cancel()
        if before:
            await asyncio.wait(before)
        for reader, writer in before.values():
            if silently:
                self._begin(silence, reader, writer)
            else:
                reset(writer)
        await asyncio.sleep(0)  # aborted transports close in the next round of the loop


async def _carry(passage: Passage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, EOFError):  # one of the two sides has gone
        await passage(reader, writer)


# ------------------------------------------------------------ passages


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes whatever is sent, and never says anything."""
    while await reader.read(PIECE):
        pass


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """All bytes as they come."""
    while piece := await source.read(PIECE):
        sink.write(piece)
        await sink.drain()


async def dripping(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """One byte a second."""
    while piece := await source.read(1):
        sink.write(piece)
        await sink.drain()
        await asyncio.sleep(1)


def through(
    port: int,
    *,
    front: ssl.SSLContext | None = None,
    behind: ssl.SSLContext | None = None,
    back: Relay = pump,
) -> Passage:
    """To a port of this machine; with `front` the gate speaks TLS itself, with `behind` also with what is there."""

    async def passage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if front is not None:
            await writer.start_tls(front)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, ssl=behind)
        try:
            there = asyncio.create_task(pump(reader, far_writer), name="to the API server")
            here = asyncio.create_task(back(far_reader, writer), name="from the API server")
            try:
                await asyncio.wait((there, here), return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                here.cancel()
                await asyncio.gather(there, here, return_exceptions=True)
        finally:
            far_writer.transport.abort()

    return passage


# ------------------------------------------------------------ execs that never end

_ERROR_CHANNEL = 3
_CLOSE = 8


class Endless:
    """What an API server says on a WebSocket, without its end: neither the command's status nor a close frame."""

    def __init__(self) -> None:
        self._buffer = b""
        self._is_websocket: bool | None = None
        self._withheld = False  # the message of which a fragment was withheld

    def feed(self, data: bytes) -> bytes:
        """What of it may pass."""
        if self._is_websocket is False:
            return data
        self._buffer += data
        passed = b""
        if self._is_websocket is None:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return b""
            self._is_websocket = head.startswith(b"HTTP/1.1 101")
            passed, self._buffer = head + separator, rest
            if not self._is_websocket:
                passed, self._buffer = passed + rest, b""
        while frame := self._frame():
            passed += frame if self._may_pass(frame) else b""
        return passed

    def _frame(self) -> bytes:
        """The next whole frame; empty when there is none."""
        size, start = _extent(self._buffer)
        if start is None or len(self._buffer) < start + size:
            return b""
        frame, self._buffer = self._buffer[: start + size], self._buffer[start + size :]
        return frame

    def _may_pass(self, frame: bytes) -> bool:
        opcode = frame[0] & 0x0F
        if opcode == 0:  # goes on with the message before
            return not self._withheld
        _, start = _extent(frame)
        self._withheld = opcode == _CLOSE or (opcode == 2 and frame[start:][:1] == bytes((_ERROR_CHANNEL,)))
        return not self._withheld


def _extent(buffer: bytes) -> tuple[int, int | None]:
    """The payload's size and where it begins (RFC 6455, 5.2; what a server sends has no mask)."""
    if len(buffer) < 2:
        return 0, None
    short = buffer[1] & 0x7F
    extra = {126: 2, 127: 8}.get(short, 0)
    if len(buffer) < 2 + extra:
        return 0, None
    return (int.from_bytes(buffer[2 : 2 + extra]) if extra else short), 2 + extra


async def without_end(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Everything passes but the end of what a WebSocket carries; then nothing, for as long as the client stays."""
    endless = Endless()
    while piece := await source.read(PIECE):
        sink.write(endless.feed(piece))
        await sink.drain()
    if endless._is_websocket:
        await asyncio.get_running_loop().create_future()
