"""The HTTP driver: requests and streams over HTTP/1.1, channels over WebSocket, all to one API server.

One connection per request in flight, none shared with another server, so that a dead one keeps nobody else waiting;
how many there may be is the guard's business. Connecting (DNS, proxy, TLS) is our own (`dial`), HTTP is httpcore's,
WebSocket is websockets' and imported with the first channel. A read is repeated once when a kept-alive connection
turns out to be dead, and any request once when the credentials were refused and there may be newer ones: in both
cases the server has done nothing yet. Nothing else is retried here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import httpcore2

from kubewire.connection import Connection
from kubewire.credentials import Credential, Credentials
from kubewire.deadlines import Deadlines
from kubewire.dial import Attempt, Dialer, Endpoint, Fault
from kubewire.errors import CredentialError, KubeError, StreamBroken, Unreachable
from kubewire.proxy import Proxy
from kubewire.requests import Request, Response
from kubewire.tls import TlsMaterial
from kubewire.transport import Channel

MAX_BODY = 512 * 1024 * 1024
"""No answer of a Kubernetes API server is larger; what is, is not held in memory."""

_KEEP_ALIVE = 30.0
_IDLE_CONNECTIONS = 8
_USER_AGENT = "whimbrel-kubewire"

_attempt: ContextVar[Attempt] = ContextVar("kubewire_attempt")


class HttpTransport:
    """A `Transport` over the network."""

    def __init__(self, connection: Connection, deadlines: Deadlines | None = None) -> None:
        self._connection = connection
        self._deadlines = deadlines or Deadlines()
        self._endpoint = Endpoint.parse(connection.server, connection.source)
        self._credentials = Credentials(connection, timeout=self._deadlines.credential)
        proxy = Proxy.parse(connection.proxy_url) if connection.proxy_url else None
        self._dialer = Dialer(self._endpoint, proxy)
        self._pools: list[_Pool] = []
        self._closed = False
        self._compress = not connection.disable_compression and not self._endpoint.host.startswith("127.")

    @property
    def endpoint(self) -> str:
        """The server's URL, for messages."""
        return str(self._endpoint)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """See `Transport.send`."""
        attempt = Attempt(started=_now())
        with self._explained(attempt, timeout):
            async with asyncio.timeout(timeout):
                credential, response = await self._exchange(request, attempt)
                if response.status == 401 and self._credentials.refused(credential):
                    _, response = await self._exchange(request, attempt)
                return response

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, *, connect: float, idle: float) -> AsyncIterator[HttpStream]:
        """See `Transport.stream`."""
        async with contextlib.AsyncExitStack() as stack:
            attempt = Attempt(started=_now())
            with self._explained(attempt, connect):
                async with asyncio.timeout(connect):
                    credential, answer = await self._open(request, attempt, stack)
                    if answer.status == 401 and self._credentials.refused(credential):
                        await stack.aclose()
                        _, answer = await self._open(request, attempt, stack)
            yield HttpStream(answer, self.endpoint, idle)

    @contextlib.asynccontextmanager
    async def channel(
        self, request: Request, *, protocols: Sequence[str], connect: float, idle: float
    ) -> AsyncIterator[Channel]:
        """See `Transport.channel`."""
        from kubewire.websocket import open_channel  # costs 50 ms and megabytes: only who needs it pays

        attempt = Attempt(started=_now())

        async def open_once() -> tuple[Credential, Channel]:
            attempt.phase = "obtaining credentials"
            credential = await self._credentials.get()
            context = (await self._pool(credential.tls)).context
            sock = await self._dialer.connect(attempt, self._deadlines.connect)
            attempt.phase = "opening the WebSocket"
            return credential, await open_channel(
                sock,
                url=f"{'wss' if context else 'ws'}://{self._endpoint.authority}{self._endpoint.prefix}{request.target}",
                context=context,
                server_name=self._server_name if context else None,
                headers=(*request.headers.items(), *credential.headers),
                protocols=protocols,
                idle=idle,
                endpoint=self.endpoint,
                user_agent=_USER_AGENT,
            )
    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self._closed = True
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.core.aclose()
        await self._credentials.aclose()
        await self._dialer.aclose()

    @property
    def _server_name(self) -> str:
        return self._connection.tls_server_name or self._endpoint.host

    async def _exchange(self, request: Request, attempt: Attempt) -> tuple[Credential, Response]:
        async with contextlib.AsyncExitStack() as stack:
            credential, answer = await self._open(request, attempt, stack, compress=self._compress)
            attempt.phase = "reading the answer"
            body = await _read_body(answer)
        headers = _headers(answer)
        return credential, Response(status=answer.status, headers=headers, body=body, endpoint=self.endpoint)

    async def _open(
        self, request: Request, attempt: Attempt, stack: contextlib.AsyncExitStack, *, compress: bool = False
    ) -> tuple[Credential, httpcore2.Response]:
        """Send a request and wait for the head of its answer, which is closed with the stack."""
        attempt.phase = "obtaining credentials"
        credential = await self._credentials.get()
        attempt.phase = "waiting for an answer"
        outgoing = self._outgoing(request, credential, compress)
        pool = await self._pool(credential.tls)
        stack.enter_context(pool.in_use())
        token = _attempt.set(attempt)
        try:
            attempt.dialled = False
            try:
                answer = await pool.core.handle_async_request(outgoing)
            except (httpcore2.NetworkError, httpcore2.RemoteProtocolError, Fault):
                if request.method != "GET" or attempt.dialled:
                    raise
                answer = await pool.core.handle_async_request(outgoing)
        finally:
            _attempt.reset(token)
        stack.push_async_callback(answer.aclose)
        return credential, answer

    def _outgoing(self, request: Request, credential: Credential, compress: bool) -> httpcore2.Request:
        headers = [("host", self._endpoint.authority), ("user-agent", _USER_AGENT), *request.headers.items()]
        headers += credential.headers
        if compress:
            headers.append(("accept-encoding", "gzip"))
        if request.body is not None:
            headers.append(("content-length", str(len(request.body))))
        return httpcore2.Request(
            request.method,
            httpcore2.URL(
                scheme=self._endpoint.scheme,
                host=self._endpoint.host,
                port=self._endpoint.port,
                target=self._endpoint.prefix + request.target,
            ),
            headers=[(name.encode("ascii"), value.encode("utf-8")) for name, value in headers],
            content=request.body,
        )

    async def _pool(self, material: TlsMaterial) -> _Pool:
        """The connections made with these certificates; those made with older ones end when nobody uses them."""
        if self._closed:
            raise RuntimeError("the transport is closed")
        if self._pools and self._pools[-1].material == material:
            return self._pools[-1]
        stale = [pool for pool in self._pools if not pool.users]
        pool = _Pool(self, material)
        self._pools = [*(pool for pool in self._pools if pool.users), pool]
        for old in stale:
            await old.core.aclose()
        return pool

    async def _connect(self, context: ssl.SSLContext | None) -> Wire:
        """A connection on which HTTP can be spoken."""
        attempt = _attempt.get()
        deadline = _now() + self._deadlines.connect
        sock = await self._dialer.connect(attempt, self._deadlines.connect)
        if context is not None:
            attempt.phase = "in the TLS handshake"
        try:
            async with asyncio.timeout_at(deadline):
                wire = await Wire.open(sock, context, self._server_name)
        except TimeoutError:
            raise Fault("timeout", f"while {attempt.phase}") from None
        attempt.phase = "waiting for an answer"
        return wire

    @contextlib.contextmanager
    def _explained(self, attempt: Attempt, timeout: float) -> Iterator[None]:
        """What goes wrong inside is told as a `KubeError`, with the endpoint and the time that it took."""
        try:
            yield
        except TimeoutError:
            if attempt.phase == "obtaining credentials" and self._connection.exec_plugin is not None:
                command = self._connection.exec_plugin.command
                raise CredentialError(
                    f"the credential plugin {command!r} did not answer within {timeout:g} s",
                    remedy=f"Run {command!r} by hand to see what it waits for (perhaps a login).",
                ) from None
            elapsed = _now() - attempt.started
            raise Unreachable(self.endpoint, "timeout", elapsed, f"while {attempt.phase}") from None
        except (Fault, httpcore2.NetworkError, httpcore2.ProtocolError, zlib.error) as error:
            fault = _fault(error)
            raise Unreachable(self.endpoint, fault.reason, _now() - attempt.started, fault.detail) from None


class HttpStream:
    """A `ByteStream` over HTTP."""

    def __init__(self, answer: httpcore2.Response, endpoint: str, idle: float) -> None:
        self._answer = answer
        self._endpoint = endpoint
        self._idle = idle
        self.status: int = answer.status
        self.headers: Mapping[str, str] = _headers(answer)

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `ByteStream.chunks`."""
        pieces = self._answer.aiter_stream()
        async with contextlib.aclosing(pieces):
            while True:
                try:
                    async with asyncio.timeout(self._idle):
                        piece = await anext(pieces, None)
                except TimeoutError:
                    raise StreamBroken(f"{self._endpoint} sent nothing for {self._idle:g} s") from None
                except (httpcore2.NetworkError, httpcore2.ProtocolError, Fault) as error:
                    raise StreamBroken(
                        f"{self._endpoint} broke off the answer: {_fault(error).detail}"
                    ) from None
                if piece is None:
                    return
                yield piece


class _Pool:
    """The connections made with one set of certificates."""

    def __init__(self, transport: HttpTransport, material: TlsMaterial) -> None:
        self.material = material
        self.context = material.context() if transport._endpoint.secure else None
        self.users = 0
        self.core = httpcore2.AsyncConnectionPool(
            ssl_context=self.context,
            max_connections=None,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE,
            network_backend=_Backend(transport, self.context),
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1


class _Backend(httpcore2.AsyncNetworkBackend):
    """Lets httpcore connect by our means."""

    def __init__(self, transport: HttpTransport, context: ssl.SSLContext | None) -> None:
        self._transport = transport
        self._context = context

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        return await self._transport._connect(self._context)


async def _read_body(answer: httpcore2.Response) -> bytes:
    """The whole body, decompressed."""
    decoder = zlib.decompressobj(wbits=31) if _headers(answer).get("content-encoding") == "gzip" else None
    body = bytearray()
    async for piece in answer.aiter_stream():
        body += decoder.decompress(piece, MAX_BODY) if decoder is not None else piece
        if len(body) > MAX_BODY:
            raise Fault("protocol", f"the answer is larger than {MAX_BODY} bytes")
    if decoder is not None and body and not decoder.eof:
        raise Fault("reset", "the compressed answer is incomplete")
    return bytes(body)


def _headers(answer: httpcore2.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}


def _fault(error: Exception) -> Fault:
    if isinstance(error, Fault):
        return error
    words = str(error) or type(error).__name__
    if isinstance(error, httpcore2.NetworkError):
        return Fault("reset", words)
    if "disconnected" in words or "closed connection" in words:
        return Fault("reset", "the answer did not come, or not to its end")
    return Fault("protocol", words)


def _now() -> float:
    return asyncio.get_running_loop().time()


def open_transport(connection: Connection, deadlines: Deadlines | None = None) -> HttpTransport:
    """A transport for the connection. Raises `ConfigError`; makes no call."""
    return HttpTransport(connection, deadlines)


__all__ = ["MAX_BODY", "HttpStream", "HttpTransport", "KubeError", "open_transport"]
