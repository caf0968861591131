"""Commands in containers: the frames of the remote-command protocol, and a session over a channel.

Each message of the WebSocket starts with a byte that says which stream it belongs to. v5 can also close stdin; v4,
spoken by servers before Kubernetes 1.30, cannot. The end of a command is the Status on the error stream, not the end
of the connection: a connection that stays open after it is left behind, one that ends before it is an error.
Reading and writing may (and for more than a little data must) happen in two tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import orjson

from kubewire.errors import NotSupported, StreamBroken
from kubewire.requests import JsonObject, status_error
from kubewire.transport import Channel

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE = 255

MAX_FRAME = 128 * 1024
"""Stdin is sent in pieces of at most this size, so that neither side buffers much."""

LINGER = 2.0
"""How long output may still arrive after the command's Status: streams are not ordered among each other."""


def data_frames(data: bytes, stream: int = STDIN) -> Iterator[bytes]:
    """The messages that carry `data`."""
    head = bytes((stream,))
    view = memoryview(data)
    for start in range(0, len(view), MAX_FRAME):
        yield head + view[start : start + MAX_FRAME]


def close_frame(stream: int = STDIN) -> bytes:
    """The message that closes a stream (v5)."""
    return bytes((CLOSE, stream))


def resize_frame(width: int, height: int) -> bytes:
    """The message that tells the terminal's size."""
    return bytes((RESIZE,)) + orjson.dumps({"Width": width, "Height": height})


def parse_frame(message: bytes) -> tuple[int, bytes]:
    """The stream and the data of a message."""
    if not message:
        return STDOUT, b""  # some servers send an empty message first
    return message[0], message[1:]


def exit_code_of(status: JsonObject) -> int:
    """The exit code in the Status that ends a command. Raises the `ApiError` when there was no command to end."""
    if status.get("status") == "Success":
        return 0
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes if isinstance(causes, list) else ():
        if isinstance(cause, dict) and cause.get("reason") == "ExitCode":
            try:
                return int(str(cause.get("message")))
            except ValueError:
                break
    raise status_error(status)


class ExecSession:
    """One running command. Its methods satisfy whimbrel's `ExecStream`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._status: JsonObject | None = None
        self._ended = False

    @property
    def protocol(self) -> str:
        """v5.channel.k8s.io or v4.channel.k8s.io."""
        return self._channel.protocol

    async def write(self, data: bytes) -> None:
        """Send to stdin; waits while the other side does not read, at most the idle bound (`StreamBroken`)."""
        for frame in data_frames(data):
            await self._channel.send(frame)

    async def close_stdin(self) -> None:
        """End of stdin. Raises `NotSupported` where the server speaks only v4."""
        if self.protocol != V5:
            raise NotSupported(
                f"the server speaks {self.protocol or 'an unnamed protocol'}, which cannot close stdin",
                remedy="Kubernetes 1.30 or newer can; or let the command know the length of its input.",
            )
        await self._channel.send(close_frame())

    async def resize(self, width: int, height: int) -> None:
        """Tell the terminal's size."""
        await self._channel.send(resize_frame(width, height))

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Pieces of output as (1 stdout or 2 stderr, bytes) until the command has ended."""
        while not self._ended:
            stream, data = await self._next()
            if stream in (STDOUT, STDERR) and data:
                yield stream, data
            elif stream == ERROR and data:
                self._take_status(data)

    async def exit_code(self) -> int:
        """The exit code; reads and drops what output is left. Raises `StreamBroken` when the connection ended before
        the command did, and the server's `ApiError` when the command could not be run at all."""
        async for _ in self.output():
            pass
        if self._status is None:
            raise StreamBroken("the connection ended before the command did; how it ended is not known")
        return exit_code_of(self._status)

    async def _next(self) -> tuple[int, bytes]:
        """The next frame; after the end of the command an empty one, at the latest after the linger time."""
        message: bytes | None
        if self._status is None:
            message = await self._channel.receive()
        else:
            try:
                async with asyncio.timeout(LINGER):
                    message = await self._channel.receive()
            except (TimeoutError, StreamBroken):
                message = None  # the Status has come: how the connection ends does not matter any more
        if message is None:
            self._ended = True
            return ERROR, b""
        return parse_frame(message)

    def _take_status(self, data: bytes) -> None:
        try:
            status = orjson.loads(data)
        except orjson.JSONDecodeError:
            status = None
        if not isinstance(status, dict):
            raise StreamBroken("the server ended the command with something that is no Status")
        self._status = status
