"""The law of watches: what a list saw at some revision, with the events since, is what a list sees later, whatever the
selector and wherever the watch begins; an object that begins or ceases to match is as good as made or removed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.store import HistoryLimits, open_store
from kubewire import resources
from kubewire.client import Client
from kubewire.requests import Request

NAMESPACES = ("default", "kube-system")
SELECTORS: tuple[tuple[str, str, str], ...] = (
    ("", "", ""),
    ("default", "", ""),
    ("", "app=web", ""),
    ("default", "app!=web,tier", ""),
    ("", "app in (web,db),!tier", ""),
    ("", "", "status.phase=Running"),
    ("", "", "metadata.name=a,status.phase!=Failed"),
    ("kube-system", "app", "spec.nodeName=n,status.phase!=Pending"),
)
"""(namespace, labels, fields)"""

State = dict[str, str]
"""The versions of the objects by namespace and name."""


@dataclass(frozen=True, slots=True)
class Step:
    namespace: str
    name: str
    labels: dict[str, str | None]
    phase: str
    delete: bool


steps = st.builds(
    Step,
    namespace=st.sampled_from(NAMESPACES),
    name=st.sampled_from("ab"),
    labels=st.fixed_dictionaries(
        {
            "app": st.sampled_from(["web", "db", None]),
            "tier": st.sampled_from(["x", None]),
        }
    ),
    phase=st.sampled_from(["Pending", "Running", "Failed"]),
    delete=st.sampled_from([False, False, False, True]),
)


async def take(client: Client, step: Step) -> None:
    """Two writes to one pod: its labels, then its phase; or its deletion; or its creation."""
    metadata = {"name": step.name, "labels": {k: v for k, v in step.labels.items() if v}}
    there = await client.list(
        resources.PODS, step.namespace, field_selector=f"metadata.name={step.name}", resource_version="0"
    )
    if not there.items:
        spec = {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
        await client.create(resources.PODS, {"metadata": metadata, "spec": spec}, step.namespace)
    elif step.delete:
        await client.delete(resources.PODS, step.name, step.namespace, grace_period=0)
    else:
        labels = {"metadata": {"labels": step.labels}}
        await client.patch(resources.PODS, step.name, labels, step.namespace)
        await client.patch(
            resources.PODS, step.name, {"status": {"phase": step.phase}}, step.namespace, subresource="status"
        )


def _request(selector: tuple[str, str, str], **query: str) -> Request:
    namespace, labels, fields = selector
    path = resources.PODS.path(namespace or None)
    selected = {"labelSelector": labels, "fieldSelector": fields, **query}
    return Request(method="GET", path=path, query=tuple((k, v) for k, v in selected.items() if v))


def _key(obj: dict[str, Any]) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


async def listed(client: Client, selector: tuple[str, str, str], revision: int) -> State:
    """What there was at exactly this revision."""
    exact = {"resourceVersion": str(revision), "resourceVersionMatch": "Exact"}
    page = (await client.raw(_request(selector, **exact), 10)).json()
    assert page["metadata"]["resourceVersion"] == str(revision)
    return {_key(item): item["metadata"]["resourceVersion"] for item in page["items"]}


async def watched(client: Client, selector: tuple[str, str, str], revision: int) -> list[dict[str, Any]]:
    """The events after this revision, up to a bookmark at the end."""
    query = {"resourceVersion": str(revision), "timeoutSeconds": "1", "allowWatchBookmarks": "true"}
    request = _request(selector, watch="true", **query)
    async with client.transport.stream(request, connect=10, idle=10) as stream:
        text = b"".join([chunk async for chunk in stream.chunks()])
    return [orjson.loads(line) for line in text.splitlines()]


async def law_holds(client: Client, selector: tuple[str, str, str], revision: int) -> None:
    """Follow the events of a watch from this revision, and compare with a list after each."""
    state = await listed(client, selector, revision)
    position = revision
    for event in await watched(client, selector, revision):
        obj = event["object"]
        version = int(obj["metadata"]["resourceVersion"])
        assert version > position
        between = await listed(client, selector, version - 1)
        assert between == state, "nothing happened in between"
        position = version
        if event["type"] == "BOOKMARK":
            continue
        key = _key(obj)
        assert (key in state) == (event["type"] != "ADDED"), event
        if event["type"] == "DELETED":
            del state[key]
        else:
            state[key] = obj["metadata"]["resourceVersion"]
        assert await listed(client, selector, version) == state


@settings(max_examples=4, deadline=None)
@given(history=st.lists(steps, min_size=4, max_size=10))
def test_a_list_and_the_events_after_it_are_a_later_list_for_every_selector_and_revision(
    history: list[Step],
) -> None:
    async def run() -> None:
        store = open_store("memory")
        api = ApiServer(store)
        await api.start()
        client = Client(InProcessTransport(api, user="admin"))
        for namespace in NAMESPACES:
            await client.create(resources.SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, namespace)
        first = store.revision
        # those that begin before the history and see it happen
        async with asyncio.TaskGroup() as live:
            for selector in SELECTORS:
                live.create_task(law_holds(client, selector, first))
            for step in history:
                await take(client, step)
        # and those that come later and read it
        async with asyncio.TaskGroup() as late:
            for selector in SELECTORS:
                for revision in range(first, store.revision + 1, 2):
                    late.create_task(law_holds(client, selector, revision))
        api.drain()
        await store.close()

    asyncio.run(run())


def test_what_is_older_than_the_history_is_gone_in_the_words_of_the_real_server() -> None:
    async def run() -> None:
        store = open_store("memory", limits=HistoryLimits(changes=20))
        api = ApiServer(store)
        await api.start()
        client = Client(InProcessTransport(api, user="admin"))
        for number in range(60):
            await client.create(resources.CONFIG_MAPS, {"metadata": {"name": f"c-{number:02}"}}, "default")
        path = resources.CONFIG_MAPS.path("default")
        first = Request(method="GET", path=path, query=(("limit", "10"),))
        page = (await client.raw(first, 10)).json()
        old = page["metadata"]["resourceVersion"]
        for number in range(30):
            await client.create(resources.SECRETS, {"metadata": {"name": f"s-{number}"}}, "default")
        await client.create(resources.CONFIG_MAPS, {"metadata": {"name": "c-05-new"}}, "default")
        await client.create(resources.CONFIG_MAPS, {"metadata": {"name": "c-15-new"}}, "default")

        async def answer(**query: str) -> dict[str, Any]:
            pairs = tuple(query.items())
            response = await client.transport.send(Request(method="GET", path=path, query=pairs), timeout=10)
            return {"http": response.status, **response.json()}

        exact = await answer(resourceVersion=old, resourceVersionMatch="Exact")
        assert (exact["http"], exact["reason"]) == (410, "Expired")
        assert exact["message"] == "The resourceVersion for the provided list is too old."

        expired = await answer(limit="10", **{"continue": page["metadata"]["continue"]})
        assert (expired["http"], expired["reason"]) == (410, "Expired")
        assert expired["message"].startswith(
            "The provided continue parameter is too old to display a consistent list result."
        )
        rest = await answer(limit="10", **{"continue": expired["metadata"]["continue"]})
        names = [item["metadata"]["name"] for item in rest["items"]]
        assert names[:7] == ["c-10", "c-11", "c-12", "c-13", "c-14", "c-15", "c-15-new"]

        events = await watched_from(client, path, "1")
        assert [event["type"] for event in events] == ["ERROR"]
        status = events[0]["object"]
        assert (status["code"], status["reason"]) == (410, "Expired")
        oldest = store.table("/configmaps").forgotten
        assert status["message"] == f"too old resource version: 1 ({oldest})"
        api.drain()
        await store.close()

    asyncio.run(run())


async def watched_from(client: Client, path: str, revision: str) -> list[dict[str, Any]]:
    query = (("watch", "true"), ("resourceVersion", revision))
    async with client.transport.stream(
        Request(method="GET", path=path, query=query), connect=10, idle=10
    ) as stream:
        text = b"".join([chunk async for chunk in stream.chunks()])
    return [orjson.loads(line) for line in text.splitlines()]
