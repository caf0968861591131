"""A plain HTTP upgrade to SPDY/3.1, shown to the application as the WebSocket that it could have been.

kubectl before 1.31, and every program that uses client-go's SPDY executor, asks for exec, attach and portforward in
this way. After the upgrade the connection carries the very bytes that newer clients put into the messages of a
WebSocket, so there is one application for both: a name NAME in X-Stream-Protocol-Version is the subprotocol
SPDY/3.1+NAME. What is asked and answered is ASGI's `websocket` scope; who may ask is not decided here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from kubesim.apiserver.channels import SPDY

TOKEN = b"spdy/3.1"
MOST_UNREAD = 256 << 10
"""Bytes that wait for the application before the connection is no longer read."""

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


def websocket_scope(scope: MutableMapping[str, Any]) -> dict[str, Any]:
    """The scope of the upgrade request as that of a WebSocket."""
    names = [
        value.decode("latin-1") for name, value in scope["headers"] if name == b"x-stream-protocol-version"
    ]
    offered = [SPDY + name.strip() for line in names for name in line.split(",") if name.strip()]
    return {**scope, "type": "websocket", "subprotocols": offered}


class SpdyUpgrade(asyncio.Protocol):
    """The connection from the upgrade request on."""

    def __init__(self, scope: MutableMapping[str, Any], on_lost: Callable[[], None]) -> None:
        self._scope = websocket_scope(scope)
        self._on_lost = on_lost
        self._transport: asyncio.Transport
        self._unread: deque[bytes] = deque([b""])  # the first one stands for websocket.connect
        self._size = 0
        self._arrived = asyncio.Event()
        self._arrived.set()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False
        self._refusal: Message = {}

    def start(self, app: App, transport: asyncio.Transport) -> asyncio.Task[None]:
        """Take the connection over; the task ends with it."""
        self._transport = transport
        transport.set_protocol(self)
        return asyncio.create_task(self._run(app), name="SPDY upgrade")

    def shutdown(self) -> None:
        """The server ends: what is written is still sent."""
        self._transport.close()

    async def _run(self, app: App) -> None:
        try:
            await app(self._scope, self._receive, self._send)
        finally:
            self._transport.close()

    # --- asyncio's side ---

    def data_received(self, data: bytes) -> None:
        """Bytes for the application."""
        self._unread.append(data)
        self._size += len(data)
        self._arrived.set()
        if self._size > MOST_UNREAD:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It reads again."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or we have."""
        self._lost = True
        self._arrived.set()
        self._writable.set()
        self._on_lost()

    # --- the application's side ---

    async def _receive(self) -> Message:
        while not self._unread:
            if self._lost:
                return {"type": "websocket.disconnect", "code": 1006}
            self._arrived.clear()
            await self._arrived.wait()
        data = self._unread.popleft()
        if not data:
            return {"type": "websocket.connect"}
        self._size -= len(data)
        if self._size <= MOST_UNREAD and not self._transport.is_closing():
            self._transport.resume_reading()
        return {"type": "websocket.receive", "bytes": data}

    async def _send(self, message: Message) -> None:
        await self._writable.wait()
        if self._lost:
            raise ConnectionResetError("the client has gone")
        match message["type"]:
            case "websocket.accept":
                protocol = str(message["subprotocol"]).removeprefix(SPDY)
                self._write_head(
                    101, [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), (_CHOSEN, protocol)]
                )
            case "websocket.send":
                self._transport.write(message["bytes"])
            case "websocket.http.response.start":
                self._refusal = message
            case "websocket.http.response.body":
                self._refuse(self._refusal, message.get("body", b""))
            case "websocket.close":
                self._transport.close()

    def _refuse(self, start: Message, body: bytes) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
        self._write_head(
            start["status"], [*headers, ("Content-Length", str(len(body))), ("Connection", "close")]
        )
        self._transport.write(body)
        self._transport.close()

    def _write_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))


_CHOSEN = "X-Stream-Protocol-Version"
