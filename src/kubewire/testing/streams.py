"""A server for exec, attach and port-forward over WebSocket, whose far end the test writes.

    async def far_end(process: Process) -> None:
        await process.stdout(b"hello")
        await process.exit(0)

    async with stream_server(far_end) as url: ...

`Process` can also do what a server should not: exit without closing, close without exiting, send raw messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from kubewire import exec as frames

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


class Process:
    """The far end of one stream."""

    def __init__(self, websocket: ServerConnection) -> None:
        self._websocket = websocket
        request = websocket.request
        assert request is not None
        parts = urlsplit(request.path)
        self.path = parts.path
        self.query = parse_qsl(parts.query, keep_blank_values=True)
        self.headers = dict(request.headers.raw_items())
        self.protocol = websocket.subprotocol
        self.sizes: list[tuple[int, int]] = []  # of the terminal, as told

    @property
    def argv(self) -> list[str]:
        """The command line."""
        return [value for key, value in self.query if key == "command"]

    async def receive(self) -> bytes:
        """The next message as it came."""
        message = await self._websocket.recv()
        return message.encode() if isinstance(message, str) else bytes(message)

    async def send(self, message: bytes) -> None:
        """Send a message as it is."""
        await self._websocket.send(message)

    async def stdin(self) -> AsyncIterator[bytes]:
        """What is written to stdin until it is closed; sizes of the terminal are noted on the way."""
        while True:
            message = await self.receive()
            if message[0] == frames.STDIN:
                yield message[1:]
            elif message[0] == frames.RESIZE:
                size = orjson.loads(message[1:])
                self.sizes.append((size["Width"], size["Height"]))
            elif message == frames.close_frame():
                return

    async def stdout(self, data: bytes) -> None:
        """Print."""
        await self.send(bytes((frames.STDOUT,)) + data)

    async def stderr(self, data: bytes) -> None:
        """Print an error."""
        await self.send(bytes((frames.STDERR,)) + data)

    async def exit(self, code: int) -> None:
        """End the command; the connection is closed when the far end returns."""
        if code == 0:
            await self.status({"metadata": {}, "status": "Success"})
            return
        await self.status(
            {
                "metadata": {},
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "message": f"command terminated with non-zero exit code: exit status {code}",
                "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
            }
        )

    async def status(self, status: dict[str, Any]) -> None:
        """End the command with any Status."""
        await self.send(bytes((frames.ERROR,)) + orjson.dumps(status))

    async def hang(self) -> None:
        """Do nothing more until the connection is closed by the client or the test."""
        await asyncio.get_running_loop().create_future()

    def drop(self) -> None:
        """End the connection without a close frame."""
        self._websocket.transport.abort()


FarEnd = Callable[[Process], Awaitable[None]]


@contextlib.asynccontextmanager
async def stream_server(
    far_end: FarEnd, *, protocols: Sequence[str] = frames.PROTOCOLS
) -> AsyncIterator[str]:
    """A WebSocket server on 127.0.0.1; yields its URL."""
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosed
    from websockets.typing import Subprotocol

    async def handler(websocket: ServerConnection) -> None:
        async with asyncio.TaskGroup() as group:
            work = group.create_task(_until_closed(far_end(Process(websocket)), ConnectionClosed))
            gone = group.create_task(websocket.wait_closed())
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            gone.cancel()

    offered = [Subprotocol(protocol) for protocol in protocols]
    server = await serve(
        handler, "127.0.0.1", 0, subprotocols=offered, max_size=None, compression=None, close_timeout=1.0
    )
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def _until_closed(work: Awaitable[None], closed: type[Exception]) -> None:
    with contextlib.suppress(closed):
        await work
