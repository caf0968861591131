"""The decisions of the controllers, as pure functions."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from kubesim.controllers.eventttl import last_seen
from kubesim.controllers.namespaces import Remaining, conditions
from kubesim.controllers.nodelife import taints, time_left
from kubesim.controllers.ownership import OwnershipGraph, node_of
from kubesim.controllers.podgc import surplus
from kubewire.resources import CONFIG_MAPS

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
Object = dict[str, Any]


def by_type(found: list[Object]) -> dict[str, Object]:
    return {one["type"]: one for one in found}


def test_the_conditions_of_a_namespace_say_what_is_left_in_it() -> None:
    remaining = Remaining(
        resources=Counter({"configmaps.": 1, "deployments.apps": 2}),
        finalizers=Counter({"example.com/hold": 1}),
    )
    found = by_type(conditions([], remaining, NOW))
    assert found["NamespaceContentRemaining"]["message"] == (
        "Some resources are remaining: configmaps. has 1 resource instances, deployments.apps has 2 resource instances"
    )
    assert found["NamespaceFinalizersRemaining"]["message"] == (
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    )
    assert found["NamespaceDeletionContentFailure"]["status"] == "False"


def test_a_condition_keeps_its_time_as_long_as_its_status_stays() -> None:
    first = conditions([], Remaining(resources=Counter({"pods.": 2})), NOW)
    second = by_type(conditions(first, Remaining(resources=Counter({"pods.": 1})), LATER))
    assert second["NamespaceContentRemaining"]["lastTransitionTime"] == "2026-01-01T12:00:00Z"
    assert "has 1 resource instances" in second["NamespaceContentRemaining"]["message"]
    third = by_type(conditions(list(second.values()), Remaining(), LATER))
    assert third["NamespaceContentRemaining"]["lastTransitionTime"] == "2026-01-01T12:01:00Z"


def test_taints_follow_the_ready_condition_and_leave_others_alone() -> None:
    mine = [{"key": "gpu", "effect": "NoSchedule"}]
    silent = taints(mine, "Unknown", NOW)
    assert [(one["key"], one["effect"]) for one in silent] == [
        ("gpu", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
    ]
    assert taints(silent, "Unknown", LATER) == silent
    assert taints(silent, "True", LATER) == mine
    assert {one["key"] for one in taints(silent, "False", LATER)} == {"gpu", "node.kubernetes.io/not-ready"}
    assert taints(mine, None, NOW) == mine


def test_a_pod_stays_on_a_tainted_node_as_long_as_it_tolerates_it() -> None:
    taint = {"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T12:00:00Z"}

    def left(*tolerations: Object) -> float | None:
        return time_left({"spec": {"tolerations": list(tolerations)}}, [taint], LATER)

    assert left() == 0
    assert left({"key": "k", "operator": "Exists"}) is None
    assert left({"key": "k", "operator": "Exists", "tolerationSeconds": 300}) == 240
    assert left({"key": "k", "operator": "Exists", "tolerationSeconds": 30}) == -30
    assert left({"key": "other", "operator": "Exists"}) == 0
    assert left({"key": "k", "operator": "Exists", "effect": "NoSchedule"}) == 0


def test_an_event_counts_from_the_last_time_it_was_seen() -> None:
    event = {
        "metadata": {"creationTimestamp": "2026-01-01T10:00:00Z"},
        "lastTimestamp": None,
        "eventTime": "2026-01-01T10:00:00.000000Z",
        "series": {"lastObservedTime": "2026-01-01T12:00:00.000000Z"},
    }
    assert last_seen(event) == NOW


def test_only_the_oldest_of_too_many_finished_pods_go() -> None:
    def pod(name: str, phase: str, hour: int) -> Object:
        created = f"2026-01-01T{hour:02}:00:00Z"
        return {"metadata": {"name": name, "creationTimestamp": created}, "status": {"phase": phase}}

    pods = [pod("new", "Succeeded", 3), pod("old", "Failed", 1), pod("runs", "Running", 0)]
    assert [one["metadata"]["name"] for one in surplus(pods, 1)] == ["old"]
    assert surplus(pods, 2) == []


def test_the_graph_knows_dependents_also_of_owners_that_were_never_seen() -> None:
    graph = OwnershipGraph()
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "o",
        "uid": "owner",
        "blockOwnerDeletion": True,
    }
    child = {"metadata": {"uid": "child", "name": "c", "namespace": "d", "ownerReferences": [reference]}}
    graph.put(node_of(CONFIG_MAPS, child))
    assert [node.uid for node in graph.dependents("owner")] == ["child"]
    assert [node.uid for node in graph.blocking("owner")] == ["child"]
    orphan = {"metadata": {"uid": "child", "name": "c", "namespace": "d"}}
    graph.put(node_of(CONFIG_MAPS, orphan))
    assert graph.dependents("owner") == []
    graph.put(node_of(CONFIG_MAPS, child))
    graph.remove("child")
    assert graph.dependents("owner") == []
