"""The API server on a TCP port: uvicorn's protocols, our own life cycle.

Uvicorn parses HTTP and WebSockets; listening, TLS, the identity in a client certificate and the end are done
here, because uvicorn's own server takes over the signals of the process, and never ends while a watch is
open. Loopback is the default, and TLS is not optional: without certificate files this refuses to listen
anywhere else.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.http11 import Request

from kubesim.apiserver import upgrade
from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.asgi import AsgiApp
from kubesim.apiserver.door import Door, reset
from kubesim.apiserver.faults.interference import Interference
from kubesim.apiserver.requests import User

log = logging.getLogger(__name__)

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
KEEP_ALIVE = 120.0
MAX_MESSAGE = 16 * 1024 * 1024
MOST_HEAD = 1024 * 1024
"""Of a request, as Go's server has it."""
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: the server's certificate and key, and the authority that signs client certificates."""

    certificate: Path
    key: Path
    client_ca: Path
    ca_key: Path | None = None
    """For certificates that a fault asks for."""


class _Connection:
    """What ASGI does not say about a connection."""

    __slots__ = ("_callbacks", "_frozen", "_transport", "certificate_user", "is_lost")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.certificate_user = _certificate_user(transport)
        self.is_lost = False
        self._transport = transport
        self._frozen = False
        self._callbacks: dict[int, Callable[[], None]] = {}

    @property
    def unsent(self) -> int:
        return 0 if self.is_lost else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def reset(self) -> None:
        reset(self._transport)

    def freeze(self, frozen: bool) -> None:
        """Whether nothing passes, in either direction, although the connection stays."""
        if frozen == self._frozen or self.is_lost or self._transport.is_closing():
            return
        self._frozen = frozen
        protocol = cast(asyncio.Protocol, self._transport.get_protocol())
        if frozen:
            self._transport.pause_reading()
            protocol.pause_writing()
        else:
            protocol.resume_writing()
            self._transport.resume_reading()

    def on_lost(self, callback: Callable[[], None]) -> Callable[[], None]:
        key = id(callback)
        self._callbacks[key] = callback
        return lambda: cast(None, self._callbacks.pop(key, None))

    def lost(self) -> None:
        self.is_lost = True
        callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks.values():
            callback()


class _OpenConnections:
    """All connections, whichever protocol they speak by now."""

    def __init__(self) -> None:
        self._open: set[_Connection] = set()
        self.none_left = asyncio.Event()
        self.none_left.set()

    def add(self, connection: _Connection) -> None:
        self._open.add(connection)
        self.none_left.clear()

    def remove(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self.none_left.set()

    def abort(self) -> None:
        for connection in list(self._open):
            connection.abort()

    def reset(self) -> None:
        for connection in list(self._open):
            connection.reset()

    def freeze(self, frozen: bool) -> None:
        for connection in list(self._open):
            connection.freeze(frozen)


class _Http(HttpToolsProtocol):
    _head: int | None = 0
    """The bytes of a request whose headers are not complete; None while its body comes."""

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += len(data)
            if self._head > MOST_HEAD:  # before anybody has said who they are
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._head = 0
        super().on_message_complete()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = _Connection(transport)
        self.app_state = {**self.app_state, "connection": connection}
        self.app_state["open"].add(connection)

    def _should_upgrade(self) -> bool:
        return self._get_upgrade() == upgrade.TOKEN or super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        if self._get_upgrade() != upgrade.TOKEN:
            super().handle_websocket_upgrade()
            return
        self.connections.discard(self)
        path, _, query = self.url.partition(b"?")
        self.scope["path"] = unquote(path.decode("ascii"))
        self.scope["query_string"] = query
        protocol = upgrade.SpdyUpgrade(cast(Any, self.scope), lambda: self._upgraded_lost(protocol))
        self.connections.add(cast(Any, protocol))
        task = protocol.start(cast(Any, self.app), self.transport)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _upgraded_lost(self, protocol: upgrade.SpdyUpgrade) -> None:
        self.connections.discard(cast(Any, protocol))
        _lost(self.app_state)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _lost(self.app_state)


class _WebSocket(WebSocketsSansIOProtocol):
    def handle_connect(self, event: Request) -> None:
        # The application chooses the subprotocol. The library would only check that each offered name is a token, as
        # RFC 6455 has it, and refuse kubectl's SPDY/3.1+portforward.k8s.io for its slash.
        self.conn.process_subprotocol = _no_subprotocol  # type: ignore[method-assign, assignment]
        super().handle_connect(event)

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # otherwise each refusal is logged as an error of the application

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _lost(self.app_state)


def _no_subprotocol(_: object) -> None:
    return None


def _lost(app_state: dict[str, Any]) -> None:
    connection: _Connection = app_state["connection"]
    app_state["open"].remove(connection)
    connection.lost()


def _certificate_user(transport: asyncio.Transport) -> User | None:
    """The identity in the client's certificate, which TLS has verified: CN is the user, each O a group."""
    tls = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert() if tls is not None else None
    if not certificate:
        return None
    names = [pair for rdn in certificate.get("subject", ()) for pair in rdn]
    name = next((value for key, value in names if key == "commonName"), "")
    groups = tuple(value for key, value in names if key == "organizationName")
    return User(name=name, groups=(*groups, "system:authenticated")) if name else None


class Serving:
    """A server that listens. `stop` ends it, also while streams are open."""

    def __init__(
        self,
        api: ApiServer,
        address: tuple[str, int],
        door: Door,
        state: ServerState,
        connections: _OpenConnections,
        faults: Interference,
    ) -> None:
        self._api = api
        self._open = connections
        self._door = door
        self._state = state
        self.faults = faults
        self.host, self.port = address

    async def stop(self, grace: float = 1.0) -> None:
        """Refuse new connections, end the streams cleanly, let short requests finish for `grace` seconds."""
        self.faults.close()
        self._door.close()
        self._api.drain()
        deadline = asyncio.get_running_loop().time() + grace
        while self._state.tasks and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(set(self._state.tasks), timeout=left)
        for connection in list(self._state.connections):
            connection.shutdown()
        for task in list(self._state.tasks):
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=grace)
        try:
            async with asyncio.timeout(0.3):
                await self._open.none_left.wait()
        except TimeoutError:
            # A peer that does not answer TLS's goodbye is cut off.
            self._open.abort()
            await asyncio.sleep(0)
        await self._door.closed()


async def serve(
    api: ApiServer,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: TlsFiles | None = None,
    *,
    backlog: int = 1024,
) -> Serving:
    """Listen. Port 0 takes a free one. Without `tls` only for tests, and only on loopback."""
    if tls is None and host not in LOOPBACK:
        raise ValueError(f"{host} is not a loopback address: TLS files are needed")
    config = Config(
        cast(Any, AsgiApp(api)),
        http=_Http,
        ws=_WebSocket,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,
        timeout_keep_alive=int(KEEP_ALIVE),
    )
    config.load()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    state = ServerState()
    connections = _OpenConnections()
    context = _context(tls) if tls is not None else None

    def connected() -> asyncio.Protocol:
        return _Http(config, state, {"open": connections})

    server = await asyncio.get_running_loop().create_server(
        connected, host, port, ssl=context, backlog=backlog
    )
    address = server.sockets[0].getsockname()[:2]
    door = Door(server, connected, context, backlog)
    faults = Interference(api, door, connections, tls)
    return Serving(api, address, door, state, connections, faults)


def _context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    context.load_verify_locations(tls.client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context
