"""The HTTP connections made with one set of certificates, and what is read from them."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpcore2

from kubewire.dial import Fault
from kubewire.tls import TlsMaterial
from kubewire.wire import Wire

MAX_BODY = 512 * 1024 * 1024
"""No answer of a Kubernetes API server is larger; what is, is not held in memory."""

_KEEP_ALIVE = 30.0
_IDLE_CONNECTIONS = 8


class Pool:
    """Connections of which each carries one request at a time; how many there may be is the guard's business."""

    def __init__(
        self, material: TlsMaterial, connect: Callable[[Pool], Awaitable[Wire]], *, secure: bool
    ) -> None:
        self.material = material
        self.context = material.context() if secure else None
        self.users = 0
        self._core = httpcore2.AsyncConnectionPool(
            ssl_context=self.context,
            max_connections=None,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE,
            network_backend=_Backend(lambda: connect(self)),
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the pool from being closed as stale."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1

    async def handle(self, request: httpcore2.Request) -> httpcore2.Response:
        """Send a request and wait for the head of its answer, which the caller closes."""
        return await self._core.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._core.aclose()


class _Backend(httpcore2.AsyncNetworkBackend):
    """Lets httpcore connect by our means."""

    def __init__(self, connect: Callable[[], Awaitable[Wire]]) -> None:
        self._connect = connect

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        return await self._connect()


async def read_body(answer: httpcore2.Response, limit: int = MAX_BODY) -> bytes:
    """The whole body, decompressed. Raises `Fault` when it is larger than `limit` or incomplete."""
    decoder = zlib.decompressobj(wbits=31) if headers_of(answer).get("content-encoding") == "gzip" else None
    body = bytearray()
    async for piece in answer.aiter_stream():
        # one byte more than there is room for is enough to know; the rest is never decompressed
        body += decoder.decompress(piece, limit - len(body) + 1) if decoder is not None else piece
        if len(body) > limit:
            raise Fault("protocol", f"the answer is larger than {limit} bytes")
    if decoder is not None and not decoder.eof:
        raise Fault("reset", "the compressed answer is incomplete")
    return bytes(body)


def headers_of(answer: httpcore2.Response) -> dict[str, str]:
    """The headers, with names in lower case; several of one name are one with commas."""
    made: dict[str, str] = {}
    for raw_name, raw_value in answer.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("utf-8", "replace")
        made[name] = f"{made[name]}, {value}" if name in made else value
    return made


def fault_of(error: Exception) -> Fault:
    """What an error of the HTTP engine means."""
    if isinstance(error, Fault):
        return error
    words = str(error) or type(error).__name__
    if isinstance(error, httpcore2.NetworkError):
        return Fault("reset", words)
    if (
        "disconnected" in words or "closed connection" in words
    ):  # told apart from garbage by nothing but its words
        return Fault("reset", "the answer did not come, or not to its end")
    return Fault("protocol", words)
