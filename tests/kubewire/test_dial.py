"""From a name to a socket: name servers that hang, hosts with several addresses, addresses that are none."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from kubewire.client import Client
from kubewire.deadlines import Deadlines
from kubewire.dial import Attempt, Dialer, Endpoint, Fault
from kubewire.errors import KubeconfigInvalid, Unreachable
from kubewire.testing import Exchange, http_server, tcp_server

pytestmark = pytest.mark.anyio

Make = Callable[..., Client]
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


class NameServer:
    """Stands for getaddrinfo: answers for the names that it knows, and hangs for `hanging.example`."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.asked: list[str] = []
        self.known: dict[str, list[str]] = {}

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        if host == "hanging.example":
            self.release.wait(30)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.known[host]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """Takes the place of the system's resolver."""
    server = NameServer()
    monkeypatch.setattr("kubewire.dial.socket.getaddrinfo", server)
    yield server
    server.release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("kubewire resolve"):
            thread.join(10)


async def hello(exchange: Exchange) -> None:
    """Answers."""
    await exchange.reply(200, {})


async def test_a_name_server_that_hangs_is_inside_the_deadline_and_costs_one_thread(
    client_for: Make, quick: Deadlines, names: NameServer
) -> None:
    client = client_for("http://hanging.example", quick)
    threads = threading.active_count()
    for _ in range(2):
        started = time.monotonic()
        answers = await asyncio.gather(*(client.version() for _ in range(20)), return_exceptions=True)
        assert time.monotonic() - started < 3.0
        assert all(
            isinstance(answer, Unreachable) and "resolving the name" in str(answer) for answer in answers
        )
    assert threading.active_count() == threads + 1
    assert names.asked == ["hanging.example"]


async def test_names_of_healthy_servers_resolve_while_others_hang(
    client_for: Make, quick: Deadlines, names: NameServer
) -> None:
    names.known["good.example"] = ["127.0.0.1"]
    stuck = [
        client_for("http://hanging.example", quick) for _ in range(12)
    ]  # more than the shared executor has threads
    calls = asyncio.gather(*(client.version() for client in stuck), return_exceptions=True)
    async with http_server(hello) as server:
        assert await client_for(f"http://good.example:{server.port}").version() == {}
    assert not calls.done()
    await calls


async def test_a_name_that_does_not_resolve_is_asked_for_again(client_for: Make, names: NameServer) -> None:
    async with http_server(hello) as server:
        client = client_for(f"http://late.example:{server.port}")
        with pytest.raises(Unreachable, match="not known") as caught:
            await client.version()
        assert caught.value.reason == "dns"
        names.known["late.example"] = ["127.0.0.1"]
        assert await client.version() == {}


async def test_the_next_address_is_tried_and_remembered(names: NameServer, eventually: Eventually) -> None:
    names.known["two.example"] = ["127.0.0.2", "127.0.0.1"]

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with tcp_server(behave) as server:  # listens on 127.0.0.1 only
        dialer = Dialer(Endpoint.parse(f"http://two.example:{server.port}"))
        for _ in range(2):
            with await dialer.connect(Attempt(started=0.0), 5.0) as sock:
                assert sock.getpeername() == ("127.0.0.1", server.port)
        await eventually(lambda: server.connections == 2)
        assert names.asked == ["two.example"]


async def test_when_no_address_accepts_the_name_is_looked_up_anew(
    names: NameServer, eventually: Eventually
) -> None:
    names.known["moved.example"] = ["127.0.0.2"]

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with tcp_server(behave) as server:
        dialer = Dialer(Endpoint.parse(f"http://moved.example:{server.port}"))
        with pytest.raises(Fault) as caught:
            await dialer.connect(Attempt(started=0.0), 5.0)
        assert caught.value.reason == "refused"
        names.known["moved.example"] = ["127.0.0.1"]
        (await dialer.connect(Attempt(started=0.0), 5.0)).close()
        await eventually(lambda: server.connections == 1)


async def test_a_name_without_addresses_does_not_resolve(names: NameServer) -> None:
    names.known["empty.example"] = []
    with pytest.raises(Fault, match="no address"):
        await Dialer(Endpoint.parse("http://empty.example")).connect(Attempt(started=0.0), 5.0)


async def test_an_address_needs_no_name_server(client_for: Make, names: NameServer) -> None:
    async with http_server(hello) as server:
        await client_for(server.url).version()
    assert names.asked == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a", ("https", "a", 443, "", "https://a:443")),
        ("http://a:8001/", ("http", "a", 8001, "", "http://a:8001")),
        (
            "https://[fd00::1]:6443/k8s/x/",
            ("https", "fd00::1", 6443, "/k8s/x", "https://[fd00::1]:6443/k8s/x"),
        ),
    ],
)
def test_the_address_of_a_server_is_read(url: str, expected: tuple[str, str, int, str, str]) -> None:
    endpoint = Endpoint.parse(url)
    assert (endpoint.scheme, endpoint.host, endpoint.port, endpoint.prefix, str(endpoint)) == expected


@pytest.mark.parametrize(
    "url", ["a:6443", "ftp://a", "https://", "https://a:x", "https://u:p@a", "https://a?b", "https://\u00fc"]
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(KubeconfigInvalid, match=r"address|ASCII"):
        Endpoint.parse(url, "config")
