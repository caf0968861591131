"""What kubewire needs of a Kubernetes, whichever it is: pages, watches that go on, server-side apply."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from anycluster.place import Place
from kubewire.client import Client
from kubewire.errors import AlreadyExists, Conflict, NotFound
from kubewire.resources import CONFIG_MAPS

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Client]:
    """A way to the context."""
    async with place.client() as opened:
        yield opened


@pytest.fixture
async def mark(place: Place, client: Client) -> AsyncIterator[str]:
    """The value of a label `wt` that only this test's objects have; they are removed."""
    value = uuid.uuid4().hex[:8]
    yield value
    await client.delete_collection(CONFIG_MAPS, place.namespace, label_selector=f"wt={value}")


def config(mark: str, number: int, **data: str) -> dict[str, object]:
    """A ConfigMap of this test."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"wt-{mark}-{number}", "labels": {"wt": mark}},
        "data": data,
    }


async def test_a_list_in_pages_is_whole(place: Place, client: Client, mark: str) -> None:
    for number in range(5):
        await client.create(CONFIG_MAPS, config(mark, number), place.namespace)
    found = await client.list(CONFIG_MAPS, place.namespace, label_selector=f"wt={mark}", page_size=2)
    assert [item["metadata"]["name"] for item in found.items] == [f"wt-{mark}-{n}" for n in range(5)]


async def test_a_watch_goes_on_from_a_list(place: Place, client: Client, mark: str) -> None:
    await client.create(CONFIG_MAPS, config(mark, 0), place.namespace)
    selector = f"wt={mark}"
    known = await client.list(CONFIG_MAPS, place.namespace, label_selector=selector)
    await client.create(CONFIG_MAPS, config(mark, 1), place.namespace)
    await client.patch(CONFIG_MAPS, f"wt-{mark}-1", {"data": {"a": "b"}}, place.namespace)
    await client.delete(CONFIG_MAPS, f"wt-{mark}-0", place.namespace)
    events = client.watch(
        CONFIG_MAPS, place.namespace, label_selector=selector, resource_version=known.resource_version
    )
    seen: list[tuple[str, str]] = []
    async with aclosing(events):
        async for event in events:
            if event.type != "BOOKMARK":
                seen.append((event.type, event.object["metadata"]["name"]))
            if len(seen) == 3:
                break
    assert seen == [("ADDED", f"wt-{mark}-1"), ("MODIFIED", f"wt-{mark}-1"), ("DELETED", f"wt-{mark}-0")]


async def test_apply_has_owners_of_fields(place: Place, client: Client, mark: str) -> None:
    await client.apply(CONFIG_MAPS, config(mark, 0, a="1"), place.namespace, field_manager="one")
    with pytest.raises(Conflict):
        await client.apply(CONFIG_MAPS, config(mark, 0, a="2"), place.namespace, field_manager="two")
    changed = await client.apply(
        CONFIG_MAPS, config(mark, 0, a="2"), place.namespace, field_manager="two", force=True
    )
    assert changed["data"] == {"a": "2"}


async def test_errors_are_those_that_the_errors_say(place: Place, client: Client, mark: str) -> None:
    await client.create(CONFIG_MAPS, config(mark, 0), place.namespace)
    with pytest.raises(AlreadyExists):
        await client.create(CONFIG_MAPS, config(mark, 0), place.namespace)
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, f"wt-{mark}-9", place.namespace)
    old = await client.get(CONFIG_MAPS, f"wt-{mark}-0", place.namespace)
    await client.patch(CONFIG_MAPS, f"wt-{mark}-0", {"data": {"a": "b"}}, place.namespace)
    with pytest.raises(Conflict):
        await client.replace(CONFIG_MAPS, old, place.namespace)
