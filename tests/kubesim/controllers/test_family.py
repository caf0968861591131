"""Owners, children, and what is on its way between them."""

from __future__ import annotations

from typing import Any

import pytest

from kubesim.controllers.family import Family, Index
from kubesim.controllers.recorder import Recorder
from kubesim.controllers.workqueue import WorkQueue
from kubewire.client import Client
from kubewire.informer import Informer
from kubewire.resources import PODS, REPLICA_SETS
from kubewire.watch import ADDED, DELETED, MODIFIED, WatchEvent

Object = dict[str, Any]


class NoTransport:
    """Nothing leaves the process here."""

    async def aclose(self) -> None:
        """Nothing to close."""


def pod(name: str, owner: str | None) -> Object:
    by = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": owner, "controller": True}
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"u-{name}",
            "labels": {"a": "b"},
            "ownerReferences": [by] if owner else [],
        }
    }


def names(found: list[Object]) -> list[str]:
    return [one["metadata"]["name"] for one in found]


def test_an_index_follows_owners_and_namespaces() -> None:
    mirror = Informer(Client(NoTransport()), PODS)  # type: ignore[arg-type]
    index = Index(mirror)
    mirror.take(WatchEvent(ADDED, pod("x", "u-rs")))
    mirror.take(WatchEvent(ADDED, pod("y", None)))
    assert (names(index.owned("u-rs")), names(index.within("ns"))) == (["x"], ["x", "y"])
    mirror.take(WatchEvent(MODIFIED, pod("x", None)))
    assert (names(index.owned("u-rs")), names(index.within("ns"))) == ([], ["x", "y"])
    mirror.take(WatchEvent(DELETED, pod("x", None)))
    assert names(index.within("ns")) == ["y"]


@pytest.mark.anyio
async def test_nobody_counts_children_before_the_mirror_has_seen_them() -> None:
    client = Client(NoTransport())  # type: ignore[arg-type]
    sets, pods = Informer(client, REPLICA_SETS), Informer(client, PODS)
    queue = WorkQueue()
    family = Family(client, Index(sets), Index(pods), queue, Recorder(client, "test"))
    family._await("ns/rs", pod("x", "u-rs"), deletion=False)
    assert not family.settled("ns/rs")
    pods.take(WatchEvent(ADDED, pod("x", "u-rs")))
    assert family.settled("ns/rs")
    assert await queue.get() == "ns/rs"
    family._await("ns/rs", pod("x", "u-rs"), deletion=True)
    assert not family.settled("ns/rs")
    pods.take(WatchEvent(DELETED, pod("x", "u-rs")))
    assert family.settled("ns/rs")
    queue.close()
