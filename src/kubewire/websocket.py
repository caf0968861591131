"""Channels over WebSocket. The only module that imports `websockets`; `http` loads it with the first channel.

Liveness is proven by pings, because a command may rightly print nothing for hours: when not even a pong has come for
the idle bound, the peer is gone. A peer that answers pings but takes none of our data for as long is given up too.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterable, Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidStatus,
)
from websockets.typing import Subprotocol

from kubewire.dial import Fault
from kubewire.errors import KubeError, StreamBroken
from kubewire.requests import Response, check_response
from kubewire.wire import tls_words

MAX_MESSAGE = 16 * 1024 * 1024

_CLOSING = 2.0  # seconds that an orderly end may take

# websockets writes the handshake's headers, and with them the token, to its log at level DEBUG
_log = logging.getLogger("kubewire.websocket")
_log.setLevel(logging.WARNING)


class WebSocketChannel:
    """A `Channel` over one WebSocket."""

    def __init__(self, websocket: ClientConnection, endpoint: str, idle: float) -> None:
        self._websocket = websocket
        self._endpoint = endpoint
        self._idle = idle

    @property
    def protocol(self) -> str:
        """See `Channel.protocol`."""
        return self._websocket.subprotocol or ""

    async def send(self, data: bytes) -> None:
        """See `Channel.send`."""
        try:
            async with asyncio.timeout(self._idle):
                await self._websocket.send(data)
        except TimeoutError:
            raise self._broken(f"took no data for {self._idle:g} s") from None
        except ConnectionClosed as closed:
            raise self._broken(f"closed the stream: {_words(closed)}") from None

    async def receive(self) -> bytes | None:
        """See `Channel.receive`."""
        try:
            message = await self._websocket.recv()
        except ConnectionClosedOK:
            return None
        except ConnectionClosed as closed:
            raise self._broken(f"broke off the stream: {_words(closed)}") from None
        return message.encode() if isinstance(message, str) else bytes(message)

    async def close(self) -> None:
        """See `Channel.close`."""
        try:
            async with asyncio.timeout(_CLOSING + 1.0):
                await self._websocket.close()
        except TimeoutError:
            self._websocket.transport.abort()

    def _broken(self, how: str) -> StreamBroken:
        """The error for a stream that has no orderly end any more: nothing is waited for when it is closed."""
        self._websocket.transport.abort()
        return StreamBroken(f"{self._endpoint} {how}")


async def open_channel(
    sock: socket.socket,
    *,
    url: str,
    context: ssl.SSLContext | None,
    server_name: str | None,
    headers: Iterable[tuple[str, str]],
    protocols: Sequence[str],
    handshake: float,
    idle: float,
    endpoint: str,
    user_agent: str,
) -> WebSocketChannel:
    """Shake hands on a connected socket, which is closed when that fails. Bounded by the caller.

    Raises the `ApiError` with which the server refused, and `Fault`.
    """
    try:
        websocket = await connect(
            url,
            sock=sock,
            ssl=context,
            server_hostname=server_name,
            ssl_handshake_timeout=None if context is None else handshake,
            subprotocols=[Subprotocol(protocol) for protocol in protocols],
            additional_headers=list(headers),
            user_agent_header=user_agent,
            compression=None,
            open_timeout=None,
            ping_interval=idle / 3,
            ping_timeout=idle * 2 / 3,
            close_timeout=_CLOSING,
            max_size=MAX_MESSAGE,
            logger=_log,
            proxy=None,
        )
    except BaseException as error:
        sock.close()
        raise _explained(error, endpoint) from None
    return WebSocketChannel(websocket, endpoint, idle)


def _explained(error: BaseException, endpoint: str) -> BaseException:
    """The `ApiError` or `Fault` that a failed handshake means; anything else as it is."""
    if isinstance(error, InvalidStatus):
        answer = error.response
        names = {name.lower(): value for name, value in answer.headers.raw_items()}
        body = bytes(answer.body or b"")
        try:
            check_response(Response(status=answer.status_code, headers=names, body=body, endpoint=endpoint))
        except KubeError as refusal:
            return refusal
        return Fault("protocol", f"it answered {answer.status_code} where a WebSocket was asked for")
    if isinstance(error, InvalidHandshake):
        ended = isinstance(error.__cause__, (EOFError, OSError))
        return Fault("reset" if ended else "protocol", str(error.__cause__ or error))
    if isinstance(error, ssl.SSLError):
        return Fault("tls", tls_words(error))
    if isinstance(error, TimeoutError):
        return error
    if isinstance(
        error, ConnectionAbortedError
    ):  # how asyncio says that the bound for the TLS handshake has passed
        return Fault("timeout", "while in the TLS handshake")
    if isinstance(error, OSError):
        return Fault("reset", error.strerror or str(error))
    return error


def _words(closed: ConnectionClosed) -> str:
    frame = closed.rcvd or closed.sent
    if frame is None:
        return "the connection broke"
    return frame.reason or f"close code {frame.code}"
