"""Limit ranges fill in and refuse; quotas count, and let no more in than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kubesim.apiserver.kinds.podtotals import pod_total
from kubesim.apiserver.quota.usage import in_scope, resource_of, shown, unnamed, usage
from kubesim.controllers.quota import QuotaController
from kubewire.client import Client
from kubewire.errors import AlreadyExists, Forbidden, Invalid
from kubewire.informer import Informers
from kubewire.resources import (
    CONFIG_MAPS,
    JOBS,
    LIMIT_RANGES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RESOURCE_QUOTAS,
    SERVICES,
)

pytestmark = pytest.mark.anyio


def pod(name: str, requests: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": "i"}
    if requests:
        container["resources"] = {"requests": requests}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


@pytest.fixture
async def counting(admin: Client) -> AsyncIterator[None]:
    """With the controller of quotas."""
    async with Informers(admin) as informers:
        task = asyncio.create_task(QuotaController(admin, informers).run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def quota(admin: Client, hard: dict[str, str], **spec: Any) -> None:
    """A quota that has been counted once."""
    await admin.create(
        RESOURCE_QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}}, "default"
    )
    await used_is(admin, None)


async def used_is(admin: Client, wanted: dict[str, str] | None) -> None:
    """Wait until the quota has these figures (None: any)."""
    async with asyncio.timeout(5):
        while True:
            status = (await admin.get(RESOURCE_QUOTAS, "q", "default")).get("status") or {}
            used = status.get("used")
            if used is not None and (wanted is None or wanted.items() <= used.items()):
                return
            await asyncio.sleep(0.01)


async def refused(call: Any) -> str:
    with pytest.raises(Forbidden) as caught:
        await call
    return str(caught.value.message)


# Limit ranges


async def limit(admin: Client, **item: Any) -> None:
    body = {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", **item}]}}
    await admin.create(LIMIT_RANGES, body, "default")


async def test_what_a_container_does_not_say_is_filled_in(admin: Client) -> None:
    await limit(admin, default={"cpu": "500m", "memory": "256Mi"}, defaultRequest={"cpu": "100m"})
    body = pod("a", {"memory": "1Mi"}, initContainers=[{"name": "first", "image": "i"}])
    made = await admin.create(PODS, body, "default")
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "500m", "memory": "256Mi"},
        "requests": {"cpu": "100m", "memory": "1Mi"},
    }
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu request for container c; cpu, memory limit for container c; "
        "cpu, memory request for init container first; cpu, memory limit for init container first"
    )


async def test_what_is_out_of_range_is_refused_with_all_reasons(admin: Client) -> None:
    await limit(admin, type="Pod", min={"cpu": "1"}, max={"memory": "1Gi"})
    assert await refused(admin.create(PODS, pod("a", {"cpu": "500m"}), "default")) == (
        'pods "a" is forbidden: [minimum cpu usage per Pod is 1, but request is 500m, '
        "maximum memory usage per Pod is 1Gi.  No limit is specified]"
    )


async def test_claims_have_a_range(admin: Client) -> None:
    await limit(admin, type="PersistentVolumeClaim", max={"storage": "1Gi"})
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}
    claim = {"metadata": {"name": "a"}, "spec": spec}
    assert (await refused(admin.create(PERSISTENT_VOLUME_CLAIMS, claim, "default"))).endswith(
        "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"
    )


# Quotas


@pytest.mark.usefixtures("counting")
async def test_no_more_come_in_at_once_than_there_is_room_for(admin: Client) -> None:
    await quota(admin, {"pods": "5", "requests.cpu": "10"})
    calls = [admin.create(PODS, pod(f"p{i}", {"cpu": "1"}), "default") for i in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    made = [one for one in results if isinstance(one, dict)]
    assert len(made) == 5
    assert all(isinstance(one, Forbidden) for one in results if not isinstance(one, dict))
    await used_is(admin, {"pods": "5", "requests.cpu": "5"})


@pytest.mark.usefixtures("counting")
async def test_what_was_not_stored_is_not_counted(admin: Client) -> None:
    await admin.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, "default")
    await quota(admin, {"configmaps": "2"})
    for _ in range(3):
        with pytest.raises(AlreadyExists):
            await admin.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, "default")
        with pytest.raises(Invalid):
            await admin.create(CONFIG_MAPS, {"metadata": {"name": "-"}}, "default")
        await admin.create(CONFIG_MAPS, {"metadata": {"name": "b"}}, "default", dry_run=True)
    await admin.create(CONFIG_MAPS, {"metadata": {"name": "b"}}, "default")
    assert (await refused(admin.create(CONFIG_MAPS, {"metadata": {"name": "c"}}, "default"))) == (
        'configmaps "c" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=2, '
        "limited: configmaps=2"
    )


@pytest.mark.usefixtures("counting")
async def test_what_goes_or_ends_makes_room(admin: Client) -> None:
    await quota(admin, {"pods": "2", "count/pods": "9", "count/jobs.batch": "0"})
    for name in ("a", "b"):
        await admin.create(PODS, pod(name), "default")
    await refused(admin.create(PODS, pod("c"), "default"))
    await admin.delete(PODS, "a", "default")
    await admin.patch(PODS, "b", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
    await used_is(admin, {"pods": "0", "count/pods": "1"})
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    job = {"metadata": {"name": "j"}, "spec": {"template": template}}
    assert (await refused(admin.create(JOBS, job, "default"))).startswith('jobs.batch "j" is forbidden')


@pytest.mark.usefixtures("counting")
async def test_services_are_measured_when_they_change(admin: Client) -> None:
    await quota(admin, {"services": "2", "services.nodeports": "0"})
    body = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}  # `kubernetes` is one already
    made = await admin.create(SERVICES, body, "default")
    text = await refused(
        admin.replace(SERVICES, {**made, "spec": {**made["spec"], "type": "NodePort"}}, "default")
    )
    assert "requested: services.nodeports=1, used: services.nodeports=0" in text
    await refused(admin.create(SERVICES, {**body, "metadata": {"name": "t"}}, "default"))


@pytest.mark.usefixtures("counting")
async def test_a_scope_narrows_a_quota(admin: Client) -> None:
    await quota(admin, {"pods": "1"}, scopes=["Terminating"])
    await admin.create(PODS, pod("a"), "default")
    await admin.create(PODS, pod("b", activeDeadlineSeconds=9), "default")
    await refused(admin.create(PODS, pod("c", activeDeadlineSeconds=9), "default"))
    await used_is(admin, {"pods": "1"})


def test_scopes() -> None:
    plain, priority = pod("a"), pod("b", priorityClassName="high")
    selector = {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}
    spec = {"scopeSelector": {"matchExpressions": [selector]}}
    assert not in_scope(spec, "pods", plain)
    assert in_scope(spec, "pods", priority)
    assert in_scope({"scopes": ["BestEffort"]}, "pods", plain)
    assert in_scope({"scopes": ["NotBestEffort"]}, "pods", pod("c", {"cpu": "1"}))
    assert not in_scope({"scopes": ["BestEffort"]}, "configmaps", {})
    term = {"topologyKey": "z", "namespaces": ["other"]}
    rules = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    crossing = pod("d", affinity={"podAntiAffinity": rules})
    assert in_scope({"scopes": ["CrossNamespacePodAffinity"]}, "pods", crossing)
    assert not in_scope({"scopes": ["CrossNamespacePodAffinity"]}, "pods", plain)


def test_a_pod_needs_its_containers_or_the_largest_step_of_its_start() -> None:
    def container(cpu: str, **more: Any) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "containers": [container("1"), container("500m")],
        "initContainers": [container("1", restartPolicy="Always"), container("3")],
        "overhead": {"cpu": "100m"},
    }
    assert shown(pod_total(spec, "requests")) == {"cpu": "4100m"}


def test_what_a_pod_uses() -> None:
    used = shown(usage("pods", pod("a", {"cpu": "1", "nvidia.com/gpu": "2"})))
    assert used == {
        "count/pods": "1",
        "pods": "1",
        "cpu": "1",
        "requests.cpu": "1",
        "requests.nvidia.com/gpu": "2",
    }
    ended = {**pod("a"), "status": {"phase": "Failed"}}
    assert shown(usage("pods", ended, now=datetime.now(UTC))) == {"count/pods": "1"}
    assert unnamed(pod("a"), ["pods", "limits.cpu", "cpu"]) == "must specify cpu for: c; limits.cpu for: c"
    assert [resource_of(name) for name in ("gold.storageclass.storage.k8s.io/requests.storage", "what")] == [
        "persistentvolumeclaims",
        None,
    ]


# What makes sense


async def why(call: Any) -> str:
    with pytest.raises(Invalid) as caught:
        await call
    return str(caught.value.message)


async def test_a_quota_names_what_can_be_counted(admin: Client) -> None:
    async def wrong(**spec: Any) -> str:
        return await why(admin.create(RESOURCE_QUOTAS, {"metadata": {"name": "q"}, "spec": spec}, "default"))

    text = await wrong(hard={"wheels": "1"})
    assert 'spec.hard[wheels]: Invalid value: "wheels": must be a standard resource for quota' in text
    assert "must be an integer" in await wrong(hard={"pods": "500m"})
    assert "must be greater than or equal to 0" in await wrong(hard={"pods": "-1"})
    assert "unsupported scope applied to resource" in await wrong(
        hard={"secrets": "1"}, scopes=["Terminating"]
    )
    assert "conflicting scopes" in await wrong(scopes=["BestEffort", "NotBestEffort"])
    fine = {"hard": {"count/widgets.example.com": "1", "requests.nvidia.com/gpu": "4", "cpu": "500m"}}
    made = await admin.create(RESOURCE_QUOTAS, {"metadata": {"name": "q"}, "spec": fine}, "default")
    changed = {**made, "spec": {**fine, "scopes": ["BestEffort"]}}
    assert "field is immutable" in await why(admin.replace(RESOURCE_QUOTAS, changed, "default"))


async def test_a_limit_range_has_an_order(admin: Client) -> None:
    async def wrong(**item: Any) -> str:
        body = {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", **item}]}}
        return await why(admin.create(LIMIT_RANGES, body, "default"))

    assert 'min[cpu]: Invalid value: "2": min value 2 is greater than max value 1' in await wrong(
        min={"cpu": "2"}, max={"cpu": "1"}
    )
    assert "default request value 2 is greater than default limit value 1" in await wrong(
        default={"cpu": "1"}, defaultRequest={"cpu": "2"}
    )
    assert "may not be specified when `type` is 'Pod'" in await wrong(type="Pod", default={"cpu": "1"})
    assert "either minimum or maximum storage value is required" in await wrong(type="PersistentVolumeClaim")
    assert "ratio 500m is less than 1" in await wrong(maxLimitRequestRatio={"cpu": "500m"})
