"""One connection to a server as httpcore wants it, on an asyncio transport that TLS is part of.

It does not set deadlines: who waits for the whole answer does. It does not dial: it is given a connected socket.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, cast

import httpcore2

from kubewire.dial import Fault

_HIGH_WATER = 512 * 1024


class Wire(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """Bytes in both directions, with back-pressure in both directions."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._ended = False
        self._error: Exception | None = None
        self._reading_paused = False
        self._writing_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, sock: socket.socket, context: ssl.SSLContext | None, server_name: str) -> Wire:
        """Speak TLS (if there is a context) on a connected socket, which is closed when that fails.

        Raises `Fault`, and whatever ends the wait.
        """
        loop = asyncio.get_running_loop()
        name = server_name if context is not None else None
        try:
            _, wire = await loop.create_connection(cls, sock=sock, ssl=context, server_hostname=name)
        except BaseException as error:
            sock.close()
            if isinstance(error, ssl.SSLError):
                raise Fault("tls", tls_words(error)) from None
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                raise Fault("reset", f"in the TLS handshake ({error.strerror or error})") from None
            raise
        return wire

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _HIGH_WATER and self._transport is not None:
            self._transport.pause_reading()
            self._reading_paused = True
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reader)
        return False  # HTTP knows no half-open connections

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        _wake(self._writer)

    # what httpcore calls

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while not self._buffer:
            if isinstance(self._error, ssl.SSLError):
                # with TLS 1.3 a client certificate is refused only after the handshake
                raise Fault("tls", tls_words(self._error))
            if isinstance(self._error, OSError):
                raise httpcore2.ReadError(self._error.strerror or str(self._error))
            if self._ended:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        if self._reading_paused and not self._ended and self._transport is not None:
            self._transport.resume_reading()
            self._reading_paused = False
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._ended or self._transport is None:
            raise httpcore2.WriteError("the server has closed the connection")
        self._transport.write(buffer)
        while self._writing_paused:
            if self._ended:
                raise httpcore2.WriteError("the server has closed the connection")
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    async def aclose(self) -> None:
        if self._transport is not None:
            self._transport.abort()  # an orderly end of TLS would wait for the other side

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        return self  # `open` has done it already

    def get_extra_info(self, info: str) -> Any:
        if (
            info == "is_readable"
        ):  # asked of an idle connection: it has ended, or carries what nobody asked for
            return self._ended or bool(self._buffer)
        return self._transport.get_extra_info(info) if self._transport is not None else None


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def tls_words(error: ssl.SSLError) -> str:
    """What went wrong in TLS, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "the server does not speak TLS on this port"
    return (error.reason or str(error)).replace("_", " ").lower()
