"""An API server in memory, and definitions to try it with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.store import open_store
from kubewire.client import Client
from kubewire.resources import Resource

GROUP = "example.com"
DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)
WIDGETS = Resource(GROUP, "v1", "widgets", "Widget", True)
PATH = f"/apis/{GROUP}/v1/namespaces/default/widgets"


def version(schema: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    spec = {"type": "object", "properties": {"size": {"type": "integer"}}}
    schema = schema or {"type": "object", "properties": {"spec": spec}}
    return {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        **members,
    }


def definition(
    *versions: dict[str, Any], plural: str = "widgets", kind: str = "Widget", **spec: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": list(versions or (version(),)),
            **spec,
        },
    }


def widget(name: str, **members: Any) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": {"name": name}, **members}


async def settled(api: ApiServer) -> None:
    """Until the server has nothing left to do by itself."""
    revision = -1
    while revision != api.store.revision:
        revision = api.store.revision
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    store = open_store("memory")
    server = ApiServer(store)
    await server.start()
    yield server
    server.drain()
    await asyncio.sleep(0)
    await store.close()


@pytest.fixture
def client(api: ApiServer) -> Client:
    return Client(InProcessTransport(api, user="admin"))
