"""Requests that are meant to break the server get a proper refusal, and the next request its answer."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import orjson
import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.apiserver.warned import warning_headers
from kubewire.client import Client
from kubewire.errors import ApiError, Invalid
from kubewire.requests import PatchType, Request, Response
from kubewire.resources import CONFIG_MAPS, SERVICES
from kubewire.transport import Transport

from .conftest import configmap

pytestmark = pytest.mark.anyio

PATH = "/api/v1/namespaces/default/configmaps"


async def send(
    client: Client,
    method: str,
    body: bytes,
    *,
    media: str = "application/json",
    path: str = PATH,
    **query: str,
) -> Response:
    transport: Transport = client.transport
    request = Request(
        method=method, path=path, query=tuple(query.items()), headers={"content-type": media}, body=body
    )
    return await transport.send(request, timeout=30)


async def alive(client: Client) -> None:
    await client.list(CONFIG_MAPS, "default")


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/json", b'{"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"),
        ("application/json", b'{"metadata":{"name":"x"},"data":' + b"[" * 900 + b"]" * 900 + b"}"),
        ("application/json", b"[" * 100_000),
        ("application/yaml", b"- " * 100_000 + b"a"),
        ("application/yaml", b"{a: " * 100_000),
        ("application/yaml", b"a: &a [*a]"),
    ],
)
async def test_a_body_that_is_too_deep_is_a_bad_request(client: Client, media: str, body: bytes) -> None:
    assert (await send(client, "POST", body, media=media)).status == 400
    await alive(client)


@pytest.mark.parametrize("media", ["json-patch", "merge-patch", "strategic-merge-patch", "apply-patch"])
async def test_a_patch_that_is_too_deep_is_a_bad_request(client: Client, media: str) -> None:
    await client.create(CONFIG_MAPS, configmap("one"), "default")
    body = b'{"a":' * 900 + b"1" + b"}" * 900
    media = f"application/{media}+" + ("yaml" if media == "apply-patch" else "json")
    answer = await send(client, "PATCH", body, media=media, path=f"{PATH}/one", fieldManager="x")
    assert answer.status == 400


async def test_copies_in_a_json_patch_cannot_double_an_object_for_ever(client: Client) -> None:
    await client.create(CONFIG_MAPS, configmap("one", x="x" * 1000), "default")
    patch = [{"op": "copy", "from": "/data", "path": f"/data/c{at}"} for at in range(60)]
    started = time.monotonic()
    answer = await send(
        client, "PATCH", orjson.dumps(patch), media="application/json-patch+json", path=f"{PATH}/one"
    )
    assert answer.status == 422
    assert time.monotonic() - started < 5


async def test_what_a_patch_nests_deeper_than_can_be_written_is_refused(local: Client) -> None:
    await local.create(CONFIG_MAPS, configmap("one"), "default")
    deep: Any = {}
    for _ in range(150):
        deep = {"f:a": deep}
    entry = {
        "manager": "m",
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": deep,
    }
    below = "/metadata/managedFields/0/fieldsV1" + "/f:a" * 150
    patch = [
        {"op": "add", "path": "/metadata/managedFields", "value": [entry]},
        {"op": "add", "path": f"{below}/f:b", "value": deep},
    ]
    answer = await send(
        local, "PATCH", orjson.dumps(patch), media="application/json-patch+json", path=f"{PATH}/one"
    )
    assert answer.status == 400
    assert "too deeply nested" in answer.json()["message"]


@pytest.mark.parametrize(
    "junk", [{"f:a": {"i:x": 1}}, {"f:a": 1}, {"k:{": {}}, {"nothing": {}}, {"f:a": ["b"]}]
)
async def test_managed_fields_that_are_no_sets_count_for_nothing(client: Client, junk: Any) -> None:
    entry = {
        "manager": "m",
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": junk,
    }
    document = {"metadata": {"name": "one", "managedFields": [entry]}, "data": {"a": "b"}}
    answer = await send(client, "POST", orjson.dumps(document), fieldManager="me")
    assert answer.status == 201
    assert [one["manager"] for one in answer.json()["metadata"]["managedFields"]] == ["me"]
    patch = orjson.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "c"}}
    )
    media = "application/apply-patch+yaml"
    applied = await send(
        client, "PATCH", patch, media=media, path=f"{PATH}/one", fieldManager="x", force="true"
    )
    assert applied.status == 200


async def test_a_warning_cannot_end_its_header(client: Client) -> None:
    document = {"metadata": {"name": "one"}, "a\r\nX-Evil: 1\r\n\r\n": 1, "ünï": 2}
    answer = await send(client, "POST", orjson.dumps(document), fieldValidation="Warn")
    assert answer.status == 201
    assert "x-evil" not in answer.headers
    assert 'unknown field \\"a  X-Evil: 1' in answer.headers["warning"]
    assert "ünï" in answer.headers["warning"]  # both, over both roads


async def test_more_warnings_than_clients_can_take_are_cut(client: Client) -> None:
    document = {"metadata": {"name": "one"}, **{f"field{at}": 1 for at in range(5000)}}
    answer = await send(client, "POST", json.dumps(document).encode(), fieldValidation="Warn")
    assert answer.status == 201
    assert 10 < answer.headers["warning"].count("unknown field") <= 64
    assert len(warning_headers(["x" * 100_000, "y"])) == 2
    assert len(warning_headers(["x" * 100_000])[0][1]) < 300


async def test_a_large_yaml_document_does_not_keep_others_waiting(local: Client) -> None:
    body = "kind: ConfigMap\nmetadata: {name: m}\n" + "".join(f"unknown{at}: v\n" for at in range(30_000))
    reading = asyncio.create_task(
        send(local, "POST", body.encode(), media="application/yaml", fieldValidation="Strict")
    )
    answered = 0
    while not reading.done():
        await local.list(CONFIG_MAPS, "default")
        answered += 1
    assert reading.result().status == 400
    assert answered > 5


# Addresses


def service(name: str, *ports: int, **spec: Any) -> dict[str, Any]:
    listed = [{"name": f"p{at}", "port": at + 1, "nodePort": port} for at, port in enumerate(ports)]
    return {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": listed, **spec}}


def taken(api: ApiServer) -> tuple[int, int]:
    addresses = api.core.addresses
    return len(addresses._taken), len(addresses._ports)


async def test_a_refused_write_keeps_no_address_and_no_port(api: ApiServer, local: Client) -> None:
    await local.create(SERVICES, service("other", 30_100), "default")
    before = taken(api)
    with pytest.raises(Invalid):
        await local.create(SERVICES, service("new", 30_001, 30_100), "default")
    assert taken(api) == before
    made = await local.create(SERVICES, service("new", type="ClusterIP", ports=[{"port": 1}]), "default")
    before = taken(api)
    changed = {**made, "spec": service("new", 30_001, 30_100)["spec"]}
    with pytest.raises(Invalid):
        await local.replace(SERVICES, changed, "default")
    path = "/api/v1/namespaces/default/services/new"
    body = orjson.dumps({"spec": {"type": "NodePort"}})
    tried = await send(local, "PATCH", body, media=PatchType.MERGE, path=path, dryRun="All")
    assert tried.json()["spec"]["ports"][0]["nodePort"] > 0
    assert taken(api) == before
    await local.replace(SERVICES, {**made, "spec": service("new", 30_001)["spec"]}, "default")
    assert taken(api) == (before[0], before[1] + 1)
    for name in ("new", "other"):
        await local.delete(SERVICES, name, "default")
    await local.create(SERVICES, service("again", 30_001, 30_100), "default")


async def test_an_address_that_somebody_has_is_refused_also_with_its_family(local: Client) -> None:
    given = service("thief", clusterIP="10.96.0.1", ipFamilies=["IPv4"], ports=[{"port": 1}])
    with pytest.raises(ApiError, match="already allocated"):
        await local.create(SERVICES, given, "default")


async def test_an_update_that_somebody_overtakes_takes_its_ports_once(api: ApiServer) -> None:
    clients = [Client(InProcessTransport(api, user="admin")) for _ in range(8)]
    await clients[0].create(SERVICES, service("one", type="ClusterIP", ports=[{"port": 1}]), "default")
    before = taken(api)
    patch = {"spec": {"type": "NodePort"}}
    await asyncio.gather(*(one.patch(SERVICES, "one", patch, "default") for one in clients))
    assert taken(api) == (before[0], before[1] + 1)
