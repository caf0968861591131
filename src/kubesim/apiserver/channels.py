"""exec, attach and port forwarding on the wire: several byte streams in one WebSocket (`v5.channel.k8s.io`,
`v4.channel.k8s.io`).

Each message starts with the number of its channel. The end of the command is a Status on the error channel;
version 5 adds a message by which the client closes stdin. Reading and writing run side by side: a command
that writes a lot before it reads must not stop the one, nor the other way round. The older transport is in `spdy/`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

import orjson

from kubesim.apiserver.nodes import ExecOptions, ProcessStream
from kubesim.apiserver.requests import JsonObject

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
EXEC_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
PORT_FORWARD_PROTOCOLS = ("v4.channel.k8s.io", "portforward.k8s.io", "")
SPDY = "SPDY/3.1+"
"""Before the name of a protocol: its streams are SPDY's, inside the messages."""
_BLOCK = 32 * 1024


class Messages(Protocol):
    """A connected WebSocket."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes | None: ...


class Socket(Messages, Protocol):
    """A WebSocket that may not have been accepted yet."""

    @property
    def accepted(self) -> bool: ...

    async def accept(self, protocol: str) -> None: ...


def choose(offered: list[str], known: tuple[str, ...]) -> str | None:
    """The first of the client's protocols that is known here; a client that offers none speaks the protocol without a
    name ("") where there is one, as kr8s does for ports."""
    if not offered:
        return "" if "" in known else None
    return next((protocol for protocol in offered if protocol in known), None)


def exit_status(code: int) -> JsonObject:
    """The end of a command as the error channel tells it."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


async def run_process(socket: Messages, stream: ProcessStream, options: ExecOptions) -> None:
    """Carry a command's streams until it has ended or the client is gone."""
    first = STDOUT if options.stdout else STDERR if options.stderr else ERROR
    await socket.send(bytes([first]))  # an empty message: the command is running
    try:
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(_from_client(socket, stream, options), name="exec stdin")
            await _to_client(socket, stream, options)
            reader.cancel()
    finally:
        await stream.aclose()


async def _to_client(socket: Messages, stream: ProcessStream, options: ExecOptions) -> None:
    wanted = {STDOUT: options.stdout, STDERR: options.stderr and not options.tty}
    async for channel, data in stream.output():
        if wanted.get(channel):
            for start in range(0, len(data), _BLOCK):
                await socket.send(bytes([channel]) + data[start : start + _BLOCK])
    code = await stream.exit_code()
    await socket.send(bytes([ERROR]) + orjson.dumps(exit_status(code)))


async def _from_client(socket: Messages, stream: ProcessStream, options: ExecOptions) -> None:
    while (message := await socket.receive()) is not None:
        if not message:
            continue
        channel, data = message[0], message[1:]
        if channel == STDIN and options.stdin:
            if data:
                await stream.write_stdin(data)
        elif channel == RESIZE and options.tty:
            await resize(stream, data)
        elif channel == CLOSE and data[:1] == bytes([STDIN]) and options.stdin:
            await stream.close_stdin()
    # The client is gone: what the command still writes goes nowhere.
    await stream.aclose()


async def resize(stream: ProcessStream, data: bytes) -> None:
    """Take over the size of the client's window."""
    try:
        size = orjson.loads(data)
        width, height = int(size["Width"]), int(size["Height"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return  # kubectl sends nothing else; a malformed size is not worth ending a session for
    await stream.resize(width, height)


class _Port:
    """One forwarded port: two channels, each of which begins with the port's number."""

    def __init__(self, socket: Messages, data_channel: int, port: int) -> None:
        self._socket = socket
        self._data = bytes([data_channel])
        self._error = bytes([data_channel + 1])
        self.port = port
        self.writer: asyncio.StreamWriter | None = None

    async def begin(self) -> None:
        number = self.port.to_bytes(2, "little")
        await self._socket.send(self._data + number)
        await self._socket.send(self._error + number)

    async def fail(self, message: str) -> None:
        await self._socket.send(self._error + message.encode())

    async def pump(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_BLOCK):
            await self._socket.send(self._data + data)


class Dial(Protocol):
    async def __call__(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...


async def forward_ports(socket: Messages, ports: list[int], dial: Dial) -> None:
    """Carry connections into a pod, one per port, until the client is gone or all of them have ended."""
    forwards = {2 * number: _Port(socket, 2 * number, port) for number, port in enumerate(ports)}
    writers: list[asyncio.StreamWriter] = []
    try:
        async with asyncio.TaskGroup() as group:
            pumps = []
            for forward in forwards.values():
                await forward.begin()
                try:
                    reader, forward.writer = await dial(forward.port)
                except OSError as error:
                    await forward.fail(f"error forwarding port {forward.port}: {error}")
                    continue
                writers.append(forward.writer)
                pumps.append(group.create_task(forward.pump(reader), name=f"port {forward.port}"))
            client = group.create_task(_to_ports(socket, forwards), name="ports from the client")
            await _all_ended(pumps, client)
            for task in (*pumps, client):
                task.cancel()
    finally:
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()


async def _all_ended(pumps: list[asyncio.Task[None]], client: asyncio.Task[None]) -> None:
    """Return when the client has gone, or when every connection into the pod has ended."""
    open_pumps = set(pumps)
    while open_pumps:
        done, _ = await asyncio.wait({*open_pumps, client}, return_when=asyncio.FIRST_COMPLETED)
        if client in done:
            return
        open_pumps -= done


async def _to_ports(socket: Messages, forwards: dict[int, _Port]) -> None:
    while (message := await socket.receive()) is not None:
        forward = forwards.get(message[0]) if message else None
        if forward is None or forward.writer is None:
            continue
        forward.writer.write(message[1:])
        await forward.writer.drain()
