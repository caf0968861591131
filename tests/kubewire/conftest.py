"""What the tests of kubewire share: a client for a URL, and an authority whose certificates are cheap to issue."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from kubewire.client import Client
from kubewire.connection import Connection
from kubewire.deadlines import Deadlines
from kubewire.http import HttpTransport
from kubewire.testing import Authority

QUICK = Deadlines(
    probe=0.5, read=0.5, change=0.5, page=0.5, stream_idle=0.5, watch=5.0, connect=0.4, credential=0.5
)
"""For tests in which a deadline passes; where an answer comes, the usual ones leave a busy machine its time."""

ClientFor = Callable[..., Client]


@pytest.fixture(scope="session")
def authority() -> Authority:
    """One certificate authority for the whole run."""
    return Authority()


@pytest.fixture
async def client_for(anyio_backend: str) -> AsyncIterator[ClientFor]:
    """Makes clients, and closes them after the test."""
    clients: list[Client] = []

    def make(url: str, deadlines: Deadlines | None = None, **fields: Any) -> Client:
        client = Client(HttpTransport(Connection(server=url, **fields), deadlines), deadlines)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def quick() -> Deadlines:
    """See QUICK."""
    return QUICK


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """Waits until something is so, where there is no event to wait for."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in the event loop itself
                await asyncio.sleep(0.005)

    return wait
