"""Claims and volumes: who gets which, and what becomes of them."""

from __future__ import annotations

import pytest

from controlplane import Object, control_plane
from kubesim.volumes.matching import Place, find_match, mismatch
from kubewire.resources import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from kubewire.resources import PERSISTENT_VOLUMES as VOLUMES
from kubewire.resources import PODS, STORAGE_CLASSES
from storage_objects import claim, fresh, phase, storage_class, user, volume


def name_of(found: Object | None) -> str | None:
    return None if found is None else str(found["metadata"]["name"])


def test_a_claim_gets_the_smallest_volume_that_suits_in_every_respect() -> None:
    volumes = [
        volume("large", "10Gi"),
        volume("fitting", "2Gi"),
        volume("small", "500Mi"),
        volume("block", volumeMode="Block"),
        volume("classy", storageClassName="fast"),
        volume("read-only", accessModes=["ReadOnlyMany"]),
        volume("taken", claimRef={"namespace": "default", "name": "other"}),
        volume("labelled", "3Gi", labels={"tier": "gold"}),
    ]
    assert name_of(find_match(claim("c"), volumes)) == "fitting"
    assert name_of(find_match(claim("c", storageClassName="fast"), volumes)) == "classy"
    assert name_of(find_match(claim("c", volumeMode="Block"), volumes)) == "block"
    gold = claim("c", selector={"matchLabels": {"tier": "gold"}})
    assert name_of(find_match(gold, volumes)) == "labelled"
    assert find_match(claim("c", "1Ti"), volumes) is None
    assert name_of(find_match(claim("c"), volumes, taken={"fitting"})) == "labelled"


def test_a_reserved_volume_goes_to_its_claim_even_when_that_waits_for_a_consumer() -> None:
    reserved = volume("r", "5Gi", claimRef={"namespace": "default", "name": "c"})
    assert name_of(find_match(claim("c"), [volume("v"), reserved], delayed=True)) == "r"
    assert find_match(claim("d"), [volume("v"), reserved], delayed=True) is None
    assert name_of(find_match(claim("d"), [volume("v")], place=Place("n", {}), delayed=True)) == "v"


def test_a_volume_that_belongs_to_a_node_is_found_from_there_only() -> None:
    terms = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
    here = volume("v", nodeAffinity={"required": {"nodeSelectorTerms": terms}})
    assert name_of(find_match(claim("c"), [here], place=Place("n", {"zone": "a"}))) == "v"
    assert find_match(claim("c"), [here], place=Place("n", {"zone": "b"})) is None


def test_what_is_wrong_with_a_volume_that_a_claim_names_is_said() -> None:
    assert mismatch(volume("v"), claim("c", "2Gi")) == "requested PV is too small"
    assert mismatch(volume("v", storageClassName="a"), claim("c")) == "storageClassName does not match"
    assert mismatch(volume("v", volumeMode="Block"), claim("c")) == "incompatible volumeMode"
    assert mismatch(volume("v"), claim("c", accessModes=["ReadWriteMany"])) == "incompatible accessMode"
    assert mismatch(volume("v"), claim("c")) is None


@pytest.mark.anyio
async def test_a_claim_is_bound_on_both_sides_and_its_volume_is_kept_when_it_goes() -> None:
    async with control_plane() as cluster:
        await cluster.client.create(VOLUMES, volume("v"))
        available = await cluster.until(VOLUMES, "v", phase("Available"), None)
        assert available["status"]["lastPhaseTransitionTime"]
        made = await cluster.client.create(CLAIMS, fresh("c"), "default")
        bound = await cluster.until(CLAIMS, "c", phase("Bound"))
        assert bound["spec"]["volumeName"] == "v"
        assert bound["status"]["capacity"] == {"storage": "1Gi"}
        assert bound["metadata"]["annotations"] == {
            "pv.kubernetes.io/bind-completed": "yes",
            "pv.kubernetes.io/bound-by-controller": "yes",
        }
        kept = await cluster.until(VOLUMES, "v", phase("Bound"), None)
        assert kept["spec"]["claimRef"]["uid"] == made["metadata"]["uid"]
        await cluster.client.delete(CLAIMS, "c", "default")
        await cluster.gone(CLAIMS, "c")
        await cluster.until(VOLUMES, "v", phase("Released"), None)
        await cluster.client.delete(VOLUMES, "v")
        await cluster.gone(VOLUMES, "v", None)


@pytest.mark.anyio
async def test_two_claims_never_get_one_volume() -> None:
    async with control_plane() as cluster:
        for number in range(4):
            await cluster.client.create(CLAIMS, fresh(f"c{number}"), "default")
        for number in range(3):
            await cluster.client.create(VOLUMES, volume(f"v{number}"))
        for number in range(3):
            await cluster.until(VOLUMES, f"v{number}", phase("Bound"), None)
        said = await cluster.event("c3", "FailedBinding")
        assert said["message"].startswith("no persistent volumes available for this claim")
        claims = (await cluster.client.list(CLAIMS, "default")).items
        bound = [one["spec"]["volumeName"] for one in claims if one["spec"].get("volumeName")]
        assert sorted(bound) == ["v0", "v1", "v2"]


@pytest.mark.anyio
async def test_a_claim_that_loses_its_volume_says_so() -> None:
    async with control_plane() as cluster:
        await cluster.client.create(VOLUMES, volume("v"))
        await cluster.client.create(CLAIMS, fresh("c"), "default")
        await cluster.until(CLAIMS, "c", phase("Bound"))
        await cluster.client.patch(VOLUMES, "v", {"metadata": {"finalizers": None}})
        await cluster.client.delete(VOLUMES, "v")
        await cluster.until(CLAIMS, "c", phase("Lost"))
        assert "Data on the volume is lost" in (await cluster.event("c", "ClaimLost"))["message"]


@pytest.mark.anyio
async def test_a_claim_says_what_it_waits_for() -> None:
    async with control_plane() as cluster:
        await cluster.client.create(CLAIMS, fresh("a", storageClassName="none"), "default")
        said = await cluster.event("a", "ProvisioningFailed")
        assert said["message"] == 'storageclass.storage.k8s.io "none" not found'
        await cluster.client.create(STORAGE_CLASSES, storage_class("fast"))
        await cluster.client.create(
            STORAGE_CLASSES, storage_class("late", volumeBindingMode="WaitForFirstConsumer")
        )
        await cluster.client.create(CLAIMS, fresh("b", storageClassName="fast"), "default")
        said = await cluster.event("b", "ExternalProvisioning")
        assert "external provisioner 'example.com/p'" in said["message"]
        marked = await cluster.client.get(CLAIMS, "b", "default")
        assert (
            marked["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == "example.com/p"
        )
        await cluster.client.create(CLAIMS, fresh("c", storageClassName="late"), "default")
        said = await cluster.event("c", "WaitForFirstConsumer")
        assert said["message"] == "waiting for first consumer to be created before binding"


@pytest.mark.anyio
async def test_claims_without_a_class_get_the_default_one_at_once_or_later() -> None:
    async with control_plane() as cluster:
        await cluster.client.create(CLAIMS, fresh("early"), "default")
        await cluster.client.create(CLAIMS, fresh("none", storageClassName=""), "default")
        await cluster.event("early", "FailedBinding")
        await cluster.client.create(STORAGE_CLASSES, storage_class("standard", default=True))
        made = await cluster.client.create(CLAIMS, fresh("c"), "default")
        assert made["spec"]["storageClassName"] == "standard"
        await cluster.until(CLAIMS, "early", lambda one: one["spec"].get("storageClassName") == "standard")
        assert (await cluster.client.get(CLAIMS, "none", "default"))["spec"]["storageClassName"] == ""


@pytest.mark.anyio
async def test_a_claim_stays_while_a_pod_on_a_node_has_it() -> None:
    async with control_plane() as cluster:
        await cluster.add_node("n")
        await cluster.client.create(VOLUMES, volume("v"))
        await cluster.client.create(CLAIMS, fresh("c"), "default")
        await cluster.until(CLAIMS, "c", phase("Bound"))
        await cluster.client.create(PODS, user("p", "c"), "default")
        await cluster.until(PODS, "p", lambda pod: pod["spec"].get("nodeName"))
        await cluster.client.delete(CLAIMS, "c", "default")
        kept = await cluster.until(CLAIMS, "c", lambda one: "deletionTimestamp" in one["metadata"])
        assert kept["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
        await cluster.client.delete(PODS, "p", "default", grace_period=0)
        await cluster.gone(CLAIMS, "c")


@pytest.mark.anyio
async def test_an_ephemeral_volume_has_a_claim_that_goes_with_its_pod() -> None:
    async with control_plane() as cluster:
        template = {"spec": claim("x")["spec"]}
        pod = user("p", "unused")
        pod["spec"]["volumes"] = [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]
        await cluster.client.create(PODS, pod, "default")
        made = await cluster.until(CLAIMS, "p-v", lambda _: True)
        assert made["metadata"]["ownerReferences"][0]["controller"] is True
        await cluster.client.delete(PODS, "p", "default")
        await cluster.gone(CLAIMS, "p-v")


@pytest.mark.anyio
async def test_a_volume_that_nobody_made_cannot_be_deleted_and_says_so() -> None:
    async with control_plane() as cluster:
        await cluster.client.create(VOLUMES, volume("v", persistentVolumeReclaimPolicy="Delete"))
        await cluster.client.create(CLAIMS, fresh("c"), "default")
        await cluster.until(CLAIMS, "c", phase("Bound"))
        await cluster.client.delete(CLAIMS, "c", "default")
        failed = await cluster.until(VOLUMES, "v", phase("Failed"), None)
        assert "no deletable volume plugin matched" in failed["status"]["message"]
        assert (await cluster.event("v", "VolumeFailedDelete"))["type"] == "Warning"
