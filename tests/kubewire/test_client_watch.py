"""Watching through the client: what happens between connections."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from kubewire.client import Client
from kubewire.deadlines import Deadlines
from kubewire.errors import Forbidden, KubeError, Unreachable
from kubewire.resources import PODS
from kubewire.testing import Exchange, broken, http_server

pytestmark = pytest.mark.anyio

Make = Callable[..., Client]
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


def pod(name: str, version: int) -> dict[str, Any]:
    """A pod as the server gives it."""
    return {"kind": "Pod", "metadata": {"name": name, "resourceVersion": str(version)}}


def event(kind: str, obj: dict[str, Any]) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


class Script:
    """An API server with a list and, for each watch in turn, what it sends."""

    def __init__(self, *watches: bytes | int, items: Iterator[list[dict[str, Any]]] | None = None) -> None:
        self.watches = iter(watches)
        self.items = items or iter([[]])
        self.version = 10

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.request.one("watch") != "true":
            metadata = {"resourceVersion": str(self.version)}
            await exchange.reply(200, {"metadata": metadata, "items": next(self.items)})
            return
        sent = next(self.watches, None)
        if isinstance(sent, int):
            reasons = {403: "Forbidden", 410: "Expired", 503: "ServiceUnavailable"}
            await exchange.reply(
                sent, {"kind": "Status", "code": sent, "reason": reasons[sent], "message": "no"}
            )
            return
        await exchange.start()
        if sent is None:
            await exchange.hang()
        await exchange.chunk(sent or b"\n")
        await exchange.end()


async def take(client: Client, count: int, **options: Any) -> list[tuple[str, str]]:
    """The first events, as types and names."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(20), aclosing(client.watch(PODS, "a", **options)) as events:
        async for each in events:
            found.append((each.type, each.object.get("metadata", {}).get("name", "")))
            if len(found) == count:
                break
    return found


async def test_it_lists_first_then_follows(client_for: Make) -> None:
    script = Script(event("MODIFIED", pod("p", 11)), items=iter([[pod("p", 5), pod("q", 6)]]))
    async with http_server(script) as server:
        assert await take(client_for(server.url), 4, label_selector="x=y") == [
            ("ADDED", "p"),
            ("ADDED", "q"),
            ("BOOKMARK", ""),
            ("MODIFIED", "p"),
        ]
    listed, watched = server.requests
    assert listed.one("labelSelector") == watched.one("labelSelector") == "x=y"
    assert watched.one("resourceVersion") == "10"
    assert watched.one("timeoutSeconds") == "300"
    assert watched.one("allowWatchBookmarks") == "true"


async def test_it_goes_on_where_a_connection_ended(client_for: Make) -> None:
    script = Script(
        event("ADDED", pod("p", 11)) + event("BOOKMARK", pod("", 20)),
        event("ADDED", pod("q", 21)),
        503,
        event("DELETED", pod("q", 22)),
    )
    async with http_server(script) as server:
        assert await take(client_for(server.url), 3, resource_version="10") == [
            ("ADDED", "p"),
            ("ADDED", "q"),
            ("DELETED", "q"),
        ]
    assert [request.one("resourceVersion") for request in server.requests] == ["10", "20", "21", "21"]


@pytest.mark.parametrize("way", ["status", "event"])
async def test_changes_that_were_missed_come_as_one_relisting(client_for: Make, way: str) -> None:
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    expired: bytes | int = 410 if way == "status" else event("ERROR", gone)
    script = Script(expired, event("ADDED", pod("q", 12)), items=iter([[pod("p", 9)], [pod("r", 11)]]))
    async with http_server(script) as server:
        client = client_for(server.url)
        async with asyncio.timeout(20), aclosing(client.watch(PODS, "a")) as events:
            assert [(await anext(events)).type for _ in range(2)] == ["ADDED", "BOOKMARK"]
            relisted = await anext(events)
            assert relisted.type == "RELISTED"
            assert [item["metadata"]["name"] for item in relisted.object["items"]] == ["r"]
            assert (await anext(events)).object["metadata"]["name"] == "q"


async def test_what_will_not_mend_itself_is_raised(client_for: Make) -> None:
    async with http_server(Script(403)) as server:
        with pytest.raises(Forbidden):
            await take(client_for(server.url), 1, resource_version="10")


async def test_a_watch_that_falls_silent_is_resumed(client_for: Make, quick: Deadlines) -> None:
    asked = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal asked
        asked += 1
        await exchange.start()
        await exchange.chunk(event("ADDED", pod(f"p{asked}", 10 + asked)))
        await exchange.hang()

    async with http_server(handler) as server:
        assert await take(client_for(server.url, quick), 2, resource_version="10") == [
            ("ADDED", "p1"),
            ("ADDED", "p2"),
        ]
    assert [request.one("resourceVersion") for request in server.requests] == ["10", "11"]


async def test_watches_that_end_at_once_do_not_spin(client_for: Make) -> None:
    async with http_server(Script(*[b"\n"] * 1000)) as server:
        with pytest.raises(KubeError, match="ends each watch"):
            await take(client_for(server.url), 1, resource_version="10", patience=1.0)
    assert 2 <= len(server.requests) <= 12


@pytest.mark.parametrize("kind", ["refused", "silent", "dns"])
async def test_patience_ends_a_watch_that_cannot_be_had(
    client_for: Make, quick: Deadlines, kind: str
) -> None:
    async with broken(kind) as url:
        started = time.monotonic()
        with pytest.raises(Unreachable):
            await take(client_for(url, quick), 1, patience=1.0)
        assert 0.9 <= time.monotonic() - started < 6.0


async def test_patience_counts_from_the_last_thing_that_worked(client_for: Make, quick: Deadlines) -> None:
    script = Script(event("ADDED", pod("p", 11)), *[503] * 1000)
    async with http_server(script) as server:
        client = client_for(server.url, quick)
        async with (
            asyncio.timeout(20),
            aclosing(client.watch(PODS, "a", resource_version="1", patience=0.5)) as events,
        ):
            assert (await anext(events)).type == "ADDED"
            with pytest.raises(KubeError, match="no"):
                await anext(events)


async def test_silence_is_no_failure_that_patience_counts(client_for: Make, quick: Deadlines) -> None:
    deadlines = quick.override({"stream_idle": 1.2})
    async with (
        http_server(Script()) as server,
        asyncio.timeout(20),
        aclosing(client_for(server.url, deadlines).watch(PODS, "a", patience=0.1)) as events,
    ):
        assert (await anext(events)).complete
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.wait([waiting], timeout=3.0)
        assert not waiting.done()
        assert len([request for request in server.requests if request.one("watch")]) >= 2
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_dropped_watch_is_retried_until_it_works_again(client_for: Make, quick: Deadlines) -> None:
    async with broken("dropping-watch") as url:
        client = client_for(url, quick)
        async with asyncio.timeout(20), aclosing(client.watch(PODS, "a", patience=0.8)) as events:
            assert (await anext(events)).complete
            with pytest.raises(KubeError):
                await anext(events)


async def test_leaving_the_loop_ends_everything_that_served_it(
    client_for: Make, eventually: Eventually
) -> None:
    before = len(asyncio.all_tasks())
    async with http_server(Script(items=iter([[pod("p", 5)]]))) as server:
        client = client_for(server.url)
        assert await take(client, 2) == [("ADDED", "p"), ("BOOKMARK", "")]
        waiting = asyncio.create_task(take(client, 1, resource_version="10"))
        await eventually(lambda: len(server.requests) == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await client.aclose()
    await eventually(lambda: len(asyncio.all_tasks()) <= before)
