"""Volumes as claims: made once, known by our uid, deleted only when they are ours, with who uses them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.infra.provision import VolumeSpec
from whimbrel.model.errors import Conflict, IdentityChanged, NotFound

from .fake_api import KINDS, FakeApi

pytestmark = pytest.mark.anyio
CLAIMS = "persistentvolumeclaims"


@pytest.fixture(autouse=True)
def claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake server knows the kind."""
    monkeypatch.setitem(KINDS, CLAIMS, "PersistentVolumeClaim")


@pytest.fixture
def volume() -> VolumeSpec:
    """One of ours."""
    return VolumeSpec(
        uid="fedcba9876543210",
        name="data",
        claim="data-fedcba98",
        namespace="default",
        identity="uid-of-kube-system",
        user="alice",
        size_gib=10,
        access_mode="ReadWriteOnce",
    )


def user_of(api: FakeApi, claim: str) -> None:
    spec = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}], "containers": []}
    api.put("pods", "default", {"metadata": {"name": "reader"}, "spec": spec, "status": {"phase": "Running"}})


def stored(api: FakeApi, volume: VolumeSpec) -> dict[str, Any]:
    return api.objects[CLAIMS, volume.namespace, volume.claim]


async def test_a_claim_is_made_once_and_labelled(
    infra: KubernetesInfra, api: FakeApi, volume: VolumeSpec
) -> None:
    for _ in range(2):
        assert (await infra.make_volume(volume)).phase == "Pending"
    assert api.named(CLAIMS) == ["data-fedcba98"]
    assert stored(api, volume)["spec"]["resources"]["requests"]["storage"] == "10240Mi"
    assert stored(api, volume)["metadata"]["labels"]["whimbrel.dev/volume-uid"] == volume.uid
    assert infra.volume_thing(volume).token == (
        "k8s/fake/PersistentVolumeClaim/default/data-fedcba98/fedcba9876543210"
    )


async def test_what_is_seen_tells_its_size_and_who_uses_it(
    infra: KubernetesInfra, api: FakeApi, volume: VolumeSpec
) -> None:
    await infra.make_volume(volume)
    stored(api, volume)["status"] = {"phase": "Bound", "capacity": {"storage": "10Gi"}}
    user_of(api, volume.claim)
    seen = await infra.observe_volume(volume)
    assert (seen.phase, seen.size, seen.used_by) == ("Bound", "10Gi", ("reader",))


async def test_a_claim_of_somebody_else_is_neither_taken_nor_deleted(
    infra: KubernetesInfra, api: FakeApi, volume: VolumeSpec
) -> None:
    api.put(CLAIMS, "default", {"metadata": {"name": volume.claim}})
    with pytest.raises(Conflict, match="already, which is not this"):
        await infra.make_volume(volume)
    assert (await infra.remove_volume(volume, 1)).phase == ""
    assert api.named(CLAIMS) == [volume.claim]


async def test_an_existing_claim_is_used_and_left_in_place(
    infra: KubernetesInfra, api: FakeApi, volume: VolumeSpec
) -> None:
    existing = replace(volume, existing=True, claim="theirs")
    with pytest.raises(NotFound, match="no PersistentVolumeClaim theirs"):
        await infra.make_volume(existing)
    api.put(CLAIMS, "default", {"metadata": {"name": "theirs"}, "status": {"phase": "Bound"}})
    assert (await infra.make_volume(existing)).phase == "Bound"
    await infra.remove_volume(existing, 0.1)
    assert api.named(CLAIMS) == ["theirs"]


async def test_deleting_ends_when_the_claim_was_seen_gone(
    infra: KubernetesInfra, api: FakeApi, volume: VolumeSpec
) -> None:
    await infra.make_volume(volume)
    assert (await infra.remove_volume(volume, 5)).phase == ""
    assert api.named(CLAIMS) == []


async def test_a_claim_that_is_held_is_told_with_who_holds_it(
    infra: KubernetesInfra, api: FakeApi, volume: VolumeSpec
) -> None:
    await infra.make_volume(volume)
    user_of(api, volume.claim)
    api.on_delete = lambda key: False
    seen = await infra.remove_volume(volume, 0.2)
    assert (seen.phase, seen.used_by) == ("Pending", ("reader",))


async def test_in_another_cluster_nothing_is_touched(
    infra: KubernetesInfra, api: FakeApi, volume: VolumeSpec
) -> None:
    await infra.make_volume(volume)
    with pytest.raises(IdentityChanged):
        await infra.remove_volume(replace(volume, identity="another"), 1)
    assert api.named(CLAIMS) == [volume.claim]
