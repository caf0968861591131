"""Pods with claims: which nodes they can go to, what is said when there is none, and what is bound for them."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane import control_plane
from kubesim.scheduler.framework import Framework, Surroundings
from kubesim.scheduler.model import PodInfo, read_pod
from kubesim.scheduler.preemption import preempt
from kubesim.scheduler.volumes import Plan, Storage, claims_of, plan_for
from kubewire.resources import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from kubewire.resources import PERSISTENT_VOLUMES as VOLUMES
from kubewire.resources import PODS, STORAGE_CLASSES
from storage_objects import claim, fresh, phase, storage_class, user, volume

from .test_decisions import Object, node, world


def stored(*objects: Object) -> Storage:
    by_kind: dict[str, dict[str, Object]] = {}
    for one in objects:
        about = one["metadata"]
        key = f"{about['namespace']}/{about['name']}" if "namespace" in about else about["name"]
        by_kind.setdefault(one["kind"], {})[key] = one
    return Storage(
        claim=by_kind.get("PersistentVolumeClaim", {}).get,
        volume=by_kind.get("PersistentVolume", {}).get,
        volumes=lambda: by_kind.get("PersistentVolume", {}).values(),
        storage_class=by_kind.get("StorageClass", {}).get,
    )


def wanting(*names: str) -> PodInfo:
    pod = user("p", names[0])
    pod["metadata"] |= {"uid": "u-p", "namespace": "default"}
    pod["spec"]["volumes"] = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]
    return read_pod(pod)


def bound(name: str, to: str, **spec: Any) -> Object:
    made = claim(name, volumeName=to, **spec)
    made["metadata"]["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
    return {**made, "status": {"phase": "Bound"}}


def local(name: str, zone: str, **spec: Any) -> Object:
    terms = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]
    return volume(name, nodeAffinity={"required": {"nodeSelectorTerms": terms}}, **spec)


NODES = [node("a", labels={"zone": "a"}), node("b", labels={"zone": "b"})]
LATE = storage_class("late", volumeBindingMode="WaitForFirstConsumer")


def verdict(storage: Storage, pod: PodInfo) -> str:
    """The node, or the whole message."""
    framework, nodes = Framework(Surroundings(storage=storage)), world(*NODES).nodes
    decision = framework.decide(pod, nodes)
    if decision.node:
        return decision.node
    return f"{decision.message} {preempt(framework, pod, nodes, decision).message}"


def test_claims_that_cannot_be_had_at_all_are_named() -> None:
    said = "0/2 nodes are available: "
    assert verdict(stored(), wanting("c")) == f'{said}persistentvolumeclaim "c" not found. not found'
    pending = verdict(stored(claim("c")), wanting("c"))
    assert pending == f"{said}pod has unbound immediate PersistentVolumeClaims. not found"
    going = claim("c")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (
        verdict(stored(going), wanting("c")) == f'{said}persistentvolumeclaim "c" is being deleted. not found'
    )


def test_a_bound_claim_takes_the_pod_to_where_its_volume_is() -> None:
    assert verdict(stored(bound("c", "v"), local("v", "b")), wanting("c")) == "b"
    nowhere = verdict(stored(bound("c", "v"), local("v", "x")), wanting("c"))
    assert nowhere.startswith(
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."
    )
    lost = verdict(stored(bound("c", "v")), wanting("c"))
    assert "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)" in lost


def test_a_zone_in_the_labels_of_a_volume_counts() -> None:
    labelled = volume("v", labels={"topology.kubernetes.io/zone": "z1__z2"})
    storage = stored(bound("c", "v"), labelled)
    framework = Framework(Surroundings(storage=storage))
    nodes = world(
        node("a", labels={"topology.kubernetes.io/zone": "z3"}),
        node("b", labels={"topology.kubernetes.io/zone": "z2"}),
    ).nodes
    assert framework.decide(wanting("c"), nodes).node == "b"
    del nodes["b"]
    assert "node(s) had no available volume zone" in framework.decide(wanting("c"), nodes).message


def test_a_claim_that_waits_for_its_consumer_is_matched_on_the_node() -> None:
    waiting = claim("c", storageClassName="late")
    none = storage_class(
        "late", provisioner="kubernetes.io/no-provisioner", volumeBindingMode="WaitForFirstConsumer"
    )
    storage = stored(waiting, none, local("v", "b", storageClassName="late"))
    assert verdict(storage, wanting("c")) == "b"
    storage.taken["v"] = "another pod"
    assert "2 node(s) didn't find available persistent volumes to bind" in verdict(storage, wanting("c"))


def test_what_no_volume_offers_is_provisioned_and_no_volume_is_chosen_twice() -> None:
    one, two = claim("c", storageClassName="late"), claim("d", storageClassName="late")
    storage = stored(one, two, LATE, volume("v", storageClassName="late"))
    pod = wanting("c", "d")
    plan = plan_for(storage, claims_of(storage, pod), pod, world(*NODES).nodes["a"])
    assert plan == Plan(static=((one, storage.volume("v")),), provision=(two,))  # type: ignore[arg-type]


def test_a_claim_for_one_pod_is_not_given_to_a_second() -> None:
    alone = bound("c", "v", accessModes=["ReadWriteOncePod"])
    storage = stored(alone, volume("v", accessModes=["ReadWriteOncePod"]))
    cache = world(*NODES)
    first = user("first", "c")
    first["metadata"] |= {"uid": "u-first", "namespace": "default"}
    first["spec"]["nodeName"] = "a"
    cache.put_pod(first)
    decision = Framework(Surroundings(storage=storage)).decide(wanting("c"), cache.nodes)
    assert "2 node has pod using PersistentVolumeClaim with the same name" in decision.message


@pytest.mark.anyio
async def test_a_pod_that_is_the_first_consumer_gets_volumes_of_its_node() -> None:
    none = storage_class(
        "late", provisioner="kubernetes.io/no-provisioner", volumeBindingMode="WaitForFirstConsumer"
    )
    async with control_plane() as cluster:
        await cluster.add_node("a", labels={"zone": "a"})
        await cluster.add_node("b", labels={"zone": "b"})
        await cluster.client.create(STORAGE_CLASSES, none)
        await cluster.client.create(VOLUMES, local("v", "b", storageClassName="late"))
        await cluster.client.create(CLAIMS, fresh("c", storageClassName="late"), "default")
        await cluster.event("c", "WaitForFirstConsumer")
        await cluster.client.create(PODS, user("p", "c"), "default")
        placed = await cluster.until(PODS, "p", lambda pod: pod["spec"].get("nodeName"))
        assert placed["spec"]["nodeName"] == "b"
        assert (await cluster.client.get(CLAIMS, "c", "default"))["spec"]["volumeName"] == "v"


@pytest.mark.anyio
async def test_a_pod_waits_until_its_volume_has_been_provisioned() -> None:
    async with control_plane() as cluster:
        await cluster.add_node("a")
        await cluster.client.create(STORAGE_CLASSES, LATE)
        made = await cluster.client.create(CLAIMS, fresh("c", storageClassName="late"), "default")
        await cluster.client.create(PODS, user("p", "c"), "default")
        chosen = "volume.kubernetes.io/selected-node"
        await cluster.until(
            CLAIMS, "c", lambda one: one["metadata"].get("annotations", {}).get(chosen) == "a"
        )
        await cluster.event("c", "ExternalProvisioning")
        assert "nodeName" not in (await cluster.client.get(PODS, "p", "default"))["spec"]
        ref = {
            "namespace": "default",
            "name": "c",
            "uid": made["metadata"]["uid"],
            "kind": "PersistentVolumeClaim",
        }
        await cluster.client.create(VOLUMES, volume("v", storageClassName="late", claimRef=ref))
        await cluster.until(CLAIMS, "c", phase("Bound"))
        await cluster.until(PODS, "p", lambda pod: pod["spec"].get("nodeName") == "a")


@pytest.mark.anyio
async def test_a_pod_that_waits_for_a_claim_is_tried_again_when_it_comes() -> None:
    async with control_plane() as cluster:
        await cluster.add_node("a")
        await cluster.client.create(PODS, user("p", "c"), "default")
        assert (
            'persistentvolumeclaim "c" not found' in (await cluster.event("p", "FailedScheduling"))["message"]
        )
        await cluster.client.create(VOLUMES, volume("v"))
        await cluster.client.create(CLAIMS, fresh("c"), "default")
        await cluster.until(PODS, "p", lambda pod: pod["spec"].get("nodeName") == "a")
