"""The HTTP driver against a server that behaves: connections, answers, retries that are none, prefixes, compression."""

import asyncio
import gzip
import logging
from collections.abc import Awaitable, Callable

import pytest

from kubewire.client import Client
from kubewire.deadlines import Deadlines
from kubewire.dial import Attempt, Dialer, Endpoint
from kubewire.errors import NotFound, StreamBroken, Unreachable
from kubewire.pool import read_body
from kubewire.requests import Request
from kubewire.resources import PODS
from kubewire.testing import Exchange, http_server, tcp_server
from kubewire.wire import Wire

pytestmark = pytest.mark.anyio

Make = Callable[..., Client]
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


async def test_one_connection_serves_many_calls(client_for: Make) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(200, {"major": "1"})

    async with http_server(handler) as server:
        client = client_for(server.url)
        for _ in range(5):
            assert await client.version() == {"major": "1"}
        assert server.connections == 1
        assert len(server.requests) == 5


async def test_calls_at_the_same_time_have_a_connection_each(client_for: Make) -> None:
    together = asyncio.Barrier(10)

    async def handler(exchange: Exchange) -> None:
        await together.wait()
        await exchange.reply(200, {})

    async with http_server(handler) as server:
        client = client_for(server.url)
        await asyncio.gather(*(client.get(PODS, "p", "default") for _ in range(10)))
        assert server.connections == 10


async def test_a_read_goes_on_when_the_kept_connection_has_died(client_for: Make) -> None:
    asked = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            exchange.reset()
        else:
            await exchange.reply(200, {"asked": asked})

    async with http_server(handler) as server:
        client = client_for(server.url)
        assert await client.get(PODS, "p", "default") == {"asked": 1}
        assert await client.get(PODS, "p", "default") == {"asked": 3}


async def test_a_change_is_never_sent_twice(client_for: Make) -> None:
    changes = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal changes
        if exchange.request.method == "GET":
            await exchange.reply(200, {})
            return
        changes += 1
        exchange.reset()

    async with http_server(handler) as server:
        client = client_for(server.url)
        await client.get(PODS, "p", "default")
        with pytest.raises(Unreachable) as caught:
            await client.create(PODS, {"metadata": {"name": "p"}}, "default")
        assert caught.value.reason == "reset"
        assert changes == 1


async def test_a_call_that_timed_out_does_not_poison_the_next(client_for: Make, quick: Deadlines) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request.path.endswith("/slow"):
            await exchange.hang()
        await exchange.reply(200, {"path": exchange.request.path})

    async with http_server(handler) as server:
        client = client_for(server.url, quick)
        for _ in range(3):
            with pytest.raises(Unreachable):
                await client.get(PODS, "slow", "default")
            assert (await client.get(PODS, "quick", "default"))["path"].endswith("/quick")


async def test_a_cancelled_call_leaves_the_client_usable(client_for: Make) -> None:
    asked = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        if exchange.request.path.endswith("/slow"):
            asked.set()
            await exchange.hang()
        await exchange.reply(200, {})

    async with http_server(handler) as server:
        client = client_for(server.url)
        call = asyncio.create_task(client.get(PODS, "slow", "default"))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await client.get(PODS, "quick", "default") == {}


async def test_a_connection_on_which_the_server_speaks_unasked_is_not_used_again(
    eventually: Eventually,
) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        await reader.read()

    async with tcp_server(behave) as server:
        dialer = Dialer(Endpoint.parse(server.url))
        wire = await Wire.open(await dialer.connect(Attempt(started=0.0), 5.0), None, "")
        assert not wire.get_extra_info("is_readable")
        await wire.write(b"x")
        await eventually(lambda: bool(wire.get_extra_info("is_readable")))
        await wire.aclose()


async def test_an_answer_in_chunks_and_compressed_is_read_whole(client_for: Make) -> None:
    data = gzip.compress(b'{"items": [' + b",".join([b'{"a": "b"}'] * 10_000) + b"]}")

    async def handler(exchange: Exchange) -> None:
        await exchange.start(200, {"content-encoding": "gzip"})
        for start in range(0, len(data), 100):
            await exchange.chunk(data[start : start + 100])
        await exchange.end()

    async with http_server(handler) as server:
        assert len((await client_for(server.url).list(PODS, "default")).items) == 10_000


async def test_compression_is_asked_for_except_on_this_machine(client_for: Make) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(200, {})

    async with http_server(handler) as server:
        await client_for(server.url).version()
        await client_for(server.url.replace("127.0.0.1", "localhost")).version()
        await client_for(server.url.replace("127.0.0.1", "localhost"), disable_compression=True).version()
    assert [request.headers.get("accept-encoding") for request in server.requests] == [None, "gzip", None]


async def test_a_compressed_answer_that_breaks_off_is_no_answer(client_for: Make) -> None:
    data = gzip.compress(b"{}" * 1000)[:-4]

    async def handler(exchange: Exchange) -> None:
        await exchange.reply(200, data, {"content-encoding": "gzip"})

    async with http_server(handler) as server:
        with pytest.raises(Unreachable) as caught:
            await client_for(server.url).version()
    assert caught.value.reason == "reset"


async def test_an_answer_that_would_not_fit_into_memory_is_refused(
    client_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = gzip.compress(b" " * 10_000_000)

    async def handler(exchange: Exchange) -> None:
        await exchange.reply(200, bomb, {"content-encoding": "gzip"})

    monkeypatch.setattr(read_body, "__defaults__", (1_000_000,))
    async with http_server(handler) as server:
        with pytest.raises(Unreachable, match="larger than 1000000 bytes"):
            await client_for(server.url).version()


async def test_a_server_may_live_below_a_prefix(client_for: Make) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(200, {})

    async with http_server(handler) as server:
        await client_for(f"{server.url}/k8s/clusters/c-1/").get(PODS, "p", "default")
    assert server.requests[0].path == "/k8s/clusters/c-1/api/v1/namespaces/default/pods/p"
    assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


async def test_a_redirect_is_not_followed(client_for: Make) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(302, b"", {"location": "https://login.example/"})

    async with http_server(handler) as server:
        with pytest.raises(Unreachable, match=r"redirects to https://login\.example/"):
            await client_for(server.url).version()


async def test_an_error_page_of_a_proxy_is_quoted(client_for: Make) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(404, b"404 page\n  not found")

    async with http_server(handler) as server:
        with pytest.raises(NotFound, match="404 page not found"):
            await client_for(server.url).version()


async def test_a_stream_gives_pieces_as_they_come(client_for: Make) -> None:
    go_on = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.chunk(b"one\n")
        await go_on.wait()
        await exchange.chunk(b"two\n")
        await exchange.end()

    async with http_server(handler) as server:
        pieces = []
        async for piece in client_for(server.url).logs("p", "default", follow=True):
            pieces.append(piece)
            go_on.set()
    assert pieces == [b"one\n", b"two\n"]


async def test_a_stream_that_falls_silent_is_broken(client_for: Make, quick: Deadlines) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.chunk(b"one\n")
        await exchange.hang()

    async with http_server(handler) as server:
        logs = client_for(server.url, quick).logs("p", "default", follow=True)
        assert await anext(logs) == b"one\n"
        with pytest.raises(StreamBroken, match=r"sent nothing for 0\.5 s"):
            await anext(logs)


async def test_leaving_a_stream_closes_its_connection(client_for: Make) -> None:
    closed = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n")
        await reader.read()
        closed.set()

    async with tcp_server(behave) as server:
        client = client_for(server.url)
        logs = client.logs("p", "default", follow=True)
        assert await anext(logs) == b"one\n"
        await logs.aclose()
        async with asyncio.timeout(5):
            await closed.wait()


async def test_a_large_body_is_taken_while_the_loop_goes_on(client_for: Make) -> None:
    body = b'{"x": "' + b"y" * 30_000_000 + b'"}'

    async def handler(exchange: Exchange) -> None:
        await exchange.reply(200, body)

    async with http_server(handler) as server:
        client = client_for(server.url)
        response = await client.raw(Request(method="GET", path="/big"), 20.0)
    assert response.body == body


async def test_a_large_body_is_sent_whole(client_for: Make) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(200, {"length": len(exchange.request.body)})

    async with http_server(handler) as server:
        request = Request(method="POST", path="/big", body=b"z" * 5_000_000)
        assert (await client_for(server.url).raw(request, 20.0)).json() == {"length": 5_000_000}


async def test_a_closed_client_is_not_used_again(client_for: Make) -> None:
    client = client_for("http://127.0.0.1:1")
    await client.aclose()
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await client.version()


async def test_no_request_is_logged_with_its_token(
    client_for: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(404, {"kind": "Status", "code": 404, "reason": "NotFound"})

    caplog.set_level(logging.DEBUG)
    async with http_server(handler) as server:
        client = client_for(server.url, token="s3cr3t-token")
        with pytest.raises(NotFound):
            await client.version()
        with pytest.raises(NotFound):
            async with client.exec("p", "default", ["true"]):
                pass
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer s3cr3t-token"] * 2
    assert "s3cr3t-token" not in caplog.text
