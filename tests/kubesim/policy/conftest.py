"""An API server in memory, and a client for whoever is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.store import open_store
from kubewire.client import Client
from kubewire.resources import SERVICE_ACCOUNTS

As = Callable[..., Client]


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    """A cluster without controllers; its default namespace has the service account that pods need."""
    store = open_store("memory")
    server = ApiServer(store)
    await server.start()
    await Client(InProcessTransport(server)).create(
        SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "default"
    )
    yield server
    server.drain()
    await asyncio.sleep(0)
    await store.close()


@pytest.fixture
def admin(api: ApiServer) -> Client:
    return Client(InProcessTransport(api, user="admin"))


@pytest.fixture
def as_user(api: ApiServer) -> As:
    """A client of a user and groups beside `system:authenticated`."""

    def make(name: str, *groups: str) -> Client:
        return Client(InProcessTransport(api, user=name, groups=(*groups, "system:authenticated")))

    return make
