"""The HTTP driver: requests and streams over HTTP/1.1, channels over WebSocket, all to one API server.

No connection, thread, lock or limit is shared with another server, so that a dead one keeps nobody else waiting.
Connecting (DNS, proxy, TLS) is our own (`dial`, `wire`), HTTP is httpcore's, WebSocket is websockets' and imported
with the first channel. A read is repeated once when a kept-alive connection turns out to be dead, and any request
once when the credentials were refused and there may be newer ones: in both cases the server has done nothing yet.
Nothing else is retried here.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import ContextVar

import httpcore2

from kubewire.connection import Connection
from kubewire.credentials import Credential, Credentials
from kubewire.deadlines import Deadlines
from kubewire.dial import Attempt, Dialer, Endpoint, Fault
from kubewire.errors import CredentialError, StreamBroken, Unauthorized, Unreachable
from kubewire.pool import Pool, fault_of, headers_of, read_body
from kubewire.proxy import Proxy
from kubewire.requests import Request, Response
from kubewire.tls import TlsMaterial
from kubewire.transport import Channel
from kubewire.wire import Wire

_USER_AGENT = "whimbrel-kubewire"
_HTTP_ERRORS = (Fault, httpcore2.NetworkError, httpcore2.ProtocolError)

_attempt: ContextVar[Attempt] = ContextVar("kubewire_attempt")


class HttpTransport:
    """A `Transport` over the network."""

    def __init__(self, connection: Connection, deadlines: Deadlines | None = None) -> None:
        self._connection = connection
        self._deadlines = deadlines or Deadlines()
        self._endpoint = Endpoint.parse(connection.server, connection.source)
        self._credentials = Credentials(connection, timeout=self._deadlines.credential)
        self._dialer = Dialer(
            self._endpoint, Proxy.parse(connection.proxy_url) if connection.proxy_url else None
        )
        self._server_name = connection.tls_server_name or self._endpoint.host
        self._compress = not connection.disable_compression and not self._endpoint.host.startswith("127.")
        self._pools: list[Pool] = []
        self._closed = False

    @property
    def endpoint(self) -> str:
        """The server's URL, for messages."""
        return str(self._endpoint)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """See `Transport.send`."""
        with self._explained(timeout) as attempt:
            async with asyncio.timeout(timeout):
                credential, response = await self._exchange(request, attempt)
                if response.status == 401 and await self._credentials.refused(credential):
                    _, response = await self._exchange(request, attempt)
                return response

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, *, connect: float, idle: float) -> AsyncIterator[HttpStream]:
        """See `Transport.stream`."""
        async with contextlib.AsyncExitStack() as stack:
            with self._explained(connect) as attempt:
                async with asyncio.timeout(connect):
                    credential, answer = await self._open(request, attempt, stack)
                    if answer.status == 401 and await self._credentials.refused(credential):
                        await stack.aclose()
                        _, answer = await self._open(request, attempt, stack)
            yield HttpStream(answer, self.endpoint, idle)

    @contextlib.asynccontextmanager
    async def channel(
        self, request: Request, *, protocols: Sequence[str], connect: float, idle: float
    ) -> AsyncIterator[Channel]:
        """See `Transport.channel`."""
        with self._explained(connect) as attempt:
            async with asyncio.timeout(connect):
                credential = await self._credential(attempt)
                try:
                    channel = await self._open_channel(request, attempt, credential, protocols, idle)
                except Unauthorized:
                    if not await self._credentials.refused(credential):
                        raise
                    credential = await self._credential(attempt)
                    channel = await self._open_channel(request, attempt, credential, protocols, idle)
        try:
            yield channel
        finally:
            await channel.close()

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self._closed = True
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.aclose()
        await self._credentials.aclose()
        await self._dialer.aclose()

    async def _credential(self, attempt: Attempt) -> Credential:
        attempt.phase = "obtaining credentials"
        credential = await self._credentials.get()
        attempt.phase = "waiting for an answer"
        return credential

    async def _exchange(self, request: Request, attempt: Attempt) -> tuple[Credential, Response]:
        async with contextlib.AsyncExitStack() as stack:
            credential, answer = await self._open(request, attempt, stack, compress=self._compress)
            attempt.phase = "reading the answer"
            body = await read_body(answer)
        headers = headers_of(answer)
        return credential, Response(status=answer.status, headers=headers, body=body, endpoint=self.endpoint)

    async def _open(
        self, request: Request, attempt: Attempt, stack: contextlib.AsyncExitStack, *, compress: bool = False
    ) -> tuple[Credential, httpcore2.Response]:
        """Send a request and wait for the head of its answer, which is closed with the stack."""
        credential = await self._credential(attempt)
        outgoing = self._outgoing(request, credential, compress)
        pool = await self._pool(credential.tls)
        stack.enter_context(pool.in_use())
        attempt.dialled = False
        token = _attempt.set(attempt)
        try:
            try:
                answer = await pool.handle(outgoing)
            except _HTTP_ERRORS:
                if request.method != "GET" or attempt.dialled:
                    raise
                answer = await pool.handle(outgoing)
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

    async def _open_channel(
        self,
        request: Request,
        attempt: Attempt,
        credential: Credential,
        protocols: Sequence[str],
        idle: float,
    ) -> Channel:
        from kubewire.websocket import open_channel  # costs 50 ms and megabytes: only who needs it pays

        context = (await self._pool(credential.tls)).context
        sock = await self._dialer.connect(attempt, self._deadlines.connect)
        attempt.phase = "opening the WebSocket"
        scheme = "ws" if context is None else "wss"
        return await open_channel(
            sock,
            url=f"{scheme}://{self._endpoint.authority}{self._endpoint.prefix}{request.target}",
            context=context,
            server_name=None if context is None else self._server_name,
            headers=(*request.headers.items(), *credential.headers),
            protocols=protocols,
            handshake=self._deadlines.connect,
            idle=idle,
            endpoint=self.endpoint,
            user_agent=_USER_AGENT,
        )

    async def _pool(self, material: TlsMaterial) -> Pool:
        """The connections made with these certificates; those made with older ones end when nobody uses them."""
        if self._closed:
            raise RuntimeError("the transport is closed")
        if self._pools and self._pools[-1].material == material:
            return self._pools[-1]
        stale = [pool for pool in self._pools if not pool.users]
        pool = Pool(material, self._connect, secure=self._endpoint.secure)
        self._pools = [*(old for old in self._pools if old.users), pool]
        for old in stale:
            await old.aclose()
        return pool

    async def _connect(self, pool: Pool) -> Wire:
        """A connection on which HTTP can be spoken."""
        attempt = _attempt.get()
        deadline = _now() + self._deadlines.connect
        sock = await self._dialer.connect(attempt, self._deadlines.connect)
        if pool.context is not None:
            attempt.phase = "in the TLS handshake"
        try:
            async with asyncio.timeout_at(deadline):
                wire = await Wire.open(sock, pool.context, self._server_name)
        except TimeoutError:
            raise Fault("timeout", f"while {attempt.phase}") from None
        attempt.phase = "waiting for an answer"
        return wire

    @contextlib.contextmanager
    def _explained(self, timeout: float) -> Iterator[Attempt]:
        """What goes wrong inside is told as a `KubeError`, with the endpoint and the time that it took."""
        attempt = Attempt(started=_now())
        try:
            yield attempt
        except TimeoutError:
            if attempt.phase == "obtaining credentials" and self._connection.exec_plugin is not None:
                command = self._connection.exec_plugin.command
                raise CredentialError(
                    f"the credential plugin {command!r} did not answer within {timeout:g} s",
                    remedy=f"Run {command!r} by hand to see what it waits for (perhaps a login).",
                ) from None
            elapsed = _now() - attempt.started
            raise Unreachable(self.endpoint, "timeout", elapsed, f"while {attempt.phase}") from None
        except (*_HTTP_ERRORS, zlib.error) as error:
            fault = fault_of(error)
            raise Unreachable(self.endpoint, fault.reason, _now() - attempt.started, fault.detail) from None


class HttpStream:
    """A `ByteStream` over HTTP."""

    def __init__(self, answer: httpcore2.Response, endpoint: str, idle: float) -> None:
        self._answer = answer
        self._endpoint = endpoint
        self._idle = idle
        self.status: int = answer.status
        self.headers = headers_of(answer)

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `ByteStream.chunks`."""
        async with contextlib.aclosing(self._answer.aiter_stream()) as pieces:
            while True:
                try:
                    async with asyncio.timeout(self._idle):
                        piece = await anext(pieces, None)
                except TimeoutError:
                    raise StreamBroken(f"{self._endpoint} sent nothing for {self._idle:g} s") from None
                except _HTTP_ERRORS as error:
                    raise StreamBroken(
                        f"{self._endpoint} broke off the answer: {fault_of(error).detail}"
                    ) from None
                if piece is None:
                    return
                yield piece


def _now() -> float:
    return asyncio.get_running_loop().time()
