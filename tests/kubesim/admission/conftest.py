"""An API server in memory, and webhooks that are real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.store import open_store
from kubewire.client import Client
from kubewire.resources import SERVICE_ACCOUNTS

from .hookserver import HookServer, hook_server


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
def client(api: ApiServer) -> Client:
    return Client(InProcessTransport(api, user="admin"))


@pytest.fixture
async def hooks() -> AsyncIterator[HookServer]:
    async with hook_server() as server:
        yield server
