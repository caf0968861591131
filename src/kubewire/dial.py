"""From the name of a server to a connected socket.

Names are resolved in a thread of our own, one per server: `getaddrinfo` cannot be interrupted, and in the event
loop's shared executor a few dead name servers would stop everybody's look-ups. However many connections wait for the
same name, one thread does; when it never returns, only this server is affected.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kubewire.errors import KubeconfigInvalid, Reason
from kubewire.proxy import Proxy, ProxyRefused, Tunnels

Address = tuple[int, tuple[Any, ...]]  # family and socket address

_REMEMBER = 15.0  # seconds for which a resolved name counts


class Fault(Exception):
    """A connection could not be made or broke; the driver turns it into `Unreachable`, with endpoint and time."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason: Reason = reason
        self.detail = detail
        super().__init__(reason, detail)


@dataclass(slots=True)
class Attempt:
    """How far one request has come, so that a timeout can say what was waited for."""

    started: float
    phase: str = "obtaining credentials"
    dialled: bool = field(default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The parts of a server's URL."""

    scheme: str
    host: str
    port: int
    prefix: str  # path below which the API is served; empty for most

    @classmethod
    def parse(cls, url: str, source: str = "") -> Endpoint:
        """Read `https://host:port/prefix`. Raises `KubeconfigInvalid`."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise KubeconfigInvalid(source, f"the server's address is malformed: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise KubeconfigInvalid(source, "the server's address must look like https://HOST:PORT")
        if not parts.hostname.isascii():
            raise KubeconfigInvalid(source, "the server's name must be written in ASCII (xn--...)")
        if parts.username or parts.query or parts.fragment:
            raise KubeconfigInvalid(
                source, "the server's address must not hold a user, a query or a fragment"
            )
        default = 443 if parts.scheme == "https" else 80
        return cls(
            scheme=parts.scheme, host=parts.hostname, port=port or default, prefix=parts.path.rstrip("/")
        )

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """`host:port` as in URLs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"


class Resolver:
    """The addresses of one name."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._running: asyncio.Future[list[Address]] | None = None
        self._found: tuple[float, list[Address]] | None = None
        self._literal = _literal(host, port)

    async def addresses(self) -> list[Address]:
        """What the name resolves to. Raises `Fault("dns")`; waits as long as its caller lets it."""
        if self._literal is not None:
            return [self._literal]
        loop = asyncio.get_running_loop()
        if self._found is not None and loop.time() - self._found[0] < _REMEMBER:
            return self._found[1]
        if self._running is None or self._running.done():
            self._running = loop.create_future()
            self._running.add_done_callback(lambda future: future.exception())  # nobody may be left to look
            name = f"kubewire resolve {self._host}"
            threading.Thread(target=self._look_up, args=(loop, self._running), name=name, daemon=True).start()
        found = await asyncio.shield(self._running)
        self._found = (loop.time(), found)
        return found

    def forget(self) -> None:
        """The addresses did not work."""
        self._found = None

    def _look_up(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[list[Address]]) -> None:
        found: list[Address] = []
        fault: Fault | None = None
        try:
            answers = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            found = [(int(family), address) for family, _, _, _, address in answers]
        except (OSError, UnicodeError) as error:
            fault = Fault(
                "dns", error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            )

        def tell() -> None:
            if fault is not None:
                future.set_exception(fault)
            else:
                future.set_result(found)

        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


def _literal(host: str, port: int) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return socket.AF_INET, (host, port)
    return socket.AF_INET6, (host, port, 0, 0)


class Dialer:
    """Connected sockets to one endpoint, through its proxy if there is one."""

    def __init__(self, endpoint: Endpoint, proxy: Proxy | None = None) -> None:
        self._endpoint = endpoint
        self._tunnels = Tunnels(proxy) if proxy is not None else None
        self._proxied = proxy is not None
        near = proxy if proxy is not None else endpoint
        self._resolver = Resolver(near.host, near.port)
        self._last_good: Address | None = None

    async def connect(self, attempt: Attempt, timeout: float) -> socket.socket:
        """A socket on which the server will speak next. Raises `Fault`."""
        attempt.dialled = True
        try:
            async with asyncio.timeout(timeout):
                attempt.phase = "resolving the name"
                addresses = await self._resolver.addresses()
                attempt.phase = "connecting"
                sock = await self._first_of(addresses, timeout)
                try:
                    if self._tunnels is not None:
                        attempt.phase = "opening a tunnel through the proxy"
                        sock = await self._tunnels.open(sock, self._endpoint.host, self._endpoint.port)
                except BaseException:
                    sock.close()
                    raise
                return sock
        except Fault as fault:
            raise Fault("proxy", f"{fault.reason} {fault.detail}") if self._proxied else fault from None
        except ProxyRefused as refusal:
            raise Fault("proxy", str(refusal)) from None
        except TimeoutError:
            raise Fault("timeout", f"while {attempt.phase}") from None
        except OSError as error:
            raise Fault("proxy" if self._proxied else "reset", error.strerror or str(error)) from None

    async def aclose(self) -> None:
        """End what keeps tunnels open."""
        if self._tunnels is not None:
            await self._tunnels.aclose()

    async def _first_of(self, addresses: list[Address], timeout: float) -> socket.socket:
        """The first address that accepts, the one that did before first; each gets a fair share of the time."""
        if self._last_good in addresses:
            addresses = sorted(addresses, key=lambda address: address != self._last_good)
        deadline = asyncio.get_running_loop().time() + timeout
        fault = Fault("dns", "the name has no address")
        for index, address in enumerate(addresses):
            share = (deadline - asyncio.get_running_loop().time()) / (len(addresses) - index)
            try:
                async with asyncio.timeout(share):
                    sock = await _connect(address)
            except TimeoutError:
                fault = Fault("timeout", "while connecting")
            except OSError as error:
                fault = Fault("refused", error.strerror or str(error))
            else:
                self._last_good = address
                return sock
        self._resolver.forget()
        raise fault


async def _connect(address: Address) -> socket.socket:
    family, name = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, name)
    except BaseException:
        sock.close()
        raise
    return sock
