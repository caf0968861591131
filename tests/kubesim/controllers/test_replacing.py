"""Pods that fail are replaced, and those that fail again and again with growing delays."""

from __future__ import annotations

import asyncio

import pytest

from controlplane import ControlPlane, Object, control_plane
from kubesim.controllers.backoff import Backoff
from kubewire.resources import DAEMON_SETS, PODS, REPLICATION_CONTROLLERS, STATEFUL_SETS

TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def test_attempts_double_their_delay_up_to_a_limit_and_are_forgotten() -> None:
    backoff = Backoff(1.0, 3.0)
    assert backoff.left("k", 0.0) == 0.0
    waits = []
    at = 0.0
    for _ in range(4):
        backoff.attempt("k", at)
        waits.append(backoff.left("k", at))
        at += waits[-1]
    assert waits == [1.0, 2.0, 3.0, 3.0]
    assert backoff.left("other", at) == 0.0
    backoff.attempt("k", at + 7.0)
    assert backoff.left("k", at + 7.0) == 1.0
    assert len(backoff) == 1


@pytest.mark.anyio
async def test_a_daemon_pod_that_fails_again_waits_before_it_is_replaced() -> None:
    async with control_plane() as cluster:
        await cluster.add_node("n")
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}
        await cluster.client.create(DAEMON_SETS, owner("DaemonSet", "d", spec), "default")
        first = await next_pod(cluster, set())
        await cluster.set_phase(first, "Failed")
        second = await next_pod(cluster, {uid(first)})
        assert "will try to kill it" in (await cluster.event("d", "FailedDaemonPod"))["message"]
        failed_at = loop_time()
        await cluster.set_phase(second, "Failed")
        await next_pod(cluster, {uid(first), uid(second)})
        assert loop_time() - failed_at > 0.5


@pytest.mark.anyio
async def test_a_pod_of_a_stateful_set_that_fails_again_waits_before_it_is_replaced() -> None:
    async with control_plane() as cluster:
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE, "serviceName": "s"}
        await cluster.client.create(STATEFUL_SETS, owner("StatefulSet", "s", spec), "default")
        first = await next_pod(cluster, set())
        await cluster.set_phase(first, "Failed")
        second = await next_pod(cluster, {uid(first)})
        said = await cluster.event("s", "RecreatingFailedPod")
        assert said["message"] == "StatefulSet default/s is recreating failed Pod s-0"
        failed_at = loop_time()
        await cluster.set_phase(second, "Failed")
        await next_pod(cluster, {uid(first), uid(second)})
        assert loop_time() - failed_at > 0.5


@pytest.mark.anyio
async def test_a_replication_controller_keeps_its_number_of_pods() -> None:
    async with control_plane() as cluster:
        spec = {"replicas": 2, "selector": {"a": "b"}, "template": TEMPLATE}
        await cluster.client.create(
            REPLICATION_CONTROLLERS, owner("ReplicationController", "rc", spec, "v1"), "default"
        )
        seen = await cluster.until(
            REPLICATION_CONTROLLERS, "rc", lambda rc: rc.get("status", {}).get("replicas") == 2
        )
        assert "terminatingReplicas" not in seen["status"]
        pod = cluster.informers.of(PODS).all()[0]
        assert pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicationController"
        await cluster.client.delete(PODS, pod["metadata"]["name"], "default")
        await next_pod(cluster, {uid(one) for one in cluster.informers.of(PODS).all()} | {uid(pod)})
        said = await cluster.event("rc", "SuccessfulCreate")
        assert said["source"]["component"] == "replication-controller"


def owner(kind: str, name: str, spec: Object, version: str = "apps/v1") -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def uid(pod: Object) -> str:
    return str(pod["metadata"]["uid"])


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def next_pod(cluster: ControlPlane, known: set[str]) -> Object:
    found: list[Object] = []

    def look(pod: Object) -> bool:
        if uid(pod) not in known:
            found.append(pod)
        return bool(found)

    async with asyncio.timeout(20):
        await cluster.informers.of(PODS).until(look)
    return found[0]
