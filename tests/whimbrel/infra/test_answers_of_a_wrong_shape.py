"""An API server that answers with something else than Kubernetes does: an error of the closed set, never a crash."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kubewire.requests import Request, Response
from whimbrel.infra.base import ClusterSpec, NodeShape
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.model.errors import InfraError, NodeLost

from .fake_api import FakeApi, waiting

pytestmark = pytest.mark.anyio

POD = {"metadata": {"name": "c1-01234567-0", "namespace": "default", "uid": "u"}}
SHAPES: list[Any] = [
    {"items": [None]},
    {"items": [{}]},
    {"items": [{"metadata": {"name": 7}}]},
    {"items": [{**POD, "status": []}]},
    {"items": [{**POD, "status": {"phase": "Running", "containerStatuses": {"a": 1}}}]},
    {"items": [{**POD, "status": {"containerStatuses": [None]}}]},
    {"items": [{**POD, "status": {"conditions": [3]}}]},
    {"items": [{"metadata": {"name": "m", "labels": []}, "status": {"allocatable": "much"}}]},
    {"items": 3},
    [],
    "text",
    None,
]

CALLS: list[Callable[[KubernetesInfra, ClusterSpec], Awaitable[Any]]] = [
    lambda infra, one: infra.observe(one),
    lambda infra, one: infra.ensure(one, lambda text: None, 0.3),
    lambda infra, one: infra.remove(one, lambda text: None, 0.3),
    lambda infra, one: infra.offer(1, NodeShape(cpus=1)),
    lambda infra, one: infra.identity(),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: json.dumps(shape)[:60])
async def test_nothing_but_errors_for_the_user_comes_of_it(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec, shape: Any
) -> None:
    body = json.dumps(shape).encode()
    api.refuse = lambda method, path: (
        Response(status=200, headers={"content-type": "application/json"}, body=body)
        if method == "GET"
        else None
    )
    for call in CALLS:
        (outcome,) = await asyncio.gather(asyncio.wait_for(call(infra, one), 10), return_exceptions=True)
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, InfraError), outcome
            assert infra.name in outcome.message
    assert (await infra.check()).infra == infra.name


async def test_a_node_that_somebody_deletes_while_it_is_waited_for_ends_the_wait(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    api.on_create = lambda pod: api.set_status(pod["metadata"]["name"], waiting("ContainerCreating"))
    making = asyncio.create_task(infra.ensure(one, lambda text: None, 30))
    await asyncio.wait_for(api.watched.wait(), 10)
    api.drop("pods", "default", *api.named("pods"))
    with pytest.raises(NodeLost, match="was deleted while it was starting") as caught:
        await asyncio.wait_for(making, 10)
    assert "repeat the launch" in str(caught.value.remedy)


async def test_many_nodes_are_created_a_few_at_a_time_so_that_no_deadline_is_spent_on_waiting_for_a_turn(
    infra: KubernetesInfra, api: FakeApi
) -> None:
    many = ClusterSpec(name="c1", uid="0123456789abcdef", num_nodes=64, shape=NodeShape(cpus=0.01), user="a")
    send, busy, most = api.send, 0, 0

    async def slow(request: Request, *, timeout: float) -> Response:
        nonlocal busy, most
        busy, most = busy + 1, max(most, busy + 1)
        for _ in range(5):
            await asyncio.sleep(0)
        busy -= 1
        return await send(request, timeout=timeout)

    api.send = slow  # type: ignore[method-assign]
    assert (await infra.ensure(many, lambda text: None, 20)).running
    assert most <= 8
    assert (await infra.remove(many, lambda text: None, 20)).gone
