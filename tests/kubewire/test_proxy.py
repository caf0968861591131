"""Proxies: real ones on loopback that tunnel, ask for a password, or refuse."""

import asyncio
import base64
import contextlib
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable

import pytest

from kubewire.client import Client
from kubewire.deadlines import Deadlines
from kubewire.errors import ConfigError, Unreachable
from kubewire.proxy import Proxy, from_environment
from kubewire.testing import Authority, Exchange, Process, broken, http_server, stream_server, tcp_server

pytestmark = pytest.mark.anyio

Make = Callable[..., Client]


async def hello(exchange: Exchange) -> None:
    """An API server that is glad to be found."""
    await exchange.reply(200, {"hello": True})


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """Copies both ways."""
    far_reader, far_writer = await asyncio.open_connection(host, port)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    try:
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
    finally:
        far_writer.transport.abort()


@contextlib.asynccontextmanager
async def http_proxy(
    asked: list[str], *, password: str | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """An HTTP proxy; `asked` is what it was asked for."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        asked.append(target)
        wanted = base64.b64encode(f"user:{password}".encode()).decode()
        if password is not None and f"Proxy-Authorization: Basic {wanted}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        assert method == "CONNECT"
        host, port = target.rsplit(":", 1)
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
        await tunnel(reader, writer, "127.0.0.1" if host == "api.invalid" else host, int(port))

    async with tcp_server(behave, tls=tls) as server:
        yield f"{'https' if tls else 'http'}://user:{password or ''}@127.0.0.1:{server.port}"


@contextlib.asynccontextmanager
async def socks_proxy(asked: list[str], *, password: str | None = None, error: int = 0) -> AsyncIterator[str]:
    """A SOCKS5 proxy."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        if password is not None:
            assert methods == b"\x02"
            writer.write(b"\x05\x02")
            _, length = await reader.readexactly(2)
            assert await reader.readexactly(length) == b"user"
            (length,) = await reader.readexactly(1)
            right = await reader.readexactly(length) == password.encode()
            writer.write(b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return
        else:
            writer.write(b"\x05\x00")
        assert await reader.readexactly(4) == b"\x05\x01\x00\x03"
        (length,) = await reader.readexactly(1)
        host = (await reader.readexactly(length)).decode()
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        asked.append(f"{host}:{port}")
        writer.write(bytes((5, error, 0, 1)) + b"\x00" * 6)
        if not error:
            await tunnel(reader, writer, "127.0.0.1" if host == "api.invalid" else host, port)

    async with tcp_server(behave) as server:
        login = f"user:{password}@" if password is not None else ""
        yield f"socks5://{login}127.0.0.1:{server.port}"


@pytest.mark.parametrize("make_proxy", [http_proxy, socks_proxy])
@pytest.mark.parametrize("password", [None, "pa:ss"])
async def test_calls_go_through_a_proxy_that_resolves_the_name(
    client_for: Make,
    authority: Authority,
    make_proxy: Callable[..., contextlib.AbstractAsyncContextManager[str]],
    password: str | None,
) -> None:
    asked: list[str] = []
    tls = authority.server_context("api.invalid")
    async with http_server(hello, tls=tls) as server, make_proxy(asked, password=password) as proxy:
        client = client_for(
            f"https://api.invalid:{server.port}",
            ca_data=authority.certificate,
            proxy_url=proxy.replace("pa:ss", "pa%3Ass"),
        )
        assert await client.version() == {"hello": True}
        assert asked == [f"api.invalid:{server.port}"]


async def test_channels_go_through_the_proxy_too(client_for: Make) -> None:
    async def far_end(process: Process) -> None:
        await process.exit(4)

    asked: list[str] = []
    async with (
        stream_server(far_end) as url,
        http_proxy(asked) as proxy,
        client_for(url, proxy_url=proxy).exec("p", "a", ["x"]) as session,
    ):
        assert await session.exit_code() == 4
    assert len(asked) == 1


async def test_a_proxy_may_speak_tls_itself(
    client_for: Make, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trusting() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authority.certificate.decode())
        return context

    monkeypatch.setattr(ssl, "create_default_context", trusting)
    asked: list[str] = []
    tls = authority.server_context("127.0.0.1")
    async with http_server(hello, tls=tls) as server, http_proxy(asked, tls=tls) as proxy:
        client = client_for(server.url, ca_data=authority.certificate, proxy_url=proxy)
        for _ in range(3):
            assert await client.version() == {"hello": True}
        await client.aclose()
    assert asked == [f"127.0.0.1:{server.port}"]


@pytest.mark.parametrize("make_proxy", [http_proxy, socks_proxy])
async def test_a_wrong_password_is_an_error_of_the_proxy_and_never_shown(
    client_for: Make, make_proxy: Callable[..., contextlib.AbstractAsyncContextManager[str]]
) -> None:
    async with make_proxy([], password="right") as proxy:
        client = client_for("http://api.invalid", proxy_url=proxy.replace("right", "wr0ng"))
        with pytest.raises(Unreachable, match="the proxy") as caught:
            await client.version()
    assert caught.value.reason == "proxy"
    assert "wr0ng" not in str(caught.value)


async def test_a_proxy_that_cannot_reach_the_server_says_so(client_for: Make) -> None:
    async with socks_proxy([], error=5) as proxy:
        with pytest.raises(Unreachable, match="SOCKS error 5") as caught:
            await client_for("http://api.invalid", proxy_url=proxy).version()
    assert caught.value.reason == "proxy"


async def test_a_name_that_socks_cannot_carry_is_an_error_of_the_proxy(client_for: Make) -> None:
    async with socks_proxy([]) as proxy:
        with pytest.raises(Unreachable, match="too long") as caught:
            await client_for(f"http://{'a' * 64}.example", proxy_url=proxy).version()
    assert caught.value.reason == "proxy"


@pytest.mark.parametrize("kind", ["silent", "unaccepted", "drip"])
async def test_a_proxy_that_is_silent_is_inside_the_deadline(
    client_for: Make, quick: Deadlines, kind: str
) -> None:
    options = {"pause": 0.05, "head": True} if kind == "drip" else {}
    async with broken(kind, **options) as proxy:
        started = time.monotonic()
        with pytest.raises(Unreachable):
            await client_for("http://api.invalid", quick, proxy_url=proxy).version()
        assert time.monotonic() - started < 4.0


@pytest.mark.parametrize("kind", ["refused", "reset", "closed", "garbage"])
async def test_a_broken_proxy_is_told_from_a_broken_server(client_for: Make, kind: str) -> None:
    async with broken(kind) as proxy:
        with pytest.raises(Unreachable) as caught:
            await client_for("http://api.invalid", proxy_url=proxy).version()
    assert caught.value.reason == "proxy"


def test_the_url_of_a_proxy_is_read_and_its_password_hidden() -> None:
    proxy = Proxy.parse("https://me:s%40crt@proxy.example:8443")
    assert (proxy.scheme, proxy.host, proxy.port) == ("https", "proxy.example", 8443)
    assert (proxy.username, proxy.password) == ("me", "s@crt")
    assert "s@crt" not in repr(proxy)
    assert Proxy.parse("proxy.example:3128").port == 3128
    assert Proxy.parse("socks5h://p").port == 1080
    for wrong in ("ftp://me:s3cr3t@p", "http://p:port", "http://"):
        with pytest.raises(ConfigError) as caught:
            Proxy.parse(wrong)
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "environ", "expected"),
    [
        ("api.example", {}, None),
        ("api.example", {"HTTPS_PROXY": "http://p"}, "http://p"),
        ("api.example", {"https_proxy": "http://low", "HTTPS_PROXY": "http://up"}, "http://low"),
        ("api.example", {"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, None),
        ("api.example", {"HTTPS_PROXY": "http://p", "no_proxy": " other, .example "}, None),
        ("api.example", {"HTTPS_PROXY": "http://p", "NO_PROXY": "example"}, None),
        ("api.example", {"HTTPS_PROXY": "http://p", "NO_PROXY": "ample"}, "http://p"),
        ("10.1.2.3", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, None),
        ("10.1.2.3", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.1.2.4,x.example"}, "http://p"),
        ("127.0.0.1", {"HTTPS_PROXY": "http://p"}, None),
        ("localhost", {"HTTPS_PROXY": "http://p"}, None),
        ("::1", {"HTTPS_PROXY": "http://p"}, None),
    ],
)
def test_which_proxy_the_environment_names(host: str, environ: dict[str, str], expected: str | None) -> None:
    assert from_environment("https", host, environ) == expected


def test_in_a_cgi_program_the_upper_case_variable_is_ignored_for_http() -> None:
    environ = {"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}
    assert from_environment("http", "api.example", environ) is None
    assert from_environment("http", "api.example", {"HTTP_PROXY": "http://p"}) == "http://p"
