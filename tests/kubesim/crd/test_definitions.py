"""CustomResourceDefinitions: established, refused, changed, deleted, found again after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.definitions import priority
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.store import open_store
from kubewire.client import Client
from kubewire.errors import ApiError, Invalid, NotFound
from kubewire.requests import Request

from .conftest import DEFINITIONS, GROUP, PATH, WIDGETS, definition, settled, version, widget

pytestmark = pytest.mark.anyio


def conditions(obj: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in obj["status"]["conditions"]}


async def test_a_definition_is_established_and_its_resource_discovered(
    api: ApiServer, client: Client
) -> None:
    made = await client.create(DEFINITIONS, definition())
    assert made["status"] == {
        "acceptedNames": {"plural": "", "kind": ""},
        "conditions": None,
        "storedVersions": ["v1"],
    }
    await settled(api)
    made = await client.get(DEFINITIONS, f"widgets.{GROUP}")
    assert conditions(made) == {
        "NamesAccepted": ("True", "NoConflicts"),
        "Established": ("True", "InitialNamesAccepted"),
    }
    assert made["status"]["acceptedNames"]["listKind"] == "WidgetList"
    listed = await client.raw(Request(method="GET", path=f"/apis/{GROUP}/v1"), 5)
    assert [one["name"] for one in listed.json()["resources"]] == ["widgets"]


async def test_names_of_the_same_group_belong_to_who_came_first(api: ApiServer, client: Client) -> None:
    await client.create(DEFINITIONS, definition())
    await settled(api)
    await client.create(DEFINITIONS, definition(plural="wodgets"))
    await settled(api)
    second = await client.get(DEFINITIONS, f"wodgets.{GROUP}")
    assert conditions(second) == {
        "NamesAccepted": ("False", "ListKindConflict"),
        "Established": ("False", "NotAccepted"),
    }
    await client.delete(DEFINITIONS, f"widgets.{GROUP}")
    await settled(api)
    second = await client.get(DEFINITIONS, f"wodgets.{GROUP}")
    assert conditions(second)["Established"] == ("True", "InitialNamesAccepted")


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        (
            {"scope": "Here"},
            "spec.scope",
            'Unsupported value: "Here": supported values: "Cluster", "Namespaced"',
        ),
        (
            {"versions": [version({"type": "object", "properties": {"a": {"items": {"type": "string"}}}})]},
            "spec.validation.openAPIV3Schema.properties[a].type",
            "Required value: must not be empty for specified object fields",
        ),
        (
            {"versions": [version({"type": "object", "anyOf": [{"type": "object"}]})]},
            "spec.validation.openAPIV3Schema.anyOf[0].type",
            "Forbidden: must be empty to be structural",
        ),
        (
            {
                "versions": [
                    version({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}})
                ]
            },
            "spec.validation.openAPIV3Schema.properties[a].default",
            'Invalid value: "string": spec.validation.openAPIV3Schema.properties[a].default in body must be of '
            'type integer: "string"',
        ),
    ],
)
async def test_a_definition_that_is_not_sound_is_refused(
    client: Client, spec: dict[str, Any], field: str, message: str
) -> None:
    asked = definition()
    asked["spec"] |= spec
    with pytest.raises(Invalid) as refused:
        await client.create(DEFINITIONS, asked)
    causes = {one["field"]: one["message"] for one in refused.value.details["causes"]}
    assert causes[field] == message


async def test_the_scope_of_an_established_definition_stays(api: ApiServer, client: Client) -> None:
    await client.create(DEFINITIONS, definition())
    await settled(api)
    with pytest.raises(Invalid, match=r"spec\.scope: Invalid value"):
        await client.patch(DEFINITIONS, f"widgets.{GROUP}", {"spec": {"scope": "Cluster"}})


async def test_a_definition_goes_when_its_last_object_has_gone(api: ApiServer, client: Client) -> None:
    await client.create(DEFINITIONS, definition())
    await settled(api)
    await client.create(WIDGETS, widget("free"), "default")
    kept = widget("kept")
    kept["metadata"]["finalizers"] = ["example.com/wait"]
    await client.create(WIDGETS, kept, "default")
    gone = await client.delete(DEFINITIONS, f"widgets.{GROUP}")
    assert gone is not None
    await settled(api)
    assert [one["metadata"]["name"] for one in (await client.list(WIDGETS, "default")).items] == ["kept"]
    with pytest.raises(ApiError, match="create not allowed while custom resource definition is terminating"):
        await client.create(WIDGETS, widget("late"), "default")
    await client.patch(WIDGETS, "kept", {"metadata": {"finalizers": None}}, "default")
    await settled(api)
    with pytest.raises(NotFound):
        await client.get(DEFINITIONS, f"widgets.{GROUP}")
    with pytest.raises(NotFound):
        await client.list(WIDGETS, "default")
    assert not api.registry.has(GROUP)


async def test_a_watch_sees_the_end_of_its_objects_and_ends(api: ApiServer, client: Client) -> None:
    await client.create(DEFINITIONS, definition())
    await settled(api)
    await client.create(WIDGETS, widget("w"), "default")
    seen = b""

    async def follow() -> None:
        nonlocal seen
        request = Request(method="GET", path=PATH, query=(("watch", "true"),))
        async with client.open_watch(request) as stream:
            async for chunk in stream.chunks():
                seen += chunk

    following = asyncio.create_task(follow())
    await settled(api)
    await client.delete(DEFINITIONS, f"widgets.{GROUP}")
    async with asyncio.timeout(2):
        await following
    assert seen.count(b'"ADDED"') == 1
    assert seen.count(b'"DELETED"') == 1


async def test_another_version_can_be_served_later(api: ApiServer, client: Client) -> None:
    await client.create(DEFINITIONS, definition())
    await settled(api)
    await client.create(WIDGETS, widget("w", spec={"size": 3}), "default")
    color = {"type": "string", "default": "red"}
    spec = {"type": "object", "properties": {"size": {"type": "integer"}, "color": color}}
    newer = version({"type": "object", "properties": {"spec": spec}}, name="v2", storage=False)
    live = await client.get(DEFINITIONS, f"widgets.{GROUP}")
    live["spec"]["versions"].append(newer)
    await client.replace(DEFINITIONS, live)
    await settled(api)
    answer = await client.raw(Request(method="GET", path=f"{PATH}/w".replace("/v1/", "/v2/")), 5)
    assert answer.json()["apiVersion"] == f"{GROUP}/v2"
    assert answer.json()["spec"] == {"size": 3, "color": "red"}
    assert (await client.get(WIDGETS, "w", "default"))["spec"] == {"size": 3}
    group = await client.raw(Request(method="GET", path=f"/apis/{GROUP}"), 5)
    assert group.json()["preferredVersion"]["version"] == "v2"


async def test_a_restart_finds_definitions_and_objects_again(tmp_path: Path) -> None:
    first = ApiServer(open_store("durable", tmp_path / "store"))
    await first.start()
    client = Client(InProcessTransport(first, user="admin"))
    await client.create(DEFINITIONS, definition())
    async with asyncio.timeout(5):
        while not first.registry.has(GROUP):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await client.create(WIDGETS, widget("w", spec={"size": 3}), "default")
    first.drain()
    await first.store.close()

    second = ApiServer(open_store("durable", tmp_path / "store"))
    await second.start()
    client = Client(InProcessTransport(second, user="admin"))
    assert (await client.get(WIDGETS, "w", "default"))["spec"] == {"size": 3}
    second.drain()
    await second.store.close()


def test_versions_are_in_kubernetes_order() -> None:
    names = ["foo", "v1alpha1", "v2beta1", "v10", "v1", "v1beta2", "v11alpha2"]
    assert sorted(names, key=priority) == ["v10", "v1", "v2beta1", "v1beta2", "v11alpha2", "v1alpha1", "foo"]
