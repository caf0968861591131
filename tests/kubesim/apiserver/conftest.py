"""An API server in memory, and clients of it: in the same process, and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.auth import Authenticator
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.apiserver.nodes import ExecOptions, LogOptions, NodeError
from kubesim.apiserver.requests import User
from kubesim.apiserver.serve import Serving, serve
from kubesim.store import open_store
from kubewire import resources
from kubewire.client import Client
from kubewire.connection import Connection
from kubewire.http import HttpTransport

ADMIN = User(name="admin", groups=("system:masters", "system:authenticated"))
NOBODY = User(name="nobody", groups=("system:authenticated",))


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    """A cluster without controllers; its default namespace has the service account that pods need."""
    store = open_store("memory")
    server = ApiServer(store, auth=Authenticator({"admin-token": ADMIN, "nobody-token": NOBODY}))
    await server.start()
    account = {"metadata": {"name": "default"}}
    client = Client(InProcessTransport(server))
    await client.create(resources.SERVICE_ACCOUNTS, account, "default")
    yield server
    server.drain()
    await store.close()


@pytest.fixture
async def serving(api: ApiServer) -> AsyncIterator[Serving]:
    listening = await serve(api)
    yield listening
    await listening.stop()


@pytest.fixture
def local(api: ApiServer) -> Client:
    return Client(InProcessTransport(api, user="admin"))


@pytest.fixture(params=["inprocess", "http"])
async def client(request: pytest.FixtureRequest, api: ApiServer) -> AsyncIterator[Client]:
    """The same client over both roads: what holds for one has to hold for the other."""
    if request.param == "inprocess":
        yield Client(InProcessTransport(api, user="admin"))
        return
    listening = await serve(api)
    async with Client(HttpTransport(plain(listening))) as over_http:
        yield over_http
    await listening.stop()


def plain(serving: Serving, token: str | None = "admin-token") -> Connection:
    return Connection(server=f"http://127.0.0.1:{serving.port}", token=token)


def configmap(name: str, **data: str) -> dict[str, object]:
    return {"metadata": {"name": name}, "data": data}


def pod(name: str, **spec: object) -> dict[str, object]:
    containers = [{"name": "main", "image": "none"}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


class FakeNode:
    """A kubelet whose containers echo: `cat`, `fail N`, `say WORDS`, `wait`."""

    def __init__(self) -> None:
        self.log_requests: list[LogOptions] = []
        self.processes: list[FakeProcess] = []
        self.follow_ended = asyncio.Event()
        self.started = asyncio.Event()

    async def logs(
        self, namespace: str, pod: str, container: str, options: LogOptions
    ) -> AsyncIterator[bytes]:
        self.log_requests.append(options)
        if options.previous:
            raise NodeError(f'previous terminated container "{container}" in pod "{pod}" not found')
        try:
            yield b"line 1\n"
            yield b"line 2\n"
            if options.follow:
                await asyncio.Event().wait()
        finally:
            self.follow_ended.set()

    async def exec(self, namespace: str, pod: str, container: str, options: ExecOptions) -> FakeProcess:
        if options.command[0] == "missing":
            raise NodeError(f'container "{container}" is not running')
        process = FakeProcess(options.command)
        self.processes.append(process)
        self.started.set()
        return process

    async def attach(self, namespace: str, pod: str, container: str, options: ExecOptions) -> FakeProcess:
        return await self.exec(namespace, pod, container, ExecOptions(command=("say", "attached")))

    async def dial(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port)


class FakeProcess:
    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._input: asyncio.Queue[bytes | None] = asyncio.Queue(4)
        self._code = 0
        self.sizes: list[tuple[int, int]] = []
        self.resized = asyncio.Event()
        self.closed = asyncio.Event()

    async def write_stdin(self, data: bytes) -> None:
        await self._input.put(data)

    async def close_stdin(self) -> None:
        await self._input.put(None)

    async def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))
        self.resized.set()

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        match self._command:
            case ["cat"]:
                while (data := await self._input.get()) is not None:
                    yield 1, data
            case ["fail", code]:
                yield 2, b"failing\n"
                self._code = int(code)
            case ["wait"]:
                await self.closed.wait()
            case [_, *words]:
                yield 1, " ".join(words).encode() + b"\n"

    async def exit_code(self) -> int:
        return self._code

    async def aclose(self) -> None:
        self.closed.set()


@pytest.fixture
async def node(api: ApiServer, local: Client) -> FakeNode:
    """A node named `n` with a kubelet, and a pod `p` on it."""
    kubelet = FakeNode()
    api.nodes.add("n", kubelet)
    await local.create(resources.NODES, {"metadata": {"name": "n"}})
    await local.create(resources.PODS, pod("p", nodeName="n"), "default")
    return kubelet
