"""How many replicas, how fast, and what is said about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane import ControlPlane, Object, control_plane
from kubesim.controllers.hpabehavior import Past, allowed
from kubesim.controllers.hpamath import NoAnswer, Sample, Tolerance, by_average, by_utilization
from kubewire.resources import DEPLOYMENTS, PODS
from kubewire.resources import HORIZONTAL_POD_AUTOSCALERS as AUTOSCALERS

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = "2025-01-01T00:00:00Z"


def pod(name: str, *, request: str | None = "100m", phase: str = "Running", **more: Any) -> Object:
    started = more.get("started", LONG_AGO)
    requests = {"cpu": request} if request else {}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]},
        "status": {
            "phase": phase,
            "startTime": started,
            "conditions": [
                {"type": "Ready", "status": str(more.get("ready", True)), "lastTransitionTime": started}
            ],
        },
    }


def sample(milli: int) -> Sample:
    return Sample(value=milli, at=NOW, window=timedelta(seconds=15))


def utilization(
    pods: list[Object], used: dict[str, int], *, current: int | None = None, target: int = 50
) -> int:
    samples = {name: sample(value) for name, value in used.items()}
    found = by_utilization(current or len(pods), target, "cpu", pods, samples, Tolerance(), NOW)
    return found.replicas


def test_replicas_follow_the_use_beyond_the_tolerance() -> None:
    pods = [pod("a"), pod("b")]
    assert utilization(pods, {"a": 100, "b": 100}) == 4
    assert utilization(pods, {"a": 54, "b": 54}) == 2
    assert utilization(pods, {"a": 10, "b": 10}) == 1
    answer = by_average(2, 50, "cpu", pods, {"a": sample(100), "b": sample(60)}, Tolerance(), NOW)
    assert (answer.replicas, answer.average) == (4, 80)


def test_pods_without_metrics_never_make_a_change_larger() -> None:
    pods = [pod("a"), pod("b")]
    assert utilization(pods, {"a": 200}) == 4  # b counts as using nothing
    assert utilization(pods, {"a": 5}) == 2  # b counts as using what it requests
    assert utilization([*pods, pod("c", phase="Failed")], {"a": 100, "b": 100}, current=2) == 4


def test_pods_that_are_starting_count_for_nothing_when_pods_are_added() -> None:
    fresh = pod("b", started="2026-01-01T11:59:00Z", ready=False)
    assert utilization([pod("a"), fresh], {"a": 200, "b": 900}) == 4
    assert utilization([pod("a"), pod("b", phase="Pending")], {"a": 10}) == 1


def test_what_is_not_known_is_said() -> None:
    with pytest.raises(NoAnswer, match="no pods returned by selector"):
        utilization([], {}, current=1)
    with pytest.raises(NoAnswer, match="missing request for cpu in container c of Pod a"):
        utilization([pod("a", request=None)], {"a": 1})
    with pytest.raises(NoAnswer, match="did not receive metrics for targeted pods"):
        utilization([pod("a")], {})


def hpa(**spec: Any) -> Object:
    return {"spec": {"minReplicas": 1, "maxReplicas": 20, **spec}}


def test_without_a_behavior_it_grows_by_doubling_and_shrinks_after_five_minutes() -> None:
    past = Past()
    found = allowed(hpa(), 3, 15, past, 0.0)
    assert (found.replicas, found.limited, found.limit[0]) == (6, True, "ScaleUpLimit")
    found = allowed(hpa(), 6, 2, past, 10.0)
    assert (found.replicas, found.able[0]) == (12, "ScaleDownStabilized")
    found = allowed(hpa(), 6, 2, past, 311.0)
    assert (found.replicas, found.able[0], found.limited) == (2, "ReadyForNewScale", False)
    assert allowed(hpa(maxReplicas=5), 5, 9, Past(), 0.0).limit[0] == "TooManyReplicas"
    assert allowed(hpa(minReplicas=3), 5, 1, Past(), 0.0).limit[0] == "TooFewReplicas"


def test_a_behavior_says_how_many_in_which_time() -> None:
    pods = {"type": "Pods", "value": 2, "periodSeconds": 60}
    percent = {"type": "Percent", "value": 50, "periodSeconds": 60}
    up = hpa(behavior={"scaleUp": {"policies": [pods, percent]}})
    assert allowed(up, 10, 20, Past(), 0.0).replicas == 15
    least = hpa(behavior={"scaleUp": {"policies": [pods, percent], "selectPolicy": "Min"}})
    assert allowed(least, 10, 20, Past(), 0.0).replicas == 12
    assert allowed(least, 10, 20, Past(changed=[(-30.0, 2)]), 0.0).replicas == 10
    assert allowed(least, 10, 20, Past(changed=[(-90.0, 2)]), 0.0).replicas == 12
    never = hpa(behavior={"scaleDown": {"selectPolicy": "Disabled"}})
    assert allowed(never, 10, 1, Past(), 0.0).replicas == 10
    slow = hpa(behavior={"scaleUp": {"stabilizationWindowSeconds": 60}})
    held = allowed(slow, 4, 10, Past(recommended=[(-30.0, 5)]), 0.0)
    assert (held.replicas, held.able[0]) == (5, "ScaleUpStabilized")


def autoscaler(**spec: Any) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {
            "scaleTargetRef": target,
            "maxReplicas": 10,
            "metrics": [{"type": "Resource", "resource": cpu}],
            **spec,
        },
    }


async def deploy(cluster: ControlPlane, used: str) -> Object:
    """A Deployment with one running pod that pretends to use so much."""
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}
    template = {
        "metadata": {"labels": {"a": "b"}, "annotations": {"kwok.x-k8s.io/usage-cpu": used}},
        "spec": {"containers": [container]},
    }
    await cluster.client.create(
        DEPLOYMENTS,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "d"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template},
        },
        "default",
    )
    found: list[Object] = []

    def placed(pod: Object) -> bool:
        if pod["spec"].get("nodeName"):
            found.append(pod)
        return bool(found)

    await cluster.informers.of(PODS).until(placed)
    await cluster.set_phase(found[0], "Running", ready=True)
    await cluster.until(PODS, found[0]["metadata"]["name"], lambda pod: pod["status"]["phase"] == "Running")
    return found[0]


def active(hpa: Object) -> Object | None:
    conditions = hpa.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == "ScalingActive"), None)


@pytest.mark.anyio
async def test_a_deployment_whose_pods_are_busy_grows() -> None:
    async with control_plane() as cluster:
        await cluster.add_node("n")
        await deploy(cluster, "300m")
        cluster.api.serve_usage()
        await cluster.client.create(AUTOSCALERS, autoscaler(), "default")
        said = await cluster.event("h", "SuccessfulRescale")
        assert said["message"] == (
            "New size: 4; reason: cpu resource utilization (percentage of request) above target"
        )
        await cluster.until(DEPLOYMENTS, "d", lambda one: one["spec"]["replicas"] == 4)
        seen = await cluster.until(AUTOSCALERS, "h", active)
        conditions = {one["type"]: (one["status"], one["reason"]) for one in seen["status"]["conditions"]}
        assert conditions == {
            "AbleToScale": ("True", "SucceededRescale"),
            "ScalingActive": ("True", "ValidMetricFound"),
            "ScalingLimited": ("True", "ScaleUpLimit"),
        }
        assert seen["status"]["desiredReplicas"] == 4
        current = seen["status"]["currentMetrics"][0]["resource"]["current"]
        assert current == {"averageUtilization": 300, "averageValue": "300m"}


@pytest.mark.anyio
async def test_without_a_metrics_api_or_a_target_an_autoscaler_says_so() -> None:
    async with control_plane() as cluster:
        await cluster.add_node("n")
        missing = autoscaler()
        await cluster.client.create(AUTOSCALERS, missing, "default")
        said = await cluster.event("h", "FailedGetScale")
        assert said["message"] == 'deployments.apps "d" not found'
        await deploy(cluster, "300m")
        await cluster.client.patch(AUTOSCALERS, "h", {"spec": {"maxReplicas": 9}}, "default")
        seen = await cluster.until(AUTOSCALERS, "h", active)
        assert active(seen)["reason"] == "FailedGetResourceMetric"  # type: ignore[index]
        assert active(seen)["message"] == (  # type: ignore[index]
            "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for "
            "resource cpu: unable to fetch metrics from resource metrics API: "
            "the server could not find the requested resource (get pods.metrics.k8s.io)"
        )


@pytest.mark.anyio
async def test_a_behavior_that_says_little_gets_the_rest() -> None:
    async with control_plane() as cluster:
        behavior = {"scaleDown": {"stabilizationWindowSeconds": 60}}
        made = await cluster.client.create(AUTOSCALERS, autoscaler(behavior=behavior), "default")
        every = {"type": "Percent", "value": 100, "periodSeconds": 15}
        down = {"stabilizationWindowSeconds": 60, "selectPolicy": "Max", "policies": [every]}
        assert made["spec"]["behavior"]["scaleDown"] == down
        up = made["spec"]["behavior"]["scaleUp"]
        assert (up["stabilizationWindowSeconds"], len(up["policies"])) == (0, 2)


@pytest.mark.anyio
async def test_the_bounds_hold_whatever_the_pods_use() -> None:
    async with control_plane() as cluster:
        await cluster.add_node("n")
        await deploy(cluster, "1m")
        await cluster.client.create(AUTOSCALERS, autoscaler(minReplicas=3), "default")
        said = await cluster.event("h", "SuccessfulRescale")
        assert said["message"] == "New size: 3; reason: Current number of replicas below Spec.MinReplicas"
