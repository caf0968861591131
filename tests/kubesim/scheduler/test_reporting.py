"""What the scheduler says of pods that it cannot place, and for whom it keeps the room that it made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane import Object, control_plane
from kubesim.scheduler.failures import Failures
from kubesim.scheduler.model import read_pod
from kubewire.resources import EVENTS, PODS, PRIORITY_CLASSES

from .test_decisions import pod


@pytest.mark.anyio
async def test_a_repeated_failure_is_a_series_of_one_event() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    async with control_plane() as cluster:
        failures = Failures(cluster.client, "default-scheduler", lambda: at)
        waiting = read_pod(pod("p"))
        for _ in range(4):
            await failures.say(waiting, "no room")
            at += timedelta(seconds=1)
        await failures.say(waiting, "no room at all")
        first, other = (await cluster.client.list(EVENTS, "default")).items
        assert (first["message"], first["series"]["count"]) == ("no room", 2)  # the rest is written later
        assert (other["message"], other.get("series")) == ("no room at all", None)
        for _ in range(3):
            at += timedelta(minutes=3)
            await failures.say(waiting, "no room")
        first = await cluster.client.get(EVENTS, first["metadata"]["name"], "default")
        assert first["series"]["count"] == 6
        at += timedelta(minutes=7)
        await failures.say(waiting, "no room")
        assert len((await cluster.client.list(EVENTS, "default")).items) == 3


@pytest.mark.anyio
async def test_room_that_was_made_is_kept_for_whom_it_was_made() -> None:
    async with control_plane() as cluster:
        await cluster.add_node("n", cpu="2")
        for name, value in (("high", 1000), ("low", 10)):
            made = {"metadata": {"name": name}, "value": value}
            await cluster.client.create(
                PRIORITY_CLASSES, {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", **made}
            )
        await cluster.client.create(PODS, asking("victim", "2", finalizers=["example.com/wait"]), "default")
        await cluster.until(PODS, "victim", lambda one: one["spec"].get("nodeName"))
        await cluster.client.create(PODS, asking("vip", "2", priorityClassName="high"), "default")
        await cluster.until(PODS, "vip", lambda one: one.get("status", {}).get("nominatedNodeName") == "n")
        await cluster.event("victim", "Preempted")
        await cluster.client.create(PODS, asking("lesser", "1", priorityClassName="low"), "default")
        await cluster.event("lesser", "FailedScheduling")
        await cluster.client.patch(PODS, "victim", {"metadata": {"finalizers": None}}, "default")
        await cluster.client.delete(PODS, "victim", "default", grace_period=0)
        await cluster.until(PODS, "vip", lambda one: one["spec"].get("nodeName") == "n")
        assert "nodeName" not in (await cluster.client.get(PODS, "lesser", "default"))["spec"]


def asking(name: str, cpu: str, *, finalizers: list[str] | None = None, **spec: Any) -> Object:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **({"finalizers": finalizers} if finalizers else {})},
        "spec": {"containers": [container], **spec},
    }
