"""The kubewire Transport for clients in the server's own process: the same handlers, no HTTP.

Scheduler, controllers and kubelets of a cluster are ordinary clients; this saves them sockets, TLS and
parsing, and nothing else: authorization, validation, the bytes of the answers and the ends of watches are
those that a client over HTTP gets. Each call gives way once to the rest of the loop, so that a busy
controller takes turns with everybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.auth import AUTHENTICATED, MASTERS
from kubesim.apiserver.requests import ApiRequest, Query, Reply, StreamReply, User
from kubewire.errors import StreamBroken, Unreachable
from kubewire.requests import Request, Response, check_response
from kubewire.transport import ByteStream, Channel

ENDPOINT = "the API server in this process"
_CHANNEL_DEPTH = 16


class InProcessTransport:
    """Requests of one user."""

    def __init__(
        self,
        api: ApiServer,
        user: str = "system:kube-scheduler",
        groups: tuple[str, ...] = (MASTERS, AUTHENTICATED),
        *,
        user_agent: str = "",
    ) -> None:
        self._api = api
        self._user = User(name=user, groups=groups)
        self._agent = user_agent or user.rpartition(":")[2]
        self._closed = False

    async def send(self, request: Request, *, timeout: float) -> Response:
        reply = await self._answer(request, timeout)
        if isinstance(reply, StreamReply):
            body = await self._collect(reply, timeout)
            return Response(status=reply.status, headers=_headers(reply), body=body, endpoint=ENDPOINT)
        return _response(reply)

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, *, connect: float, idle: float) -> AsyncIterator[ByteStream]:
        reply = await self._answer(request, connect)
        stream = _Stream(reply, idle, self._api)
        try:
            yield stream
        finally:
            await stream.aclose()

    @contextlib.asynccontextmanager
    async def channel(
        self, request: Request, *, protocols: Sequence[str], connect: float, idle: float
    ) -> AsyncIterator[Channel]:
        socket = _LocalSocket(idle)
        serving = asyncio.create_task(
            self._serve_channel(request, list(protocols), socket), name=f"channel {request.path}"
        )
        try:
            await _opened(socket, serving, connect)
            yield _ClientEnd(socket)
        finally:
            socket.client_gone()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    async def _serve_channel(
        self, request: Request, protocols: list[str], socket: _LocalSocket
    ) -> Reply | None:
        refused: Reply | None = None

        async def work() -> None:
            nonlocal refused
            refused = await self._api.channel(self._request(request), protocols, socket)

        try:
            await self._api.streams.run(work(), None)
        finally:
            socket.server_gone()
        return refused

    async def aclose(self) -> None:
        self._closed = True

    async def _answer(self, request: Request, timeout: float) -> Reply | StreamReply:
        if self._closed:
            raise Unreachable(ENDPOINT, "refused")
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(timeout):
                return await self._api.handle(self._request(request))
        except TimeoutError:
            raise Unreachable(ENDPOINT, "timeout", timeout) from None

    async def _collect(self, reply: StreamReply, timeout: float) -> bytes:
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(timeout):
                parts.extend([chunk async for chunk in reply.chunks])
        except TimeoutError:
            raise Unreachable(ENDPOINT, "timeout", timeout) from None
        return b"".join(parts)

    def _request(self, request: Request) -> ApiRequest:
        headers = {name.lower(): value for name, value in request.headers.items()}
        headers.setdefault("user-agent", self._agent)
        return ApiRequest(
            method=request.method,
            path=unquote(request.path),
            query=Query(request.query),
            headers=headers,
            body=request.body or b"",
            user=self._user,
        )


def _headers(reply: Reply | StreamReply) -> Mapping[str, str]:
    """By their names in lower case; several of one name are one with commas, as over HTTP."""
    made = {"content-type": reply.content_type}
    for name, value in reply.headers:
        key = name.lower()
        made[key] = f"{made[key]}, {value}" if key in made else value
    return made


def _response(reply: Reply) -> Response:
    return Response(status=reply.status, headers=_headers(reply), body=reply.body, endpoint=ENDPOINT)


class _Stream:
    """An answer that goes on; also a whole one, when the request was refused."""

    def __init__(self, reply: Reply | StreamReply, idle: float, api: ApiServer) -> None:
        self.status = reply.status
        self.headers = _headers(reply)
        self._reply = reply
        self._idle = idle
        self._api = api

    async def chunks(self) -> AsyncIterator[bytes]:
        if isinstance(self._reply, Reply):
            yield self._reply.body
            return
        iterator = self._reply.chunks
        while True:
            chunk = await self._next(iterator)
            if chunk is None:
                return
            yield chunk
            await asyncio.sleep(0)

    async def _next(self, iterator: AsyncIterator[bytes]) -> bytes | None:
        """The next chunk; None at the end, which a draining server brings about."""
        if self._api.streams.draining:
            return None
        chunk: bytes | None = None

        async def take() -> None:
            nonlocal chunk
            chunk = await anext(iterator, None)

        try:
            async with asyncio.timeout(self._idle):
                await self._api.streams.run(take(), None)
        except TimeoutError:
            raise StreamBroken(f"{ENDPOINT}: nothing came for {self._idle:g} s") from None
        return chunk

    async def aclose(self) -> None:
        if isinstance(self._reply, StreamReply):
            close = getattr(self._reply.chunks, "aclose", None)
            if close is not None:
                await close()


class _LocalSocket:
    """Both ends of a WebSocket that is none: the server's end is what `channels` expects."""

    def __init__(self, idle: float) -> None:
        self.idle = idle
        self.accepted = False
        self.protocol = ""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.to_client: asyncio.Queue[bytes | None] = asyncio.Queue(_CHANNEL_DEPTH)
        self.to_server: asyncio.Queue[bytes | None] = asyncio.Queue(_CHANNEL_DEPTH)
        self._client_gone = asyncio.Event()
        self._server_gone = asyncio.Event()

    async def accept(self, protocol: str) -> None:
        self.accepted = True
        self.protocol = protocol
        self.opened.set_result(None)

    async def send(self, data: bytes) -> None:
        if not self._client_gone.is_set():
            await self.to_client.put(data)

    async def receive(self) -> bytes | None:
        return await _next_of(self.to_server, self._client_gone)

    async def next_for_client(self) -> bytes | None:
        return await _next_of(self.to_client, self._server_gone)

    def client_gone(self) -> None:
        self._client_gone.set()

    def server_gone(self) -> None:
        self._server_gone.set()


async def _next_of(queue: asyncio.Queue[bytes | None], gone: asyncio.Event) -> bytes | None:
    """The next message, or None when nothing is left and the other side is gone."""
    if not queue.empty():
        return queue.get_nowait()
    if gone.is_set():
        return None
    getting = asyncio.ensure_future(queue.get())
    waiting = asyncio.ensure_future(gone.wait())
    try:
        await asyncio.wait({getting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        return queue.get_nowait() if not queue.empty() else None
    finally:
        getting.cancel()
        waiting.cancel()


async def _opened(socket: _LocalSocket, serving: asyncio.Task[Reply | None], connect: float) -> None:
    """Return when the server has accepted; raise the ApiError with which it refused."""
    either: set[asyncio.Future[Any]] = {socket.opened, serving}
    done, _ = await asyncio.wait(either, timeout=connect, return_when=asyncio.FIRST_COMPLETED)
    if not done:
        raise Unreachable(ENDPOINT, "timeout", connect)
    if socket.accepted:
        return
    refused = serving.result()
    if refused is not None:
        check_response(_response(refused))
    raise StreamBroken(f"{ENDPOINT}: the server closed the channel before it was open")


class _ClientEnd:
    """The client's end: a kubewire Channel."""

    def __init__(self, socket: _LocalSocket) -> None:
        self._socket = socket
        self.protocol = socket.protocol

    async def send(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._socket.idle):
                await self._socket.to_server.put(data)
        except TimeoutError:
            raise StreamBroken(f"{ENDPOINT}: nothing was taken for {self._socket.idle:g} s") from None

    async def receive(self) -> bytes | None:
        return await self._socket.next_for_client()

    async def close(self) -> None:
        self._socket.client_gone()
