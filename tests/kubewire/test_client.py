"""The client's verbs over a transport that only remembers: which request, under which deadline."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from kubewire.client import Client
from kubewire.deadlines import Deadlines
from kubewire.errors import AlreadyExists, NotFound
from kubewire.requests import PatchType, Request, Response
from kubewire.resources import NODES, PODS
from kubewire.transport import ByteStream, Channel, Transport

pytestmark = pytest.mark.anyio


class Remembering:
    """A transport without a network."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, str, float]] = []
        self.bodies: list[Any] = []
        self.closed = False

    async def send(self, request: Request, *, timeout: float) -> Response:
        self.sent.append((request.method, request.target, timeout))
        self.bodies.append(None if request.body is None else orjson.loads(request.body))
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, int):
            reasons = {404: "NotFound", 409: "AlreadyExists"}
            status = {"kind": "Status", "code": answer, "reason": reasons[answer]}
            return Response(status=answer, body=orjson.dumps(status))
        return Response(status=200, body=orjson.dumps(answer))

    @asynccontextmanager
    async def stream(self, request: Request, *, connect: float, idle: float) -> AsyncIterator[ByteStream]:
        self.sent.append((request.method, request.target, connect))
        raise NotImplementedError
        yield

    @asynccontextmanager
    async def channel(
        self, request: Request, *, protocols: Sequence[str], connect: float, idle: float
    ) -> AsyncIterator[Channel]:
        self.sent.append((request.method, request.target, connect))
        raise NotImplementedError
        yield

    async def aclose(self) -> None:
        self.closed = True


DEADLINES = Deadlines(probe=1.0, read=2.0, change=3.0, page=4.0, stream_idle=5.0)


def make(*answers: Any) -> tuple[Client, Remembering]:
    """A client and what it sent."""
    remembering = Remembering(*answers)
    transport: Transport = remembering
    return Client(transport, DEADLINES), remembering


async def test_each_verb_has_its_deadline() -> None:
    client, transport = make()
    pod = {"metadata": {"name": "p", "namespace": "a"}}
    await client.version()
    await client.get(PODS, "p", "a", subresource="status")
    await client.list(NODES, page_size=7)
    await client.create(PODS, pod, dry_run=True)
    await client.create(PODS, {"kind": "Binding"}, "a", name="p", subresource="binding")
    await client.replace(PODS, pod, subresource="status")
    await client.patch(PODS, "p", [{"op": "remove", "path": "/x"}], "a", type=PatchType.JSON)
    await client.apply(PODS, pod, field_manager="me")
    await client.delete(PODS, "p", "a", grace_period=0)
    await client.delete_collection(PODS, "a", label_selector="x=y")
    with pytest.raises(NotImplementedError):
        await anext(client.logs("p", "a", follow=True))
    with pytest.raises(NotImplementedError):
        await anext(client.logs("p", "a"))
    with pytest.raises(NotImplementedError):
        await anext(client.watch(PODS, resource_version="1"))
    with pytest.raises(NotImplementedError):
        await client.exec("p", "a", ["x"]).__aenter__()
    with pytest.raises(NotImplementedError):
        await client.port_forward("p", "a", 80).__aenter__()
    base = "/api/v1/namespaces/a/pods"
    assert [(method, target.split("?")[0], timeout) for method, target, timeout in transport.sent] == [
        ("GET", "/version", 1.0),
        ("GET", f"{base}/p/status", 2.0),
        ("GET", "/api/v1/nodes", 4.0),
        ("POST", base, 3.0),
        ("POST", f"{base}/p/binding", 3.0),
        ("PUT", f"{base}/p/status", 3.0),
        ("PATCH", f"{base}/p", 3.0),
        ("PATCH", f"{base}/p", 3.0),
        ("DELETE", f"{base}/p", 3.0),
        ("DELETE", base, 4.0),
        ("GET", f"{base}/p/log", 5.0),
        ("GET", f"{base}/p/log", 2.0),
        ("GET", "/api/v1/pods", 2.0),
        ("GET", f"{base}/p/exec", 3.0),
        ("GET", f"{base}/p/portforward", 3.0),
    ]


async def test_a_list_asks_until_it_is_complete() -> None:
    first = {"metadata": {"resourceVersion": "5", "continue": "t"}, "items": [{"metadata": {"name": "a"}}]}
    last = {"metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "b"}}]}
    client, transport = make(first, last)
    found = await client.list(PODS, "n", label_selector="x=y", page_size=1)
    assert [item["metadata"]["name"] for item in found.items] == ["a", "b"]
    assert found.resource_version == "5"
    assert [target for _, target, _ in transport.sent] == [
        "/api/v1/namespaces/n/pods?labelSelector=x%3Dy&limit=1",
        "/api/v1/namespaces/n/pods?labelSelector=x%3Dy&limit=1&continue=t",
    ]


async def test_errors_come_out_as_their_class() -> None:
    client, _ = make(404, 409)
    with pytest.raises(NotFound):
        await client.get(NODES, "n")
    with pytest.raises(AlreadyExists):
        await client.create(NODES, {"metadata": {"name": "n"}})


async def test_leaving_the_client_closes_its_transport() -> None:
    client, transport = make()
    async with client as same:
        assert same is client
    assert transport.closed


def test_deadlines_are_positive_and_known_by_name() -> None:
    assert Deadlines().override({"read": 1.5}) == Deadlines(read=1.5)
    with pytest.raises(ValueError, match="unknown deadline 'raed'"):
        Deadlines().override({"raed": 1.5})
    for wrong in (0, -1, float("inf"), float("nan"), "5", None):
        with pytest.raises(ValueError, match="'page' must be a positive number"):
            Deadlines(page=wrong)  # type: ignore[arg-type]
