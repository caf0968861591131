"""Servers on loopback for tests: raw TCP, and a small HTTP/1.1 on top whose answers the test writes.

When the context is left, every connection and task of the server is gone. They speak just enough HTTP for a
well-behaved client; how a server can misbehave is in `faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

_LAST_ROUNDS = (
    5  # of the event loop, in which connections that were just accepted arrive, and all of them close
)

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """A running server."""

    url: str
    port: int
    connections: int = 0  # accepted so far
    requests: list[Received] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes
    peer_certificate: Mapping[str, Any] | None = None

    def one(self, name: str) -> str | None:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), None)

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


class Exchange:
    """One request and the means to answer it, properly or not."""

    def __init__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self._writer = writer
        self.reusable = False  # whether another request may follow on this connection

    async def reply(
        self, status: int = 200, body: Any = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer completely; what is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        kind = "text/plain" if isinstance(body, bytes) else "application/json"
        await self._head(status, {"content-type": kind, "content-length": str(len(data)), **(headers or {})})
        await self.raw(data)
        self.reusable = True

    async def start(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Answer with a body that comes in chunks."""
        await self._head(status, {"transfer-encoding": "chunked", **(headers or {})})

    async def chunk(self, data: bytes) -> None:
        """Send one chunk."""
        await self.raw(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end(self) -> None:
        """End a body that comes in chunks."""
        await self.raw(b"0\r\n\r\n")
        self.reusable = True

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def hang(self) -> None:
        """Send nothing more until the client or the test ends the connection."""
        await asyncio.get_running_loop().create_future()

    def reset(self) -> None:
        """End the connection with a reset."""
        reset(self._writer)

    async def _head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))


Handler = Callable[[Exchange], Awaitable[None]]


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a TCP reset instead of an orderly end."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def tcp_server(behave: Behaviour, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on 127.0.0.1 that treats each connection as `behave` says."""
    tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            await behave(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.transport.abort() if writer.is_closing() else writer.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not listener.is_serving():
            writer.transport.abort()
            return
        task = asyncio.create_task(connected(reader, writer), name="kubewire test connection")
        tasks[task] = writer
        task.add_done_callback(lambda done: tasks.pop(done, None))

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server = Server(url=f"{'https' if tls else 'http'}://127.0.0.1:{port}", port=port)
    try:
        yield server
    finally:
        listener.close()
        open_ones = dict(tasks)
        for task in open_ones:
            task.cancel()
        if open_ones:
            await asyncio.wait(open_ones)
        for writer in open_ones.values():
            writer.transport.abort()  # also of a connection whose task was cancelled before its first step
        for _ in range(_LAST_ROUNDS):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def http_server(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """An HTTP/1.1 server on 127.0.0.1 that answers as `handler` says; `requests` is what it was asked."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reusable = True
        while reusable:
            received = await _receive(reader, writer)
            if received is None:
                return
            server.requests.append(received)
            exchange = Exchange(received, writer)
            await handler(exchange)
            reusable = exchange.reusable and not writer.is_closing()

    async with tcp_server(behave, tls=tls) as server:
        yield server


async def _receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in filter(None, lines):
        name, value = line.split(":", 1)
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    tls_object = writer.get_extra_info("ssl_object")
    return Received(
        method=method,
        path=unquote(parts.path),
        query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
        headers=headers,
        body=body,
        peer_certificate=tls_object.getpeercert() if tls_object is not None else None,
    )
