"""A dead context cannot harm a healthy one because they have nothing in common for which anybody could wait.

First by construction: whatever can be waited for, and is reached from one context's `Infra`, is not reached from the
other's, but for the reader of the kubeconfig that both are in. Then by order of events: while the calls to a dead one
are still waiting, all that its guard allows and more, those to the healthy one come to their end.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import socket
import ssl
import threading
import types
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from kubewire.client import Client
from kubewire.deadlines import Deadlines
from kubewire.dial import Dialer, Resolver
from kubewire.http import HttpTransport
from kubewire.pool import Pool
from kubewire.testing.servers import Exchange, http_server, tcp_server
from whimbrel.infra.guard import Guard
from whimbrel.infra.kubernetes.contexts import Contexts
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.infra.kubernetes.settings import KubernetesSettings
from whimbrel.infra.registry import Infras

AWAITED = (
    asyncio.Semaphore,
    asyncio.Lock,
    asyncio.Event,
    asyncio.Condition,
    asyncio.Queue,
    asyncio.Future,
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Thread,
    threading.Condition,
    threading.Event,
    queue.Queue,
    Executor,
    socket.socket,
    asyncio.BaseTransport,
    ssl.SSLContext,
    ssl.SSLObject,
    Guard,
    Client,
    HttpTransport,
    Pool,
    Dialer,
    Resolver,
)
"""Limits, locks, threads and connections: what somebody may have to wait for, or what can be broken for him."""

_NOT_OF_ANYBODY = (
    type,
    types.ModuleType,
    types.BuiltinFunctionType,
    types.FrameType,
    asyncio.AbstractEventLoop,
)


def reached_from(root: object) -> dict[int, object]:
    """Every object that belongs to this one, found through the garbage collector: nothing can be forgotten."""
    seen: dict[int, object] = {}
    todo = [root]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, _NOT_OF_ANYBODY) or _is_namespace(one):
            continue
        seen[id(one)] = one
        if isinstance(one, types.FunctionType):
            todo += one.__closure__ or ()  # its globals are the module's
        else:
            todo += gc.get_referents(one)
    return seen


def _is_namespace(one: object) -> bool:
    return isinstance(one, dict) and "__builtins__" in one


def awaited(root: object) -> dict[int, object]:
    """Of these, what can be waited for."""
    return {key: one for key, one in reached_from(root).items() if isinstance(one, AWAITED)}


async def answering(exchange: Exchange) -> None:
    """As much of a healthy API server as the calls of this module need."""
    if exchange.request.path == "/version":
        await exchange.reply(200, {"gitVersion": "v1.36.0"})
    elif exchange.request.path.endswith("kube-system"):
        await exchange.reply(200, {"metadata": {"name": "kube-system", "uid": "u"}})
    else:
        await exchange.reply(200, {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []})


PATIENT = Deadlines(**dict.fromkeys(Deadlines().__dataclass_fields__, 60.0))


def patient(context: str, settings: KubernetesSettings) -> KubernetesSettings:
    """The dead one is waited for longer than any test lasts: whoever waits behind it would be seen."""
    return replace(settings, deadlines=PATIENT) if context == "dead" else settings


Places = tuple[KubernetesInfra, KubernetesInfra, asyncio.Event]
"""A dead one, a healthy one, and whether the dead one has been asked something."""


@pytest.fixture
async def places(tmp_path: Path) -> AsyncIterator[Places]:
    """Two contexts of one kubeconfig."""
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            asked.set()

    async with AsyncExitStack() as stack:
        urls = {
            "dead": (await stack.enter_async_context(tcp_server(silent))).url,
            "healthy": (await stack.enter_async_context(http_server(answering))).url,
        }
        path = tmp_path / "kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": name, "cluster": {"server": url}} for name, url in urls.items()],
                    "users": [{"name": name, "user": {"token": "t"}} for name in urls],
                    "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in urls],
                }
            )
        )
        infras = Infras(["sh"], adjust=patient)
        stack.push_async_callback(infras.aclose)
        yield await infras.get("k8s/dead", [path]), await infras.get("k8s/healthy", [path]), asked


@pytest.mark.anyio
async def test_two_contexts_share_no_limiter_thread_lock_or_connection(
    places: Places,
) -> None:
    dead, healthy, asked = places
    stuck = asyncio.create_task(dead.identity())
    await healthy.identity()
    await asked.wait()
    of_dead, of_healthy = awaited(dead), awaited(healthy)
    for kind in (Guard, Client, HttpTransport, Pool, asyncio.Semaphore):
        assert any(isinstance(one, kind) for one in of_dead.values()), kind
        assert any(isinstance(one, kind) for one in of_healthy.values()), kind
    of_both = of_dead.keys() & of_healthy.keys()
    (reader,) = [one for one in reached_from(dead).values() if isinstance(one, Contexts)]
    assert [of_dead[key] for key in of_both - awaited(reader).keys()] == []
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)


@pytest.mark.anyio
async def test_what_is_shared_would_be_found(places: Places) -> None:
    """The control of the test above: one semaphore in common, deep inside."""
    dead, healthy, _ = places
    healthy._objects._turns = dead._objects._turns
    assert id(dead._objects._turns) in awaited(dead).keys() & awaited(healthy).keys()


@pytest.mark.anyio
async def test_hundreds_of_calls_that_wait_for_a_dead_context_hold_up_none_to_a_healthy_one(
    places: Places,
) -> None:
    dead, healthy, asked = places
    stuck = [asyncio.create_task(dead.identity()) for _ in range(300)]
    await asked.wait()
    async with asyncio.timeout(30):
        for _ in range(20):
            assert await healthy.identity() == "u"
        assert (await healthy.check()).version == "v1.36.0"
    assert not any(task.done() for task in stuck)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
