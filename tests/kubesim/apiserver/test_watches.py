"""Watches: each change once and in order, for as long as the client wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.apiserver.serve import serve
from kubesim.store import HistoryLimits, open_store
from kubewire.client import Client
from kubewire.http import HttpTransport
from kubewire.requests import Request
from kubewire.resources import CONFIG_MAPS, SECRETS

from .conftest import configmap, plain

pytestmark = pytest.mark.anyio

PATH = "/api/v1/namespaces/default/configmaps"


async def lines(client: Client, **query: str) -> AsyncIterator[dict[str, Any]]:
    """The raw events of one watch request."""
    request = Request(
        method="GET",
        path=PATH,
        query=(("watch", "1"), *query.items()),
        headers={"accept": "application/json"},
    )
    async with client.transport.stream(request, connect=5, idle=30) as stream:
        rest = b""
        async for chunk in stream.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield orjson.loads(line)


async def take(events: AsyncIterator[dict[str, Any]], count: int) -> list[tuple[str, str]]:
    async with asyncio.timeout(10):
        found = [await anext(events) for _ in range(count)]
    return [(e["type"], e["object"]["metadata"]["name"]) for e in found]


async def test_a_watch_from_a_list_sees_each_change_once(client: Client) -> None:
    start = (await client.list(CONFIG_MAPS, "default")).resource_version
    await client.create(CONFIG_MAPS, configmap("a"), "default")
    events = lines(client, resourceVersion=start)
    assert await take(events, 1) == [("ADDED", "a")]
    await client.patch(CONFIG_MAPS, "a", {"data": {"k": "v"}}, "default")
    await client.create(SECRETS, {"metadata": {"name": "other"}}, "default")
    await client.delete(CONFIG_MAPS, "a", "default")
    assert await take(events, 2) == [("MODIFIED", "a"), ("DELETED", "a")]
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_deletion_has_the_last_state_under_the_version_of_the_deletion(client: Client) -> None:
    created = await client.create(CONFIG_MAPS, configmap("a", k="v"), "default")
    version = created["metadata"]["resourceVersion"]
    await client.delete(CONFIG_MAPS, "a", "default")
    events = lines(client, resourceVersion=version)
    event = await anext(events)
    assert event["type"] == "DELETED"
    assert event["object"]["data"] == {"k": "v"}
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)
    await events.aclose()  # type: ignore[attr-defined]


async def test_without_a_version_a_watch_begins_with_what_there_is(client: Client) -> None:
    await client.create(CONFIG_MAPS, configmap("a"), "default")
    events = lines(client, timeoutSeconds="1")
    assert [e async for e in _named(events)] == [("ADDED", "a")]


async def _named(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[tuple[str, str]]:
    async for event in events:
        yield event["type"], event["object"]["metadata"]["name"]


async def test_a_list_by_watch_ends_with_a_bookmark_that_says_so(client: Client) -> None:
    await client.create(CONFIG_MAPS, configmap("a"), "default")
    query = {
        "sendInitialEvents": "true",
        "allowWatchBookmarks": "true",
        "resourceVersionMatch": "NotOlderThan",
    }
    events = lines(client, **query)
    added, bookmark = await anext(events), await anext(events)
    assert added["type"] == "ADDED"
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    await events.aclose()  # type: ignore[attr-defined]


async def test_with_a_selector_objects_come_and_go_by_it(client: Client) -> None:
    await client.create(CONFIG_MAPS, configmap("a"), "default")
    start = (await client.list(CONFIG_MAPS, "default")).resource_version
    events = lines(client, resourceVersion=start, labelSelector="l=1")
    for label in ("1", "1", "2", "1"):
        change = {"metadata": {"labels": {"l": label, "n": f"{id(label)}-{start}"}}}
        await client.patch(CONFIG_MAPS, "a", {**change, "data": {"k": label}}, "default")
    await client.patch(CONFIG_MAPS, "a", {"data": {"k": "last"}}, "default")
    await client.delete(CONFIG_MAPS, "a", "default")
    types = [kind for kind, _ in await take(events, 5)]
    assert types == ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"]
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_version_that_is_forgotten_is_answered_with_410() -> None:
    store = open_store("memory", limits=HistoryLimits(changes=5))
    api = ApiServer(store)
    await api.start()
    client = Client(InProcessTransport(api))
    for number in range(10):
        await client.create(CONFIG_MAPS, configmap(f"c{number}"), "default")
    events = lines(client, resourceVersion="9")
    event = await anext(events)
    assert event["type"] == "ERROR"
    assert event["object"]["code"] == 410
    assert event["object"]["reason"] == "Expired"
    assert [e async for e in events] == []
    await store.close()


async def test_a_page_that_is_forgotten_can_be_continued_inconsistently() -> None:
    store = open_store("memory", limits=HistoryLimits(changes=5))
    api = ApiServer(store)
    await api.start()
    transport = InProcessTransport(api)
    client = Client(transport)
    for name in "abc":
        await client.create(CONFIG_MAPS, configmap(name), "default")

    async def page(**query: str) -> dict[str, Any]:
        request = Request(method="GET", path=PATH, query=(("limit", "1"), *query.items()))
        return (await transport.send(request, timeout=5)).json()

    token = (await page())["metadata"]["continue"]
    for number in range(10):
        await client.create(CONFIG_MAPS, configmap(f"x{number}"), "default")
    expired = await page(**{"continue": token})
    assert expired["code"] == 410
    went_on = await page(**{"continue": expired["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in went_on["items"]] == ["b"]
    await store.close()


async def test_the_client_library_mirrors_what_happens(client: Client) -> None:
    mirror: dict[str, str] = {}

    async def follow() -> None:
        async for event in client.watch(CONFIG_MAPS, "default"):
            if event.type == "BOOKMARK":
                continue
            name = event.object["metadata"]["name"]
            if event.type == "DELETED":
                mirror.pop(name, None)
            else:
                mirror[name] = event.object["data"]["k"]
            changed.set()

    changed = asyncio.Event()
    await client.create(CONFIG_MAPS, configmap("a", k="1"), "default")
    following = asyncio.ensure_future(follow())
    await client.create(CONFIG_MAPS, configmap("b", k="2"), "default")
    await client.patch(CONFIG_MAPS, "a", {"data": {"k": "3"}}, "default")
    await client.create(CONFIG_MAPS, configmap("c", k="4"), "default")
    await client.delete(CONFIG_MAPS, "b", "default")
    async with asyncio.timeout(10):
        while mirror != {"a": "3", "c": "4"}:
            await changed.wait()
            changed.clear()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_many_watchers_all_see_everything(api: ApiServer) -> None:
    client = Client(InProcessTransport(api))
    start = (await client.list(CONFIG_MAPS, "default")).resource_version
    watches = [lines(client, resourceVersion=start) for _ in range(50)]
    readers = [asyncio.ensure_future(take(events, 20)) for events in watches]
    for number in range(20):
        await client.create(CONFIG_MAPS, configmap(f"c{number:02}"), "default")
    for seen in await asyncio.gather(*readers):
        assert seen == [("ADDED", f"c{number:02}") for number in range(20)]
    for events in watches:
        await events.aclose()  # type: ignore[attr-defined]


async def test_draining_ends_watches_cleanly_and_refuses_new_ones(client: Client, api: ApiServer) -> None:
    await client.create(CONFIG_MAPS, configmap("a"), "default")
    events = lines(client)
    assert await take(events, 1) == [("ADDED", "a")]
    api.drain()
    async with asyncio.timeout(5):
        assert [e async for e in events] == []
    request = Request(method="GET", path=PATH, query=(("watch", "1"),))
    async with client.transport.stream(request, connect=5, idle=5) as refused:
        assert refused.status == 503


async def test_a_watch_of_a_client_that_is_gone_is_given_up(api: ApiServer) -> None:
    serving = await serve(api)
    async with Client(HttpTransport(plain(serving))) as client:
        events = lines(client)
        await client.create(CONFIG_MAPS, configmap("a"), "default")
        await take(events, 1)
        assert len(api.streams) == 1
        await events.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        await api.streams.none_open.wait()
    await serving.stop()
