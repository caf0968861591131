"""The door for HTTP: ASGI messages in, ASGI messages out.

Reads the body within its limit, finds out who asks, lets the ApiServer answer, and writes: large answers in
pieces so that other requests get their turn, compressed in a thread where the client accepts that. A stream
ends when its iterator does, when the client goes away, or when the server drains; then its last chunk is a
clean end, so that clients resume instead of reporting an error.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from email.utils import formatdate
from typing import Any, Protocol

from kubesim import errors
from kubesim.apiserver.channels import Socket
from kubesim.apiserver.negotiation import wants_gzip
from kubesim.apiserver.requests import ApiRequest, Query, Reply, StreamReply, User
from kubesim.apiserver.turns import Turns

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_LIMIT = 3 * 1024 * 1024
BODY_TIMEOUT = 60.0
CHUNK = 256 * 1024
GZIP_ABOVE = 128 * 1024


class Connection(Protocol):
    """What the protocol of a connection offers beside ASGI: who is at the other end, a word when it goes, and its
    end in other ways than HTTP's."""

    @property
    def certificate_user(self) -> User | None: ...

    @property
    def is_lost(self) -> bool: ...

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""
        ...

    def write(self, data: bytes) -> None:
        """Bytes that are no HTTP."""
        ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def reset(self) -> None:
        """End it with RST."""
        ...

    def on_lost(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when the connection is lost; returns a function that forgets the callback."""
        ...


class Streams:
    """The streams that are open: each can be ended from outside, by the loss of its client or by draining."""

    def __init__(self) -> None:
        self.draining = False
        self.none_open = asyncio.Event()
        self.none_open.set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def drain(self) -> None:
        self.draining = True
        for task in self._tasks:
            task.cancel()

    async def run(self, work: Awaitable[None], connection: Connection | None) -> None:
        """Do the work until it ends or is ended from outside; being ended from outside is no error."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream needs a task")
        ended = False
        cancelled_before = task.cancelling()

        def end() -> None:
            nonlocal ended
            ended = True
            task.cancel()

        forget = connection.on_lost(end) if connection is not None else None
        self._tasks.add(task)
        self.none_open.clear()
        try:
            await work
        except asyncio.CancelledError:
            if not (ended or self.draining):
                raise
            if task.uncancel() > cancelled_before:
                raise  # somebody else, at the same moment, wants the whole task to end
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self.none_open.set()
            if forget is not None:
                forget()


class Interfering(Protocol):
    """Faults that are set: they serve in place of the application, and mostly let it."""

    async def serve(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None: ...


class Answering(Protocol):
    """What the adapter needs of the API server."""

    streams: Streams
    faults: Interfering | None

    @property
    def turns(self) -> Turns: ...

    def authenticate(self, headers: Mapping[str, str], certificate_user: User | None) -> User: ...

    async def handle(self, request: ApiRequest) -> Reply | StreamReply: ...

    async def channel(self, request: ApiRequest, protocols: list[str], socket: Socket) -> Reply | None: ...

    def unauthenticated(self, request: ApiRequest, error: Exception) -> Reply: ...

    def failure(self, error: Exception) -> Reply: ...


class AsgiApp:
    """The ASGI callable around an ApiServer."""

    def __init__(self, api: Answering) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        faults = self._api.faults
        if faults is not None:
            await faults.serve(self._serve, scope, receive, send)
            return
        await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection | None = scope.get("state", {}).get("connection")
        reply: Reply | StreamReply
        headers = headers_of(scope)
        try:
            body = await _read_body(headers, receive)
            if body is None:
                reply = self._api.failure(errors.too_large(BODY_LIMIT))
            else:
                request = self._request(scope, headers, body)
                refused = self._authenticated(request, connection)
                if refused is None:
                    await self._api.turns.begin((request.user.name, request.user_agent))
                reply = refused or await self._api.handle(request)
        except Exception as error:
            reply = self._api.failure(error)
        if isinstance(reply, StreamReply):
            await self._api.streams.run(_send_stream(reply, send), connection)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            gzipped = wants_gzip(headers.get("accept-encoding", ""))
            await send_reply(reply, gzipped, send, self._api.turns)

    def _authenticated(self, request: ApiRequest, connection: Connection | None) -> Reply | None:
        """Find out who asks; a Reply refuses them."""
        certificate_user = connection.certificate_user if connection else None
        try:
            request.user = self._api.authenticate(request.headers, certificate_user)
        except errors.StatusError as error:
            return self._api.unauthenticated(request, error)
        return None

    def _request(self, scope: Scope, headers: dict[str, str], body: bytes) -> ApiRequest:
        return ApiRequest(
            method=scope.get("method", "GET"),
            path=scope["path"],
            query=Query.parse(scope["query_string"].decode("latin-1")),
            headers=headers,
            body=body,
            as_of=scope.get("as_of"),
        )

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection | None = scope.get("state", {}).get("connection")
        await receive()  # websocket.connect
        socket = WebSocket(receive, send)
        headers = headers_of(scope)
        try:
            request = self._request(scope, headers, b"")
            refused = self._authenticated(request, connection)

            async def work() -> None:
                nonlocal refused
                refused = await self._api.channel(request, list(scope.get("subprotocols", [])), socket)

            if refused is None:
                await self._api.streams.run(work(), connection)
        except Exception as error:
            refused = self._api.failure(error)
        if refused is not None and not socket.accepted:
            await socket.refuse(refused)
        else:
            await socket.close()


class WebSocket:
    """One WebSocket, as the exec and port-forward channels use it: binary messages both ways."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.accepted = False
        self.closed = False

    async def accept(self, protocol: str) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": protocol or None, "headers": []})
        self.accepted = True

    async def refuse(self, reply: Reply) -> None:
        self.closed = True
        headers = [(b"content-type", reply.content_type.encode())]
        await self._send(
            {"type": "websocket.http.response.start", "status": reply.status, "headers": headers}
        )
        await self._send({"type": "websocket.http.response.body", "body": reply.body})

    async def send(self, data: bytes) -> None:
        await self._send({"type": "websocket.send", "bytes": data})

    async def receive(self) -> bytes | None:
        """The next message; None when the client is gone."""
        if self.closed:
            return None
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.closed = True
            return None
        data: bytes | None = message.get("bytes")
        if data is None:
            data = str(message["text"]).encode()
        return data

    async def close(self, code: int = 1000) -> None:
        if self.closed or not self.accepted:
            return
        self.closed = True
        try:
            await self._send({"type": "websocket.close", "code": code})
        except Exception as error:
            # The client closed at the same moment: there is nobody left to tell.
            log.debug("closing a websocket: %r", error)


def headers_of(scope: Scope) -> dict[str, str]:
    """By their names in lower case."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _read_body(headers: dict[str, str], receive: Receive) -> bytes | None:
    """The whole body; None when it is larger than the limit."""
    if "content-length" not in headers and "transfer-encoding" not in headers:
        return b""
    pieces: list[bytes] = []
    size = 0
    async with asyncio.timeout(BODY_TIMEOUT):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b"".join(pieces)
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size <= BODY_LIMIT:
                pieces.append(piece)
            if not message.get("more_body"):
                return b"".join(pieces) if size <= BODY_LIMIT else None


async def send_reply(reply: Reply, gzip_accepted: bool, send: Send, turns: Turns) -> None:
    """A whole answer, large ones in pieces, each in its turn."""
    size = reply.size
    headers = _response_headers(reply)
    compressed = gzip_accepted and size > GZIP_ABOVE and reply.status < 300
    if compressed:
        headers += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
    else:
        headers.append((b"content-length", b"%d" % size))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if size <= CHUNK and not compressed:
        await send({"type": "http.response.body", "body": reply.body, "more_body": False})
        return
    if compressed:
        compressor = zlib.compressobj(level=1, wbits=31)
        for chunk in _chunks(reply.parts, 4 * CHUNK):
            squeezed = await asyncio.to_thread(compressor.compress, chunk)
            if squeezed:
                await send({"type": "http.response.body", "body": squeezed, "more_body": True})
        await send({"type": "http.response.body", "body": compressor.flush(), "more_body": False})
        return
    for chunk in _chunks(reply.parts, CHUNK):
        # What is empty is sent when the client has taken what it got before: the turn is not spent on waiting.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        async with turns.one():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_stream(reply: StreamReply, send: Send) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": _response_headers(reply)})
    # An empty body makes the server write the headers at once: a watch has begun before its first event.
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    try:
        async for chunk in reply.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        close = getattr(reply.chunks, "aclose", None)
        if close is not None:
            await close()


def _chunks(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of about this size."""
    pending: list[bytes] = []
    length = 0
    for part in parts:
        if len(part) > size:
            if pending:
                yield b"".join(pending)
                pending, length = [], 0
            for start in range(0, len(part), size):
                yield part[start : start + size]
            continue
        pending.append(part)
        length += len(part)
        if length >= size:
            yield b"".join(pending)
            pending, length = [], 0
    if pending:
        yield b"".join(pending)


_date: tuple[int, bytes] = (0, b"")


def _response_headers(reply: Reply | StreamReply) -> list[tuple[bytes, bytes]]:
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode())
    headers = [
        (b"date", _date[1]),
        (b"cache-control", b"no-cache, private"),
    ]
    if reply.content_type:
        headers.append((b"content-type", reply.content_type.encode()))
    headers += [(name.lower().encode(), value.encode("utf-8", "replace")) for name, value in reply.headers]
    return headers
