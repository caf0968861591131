"""Proxies between us and an API server: which one, and how to ask it for a tunnel.

HTTP proxies (CONNECT) and SOCKS5 are spoken on a connected socket; what comes back is a socket to the API server, on
which TLS and HTTP know nothing of the proxy. A proxy that itself speaks TLS gets a relay in between. Names are
resolved by the proxy, never by us.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from kubewire.errors import ConfigError

_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_MAX_HEAD = 16 * 1024


class ProxyRefused(Exception):
    """The proxy did not open a tunnel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One proxy."""

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read a proxy's URL. Raises `ConfigError` (without the URL, which may hold a password)."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            raise ConfigError("the proxy's URL is malformed", remedy="Correct proxy-url.") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ConfigError(
                f"a proxy of scheme {parts.scheme!r} cannot be used",
                remedy="Use an http, https or socks5 proxy-url.",
            )
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port or _DEFAULT_PORTS[parts.scheme],
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )


def from_environment(scheme: str, host: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for a server, if any; never for this machine itself."""
    if _is_loopback(host) or _excluded(host, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    name = f"{scheme}_proxy"
    found = environ.get(name)
    if not found and not (scheme == "http" and "REQUEST_METHOD" in environ):
        # in a CGI program HTTP_PROXY is set by whoever sends the request
        found = environ.get(name.upper())
    return found or None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _excluded(host: str, no_proxy: str) -> bool:
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if entry == "*":
            return True
        if not entry:
            continue
        if address is not None:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
        else:
            name = entry.removeprefix("*").removeprefix(".").split(":")[0]
            if host.lower() == name or host.lower().endswith("." + name):
                return True
    return False


Receive = Callable[[int], Awaitable[bytes]]
Send = Callable[[bytes], Awaitable[None]]


async def ask_connect(proxy: Proxy, host: str, port: int, send: Send, receive: Receive) -> None:
    """HTTP CONNECT. Raises `ProxyRefused`."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username is not None:
        pair = base64.b64encode(f"{proxy.username}:{proxy.password or ''}".encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {pair}")
    await send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    head = b""
    while b"\r\n\r\n" not in head:
        piece = await receive(4096)
        if not piece or len(head) > _MAX_HEAD:
            raise ProxyRefused(
                "the proxy closed the connection" if not piece else "the proxy's answer has no end"
            )
        head += piece
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    words = status.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].startswith("2"):
        raise ProxyRefused(f"the proxy answered {status[:100]!r}")


async def ask_socks5(proxy: Proxy, host: str, port: int, send: Send, receive: Receive) -> None:
    """SOCKS5 CONNECT by name (RFC 1928, 1929). Raises `ProxyRefused`."""

    async def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await receive(count - len(data))
            if not piece:
                raise ProxyRefused("the proxy closed the connection")
            data += piece
        return data

    try:
        name, user, password = (
            _counted(text)
            for text in (
                host.encode("idna"),
                (proxy.username or "").encode(),
                (proxy.password or "").encode(),
            )
        )
    except ValueError:
        raise ProxyRefused(
            "the name of the server, the user name or the password is too long to be sent"
        ) from None
    with_password = proxy.username is not None
    await send(b"\x05\x01\x02" if with_password else b"\x05\x01\x00")
    if await exactly(2) != (b"\x05\x02" if with_password else b"\x05\x00"):
        raise ProxyRefused("the proxy does not accept our way to log in")
    if with_password:
        await send(b"\x01" + user + password)
        if (await exactly(2))[1] != 0:
            raise ProxyRefused("the proxy refused the user name or password")
    await send(b"\x05\x01\x00\x03" + name + struct.pack("!H", port))
    head = await exactly(4)
    if head[1] != 0:
        raise ProxyRefused(f"the proxy answered with SOCKS error {head[1]}")
    length = {1: 4, 4: 16}.get(head[3]) or (await exactly(1))[0]
    await exactly(length + 2)


def _counted(text: bytes) -> bytes:
    """The text with its length before it, as SOCKS writes it. Raises `ValueError` above 255 bytes."""
    return bytes((len(text),)) + text


class Tunnels:
    """Opens tunnels, and owns the relays of those that need one."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._relays: set[asyncio.Task[None]] = set()

    async def open(self, sock: socket.socket, host: str, port: int) -> socket.socket:
        """Turn a socket to the proxy into one to the server. Raises `ProxyRefused`, `OSError`."""
        if self._proxy.scheme == "https":
            return await self._open_relayed(sock, host, port)
        loop = asyncio.get_running_loop()

        async def send(data: bytes) -> None:
            await loop.sock_sendall(sock, data)

        async def receive(count: int) -> bytes:
            return await loop.sock_recv(sock, count)

        ask = ask_connect if self._proxy.scheme == "http" else ask_socks5
        await ask(self._proxy, host, port, send, receive)
        return sock

    async def aclose(self) -> None:
        """End all relays."""
        for relay in self._relays:
            relay.cancel()
        if self._relays:
            await asyncio.wait(self._relays)

    async def _open_relayed(self, sock: socket.socket, host: str, port: int) -> socket.socket:
        context = ssl.create_default_context()
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname=self._proxy.host
        )

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            await ask_connect(self._proxy, host, port, send, reader.read)
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
        except BaseException:
            writer.transport.abort()
            raise
        relay = asyncio.create_task(_relay(theirs, reader, writer), name="kubewire proxy relay")
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)
        return ours


async def _relay(sock: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy both ways until either side ends; idle bounds are the business of who uses the tunnel."""
    near_reader, near_writer = await asyncio.open_connection(sock=sock)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(near_reader, writer), name="kubewire proxy relay out")
            group.create_task(_pump(reader, near_writer), name="kubewire proxy relay in")
    except* (OSError, _Ended):
        pass  # either end is the end of both
    finally:
        near_writer.transport.abort()
        writer.transport.abort()


class _Ended(Exception):
    """One side of a relay has ended."""


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise _Ended
