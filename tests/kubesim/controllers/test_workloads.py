"""The decisions of the workload controllers, as pure functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubesim.controllers import services
from kubesim.controllers.daemonplan import Daemons, fits, pod_for, target_of
from kubesim.controllers.disruption import status_for as budget_status
from kubesim.controllers.jobpolicies import fails_job, success_rule
from kubesim.controllers.jobview import JobView, parse_indexes, shown_indexes
from kubesim.controllers.objects import fingerprint, share
from kubesim.controllers.ordinals import Ordinals
from kubesim.controllers.replicaset import status_for, to_delete
from kubesim.controllers.rollout import DESIRED, HISTORY, MOST, REVISION, Rollout, counted, with_progress
from kubesim.controllers.schedules import parse
from kubesim.controllers.ttl import time_left

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = "2025-01-01T00:00:00Z"
Object = dict[str, Any]


def pod(
    name: str,
    *,
    phase: str = "Running",
    ready: bool = True,
    node: str | None = "n",
    since: str = LONG_AGO,
    **metadata: Any,
) -> Object:
    spec: Object = {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]}
    if node:
        spec["nodeName"] = node
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": since}
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"u-{name}",
            "creationTimestamp": LONG_AGO,
            **metadata,
        },
        "spec": spec,
        "status": {"phase": phase, "conditions": [condition], "podIP": "10.0.0.1"},
    }


# Common


def test_shares_round_as_asked_and_hashes_can_be_names() -> None:
    assert share("25%", 10, up=True) == 3
    assert share("25%", 10, up=False) == 2
    assert share(4, 10, up=True) == 4
    assert fingerprint({"a": 1}) == fingerprint({"a": 1}) != fingerprint({"a": 1}, 1)
    assert set(fingerprint({"b": 2})) <= set("bcdfghjklmnpqrstvwxz2456789")


# ReplicaSet


def replica_set(
    name: str, replicas: int, *, image: str = "i:1", available: int = 0, **annotations: str
) -> Object:
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"u-{name}",
            "generation": 1,
            "creationTimestamp": f"2025-01-01T00:00:0{name[-1]}Z",
            "annotations": annotations,
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"a": "b"}},
            "template": template(image, hashed=name),
        },
        "status": {
            "replicas": replicas,
            "availableReplicas": available,
            "readyReplicas": available,
            "terminatingReplicas": 0,
            "observedGeneration": 1,
        },
    }


def template(image: str, *, hashed: str | None = None) -> Object:
    labels = {"a": "b", **({"pod-template-hash": hashed} if hashed else {})}
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": image}]}}


def test_the_pods_that_are_missed_least_go_first() -> None:
    pods = [
        pod("old"),
        pod("young", since="2026-01-01T11:00:00Z"),
        pod("cheap", annotations={"controller.kubernetes.io/pod-deletion-cost": "-5"}),
        pod("broken", ready=False),
        pod("pending", phase="Pending", ready=False),
        pod("homeless", phase="Pending", ready=False, node=None),
    ]
    names = [one["metadata"]["name"] for one in to_delete(pods, pods, 5, NOW)]
    assert names == ["homeless", "pending", "broken", "cheap", "young"]


def test_a_crowded_node_gives_up_its_pods_first() -> None:
    alone, crowded = pod("a", node="x"), [pod("b", node="y"), pod("c", node="y")]
    assert to_delete([alone, *crowded], [alone, *crowded], 1, NOW)[0]["metadata"]["name"] == "b"


def test_the_status_of_a_set_counts_what_is_ready_for_long_enough() -> None:
    owner = replica_set("s1", 3)
    owner["spec"]["minReadySeconds"] = 60
    labels = {"a": "b", "pod-template-hash": "s1"}
    pods = [pod("x", labels=labels), pod("y", labels={"a": "b"}, since="2026-01-01T11:59:30Z")]
    status = status_for(owner, pods, 1, ("FailedCreate", "no room"), NOW)
    assert (status["replicas"], status["fullyLabeledReplicas"]) == (2, 1)
    assert (status["readyReplicas"], status["availableReplicas"], status["terminatingReplicas"]) == (2, 1, 1)
    assert status["conditions"][0]["reason"] == "FailedCreate"
    again = status_for({**owner, "status": status}, pods, 0, None, NOW)
    assert "conditions" not in again


# Deployment


def deployment(replicas: int, *, image: str = "i:2", **spec: Any) -> Object:
    return {
        "metadata": {"name": "d", "namespace": "ns", "uid": "u-d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"a": "b"}},
            "template": template(image),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            **spec,
        },
    }


def marks(desired: int, most: int) -> Object:
    return {DESIRED: str(desired), MOST: str(most), REVISION: "1"}


def test_a_rollout_adds_as_much_as_the_surge_allows_and_waits() -> None:
    old = replica_set("s1", 2, available=2, **marks(2, 3))
    look = Rollout(deployment(2), [old])
    assert look.new is None
    assert look.new_set()["spec"]["replicas"] == 1
    assert look.new_set()["metadata"]["annotations"][REVISION] == "2"
    waiting = Rollout(deployment(2), [old, replica_set("s2", 1, image="i:2")])
    assert waiting.new_size() == 1
    assert waiting.shrinking() == []


def test_an_old_set_shrinks_when_new_pods_are_available_or_its_own_are_broken() -> None:
    new = replica_set("s2", 1, image="i:2", available=1)
    healthy = Rollout(deployment(2), [replica_set("s1", 2, available=2), new])
    assert [one.replicas for one in healthy.shrinking()] == [1]
    broken = Rollout(deployment(2), [replica_set("s1", 2, available=1), new])
    assert [one.replicas for one in broken.shrinking()] == [1]


def test_a_scaled_rollout_keeps_the_proportions() -> None:
    old = replica_set("s1", 6, available=6, **marks(8, 10))
    new = replica_set("s2", 4, image="i:2", available=2, **marks(8, 10))
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 4, "maxUnavailable": 0}}
    look = Rollout(deployment(16, strategy=strategy), [old, new])
    assert sorted(one.replicas for one in look.resized()) == [8, 12]
    same = deployment(8, strategy={"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}})
    assert Rollout(same, [old, new]).resized() == []


def test_a_template_that_comes_back_gets_a_new_revision_and_remembers_the_old_one() -> None:
    first = replica_set("s1", 0, image="i:2", **{REVISION: "1"})
    second = replica_set("s2", 2, image="i:1", **{REVISION: "2"})
    look = Rollout(deployment(2), [first, second])
    assert look.new is first
    found = look.annotations(first, look.next_revision())
    assert (found[REVISION], found[HISTORY], found[MOST]) == ("3", "1", "3")


def test_progress_is_told_and_its_absence_too() -> None:
    new = replica_set("s2", 2, image="i:2")
    look = Rollout(deployment(2), [new])
    status = with_progress(look, counted(look, NOW), NOW)
    assert [one["reason"] for one in status["conditions"]] == [
        "MinimumReplicasUnavailable",
        "ReplicaSetUpdated",
    ]
    later = Rollout({**deployment(2), "status": status}, [new])
    at = NOW + timedelta(minutes=11)
    stuck = with_progress(later, counted(later, at), at)
    assert stuck["conditions"][-1]["reason"] == "ProgressDeadlineExceeded"
    done = Rollout({**deployment(2), "status": stuck}, [replica_set("s2", 2, image="i:2", available=2)])
    status = with_progress(done, counted(done, at), at)
    assert [one["reason"] for one in status["conditions"]] == [
        "MinimumReplicasAvailable",
        "NewReplicaSetAvailable",
    ]


def test_only_idle_sets_beyond_the_history_go() -> None:
    sets = [replica_set(f"s{n}", 0, image=f"o:{n}", **{REVISION: str(n)}) for n in (1, 2, 3)]
    look = Rollout(deployment(2, revisionHistoryLimit=1), [*sets, replica_set("s4", 2, image="i:2")])
    assert [one["metadata"]["name"] for one in look.expendable()] == ["s1", "s2"]


# Services


def service(**spec: Any) -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]
    return {
        "metadata": {"name": "s", "namespace": "ns", "uid": "u-s"},
        "spec": {"selector": {"a": "b"}, "ports": ports, "clusterIP": "10.0.0.9", **spec},
    }


def test_endpoints_keep_ready_and_other_addresses_apart() -> None:
    pods = [pod("x"), pod("y", ready=False), pod("z", deletionTimestamp=LONG_AGO)]
    (found,) = services.subsets(service(), pods[:1])
    assert found["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    (both,) = services.subsets(service(), pods)
    assert len(both["addresses"]) == len(both["notReadyAddresses"]) == 1
    (published,) = services.subsets(service(publishNotReadyAddresses=True), pods)
    assert len(published["addresses"]) == 3


def test_slices_tell_of_leaving_pods_and_skip_pods_without_a_node() -> None:
    pods = [pod("x", deletionTimestamp=LONG_AGO), pod("y", node="gone")]
    ((_, entries),) = services.slices(service(), pods, {"n": {"metadata": {"name": "n"}}}, "IPv4")
    assert [one["conditions"] for one in entries] == [{"ready": False, "serving": True, "terminating": True}]
    assert services.slices(service(), [], {}, "IPv4") == [((), [])]


def test_endpoints_stay_in_the_slice_that_has_them() -> None:
    entries = [{"addresses": [f"10.0.0.{n}"], "targetRef": {"uid": str(n)}} for n in range(150)]
    kept, new = services.packed(entries, [])
    assert (kept, [len(one) for one in new]) == ([], [100, 50])
    existing = [{"metadata": {"name": str(n)}, "endpoints": one} for n, one in enumerate(new)]
    kept, new = services.packed(entries[1:], existing)
    assert ([len(held) for _, held in kept], new) == ([99, 50], [])
    kept, new = services.packed([], existing)
    assert ([len(held) for _, held in kept], new) == ([0], [])


# Jobs


def job(**spec: Any) -> Object:
    return {
        "metadata": {"name": "j", "namespace": "ns", "uid": "u-j", "generation": 1},
        "spec": {
            "parallelism": 2,
            "completions": 3,
            "backoffLimit": 1,
            "template": {"metadata": {}, "spec": {"restartPolicy": "Never", "containers": []}},
            **spec,
        },
    }


def worker(name: str, *, index: int | None = None, **more: Any) -> Object:
    annotations = more.pop("annotations", {})
    if index is not None:
        annotations["batch.kubernetes.io/job-completion-index"] = str(index)
    return pod(name, finalizers=["batch.kubernetes.io/job-tracking"], annotations=annotations, **more)


@pytest.mark.parametrize("text", ["", "0", "0,1", "0-2", "1,3-5,7,9,10"])
def test_indexes_are_written_as_ranges(text: str) -> None:
    assert shown_indexes(parse_indexes(text)) == text


def test_a_job_makes_what_is_missing_and_counts_each_pod_once() -> None:
    done = worker("x", phase="Succeeded")
    view = JobView(job(), [done, worker("y")], NOW)
    assert (view.missing(), view.succeeded, view.target()) == (1, 1, None)
    status, free = view.flushed(view.counted(active_now=1, terminating_now=0), None)
    assert status["uncountedTerminatedPods"] == {"succeeded": ["u-x"]}
    assert free == [done]
    after = view.settled(status, set())
    assert (after["succeeded"], after["uncountedTerminatedPods"]) == (1, {})
    again = JobView({**job(), "status": after}, [done], NOW, released={"u-x"})
    assert again.succeeded == 1


def test_failures_beyond_the_limit_end_a_job_and_delay_its_next_pod() -> None:
    failed = [worker("x", phase="Failed", since="2026-01-01T11:59:58Z")]
    view = JobView(job(), failed, NOW)
    assert view.target() is None
    assert view.delay() == 8.0
    failed.append(worker("y", phase="Failed", since="2026-01-01T11:59:59Z"))
    target = JobView(job(), failed, NOW).target()
    assert target is not None
    assert (target.success, target.reason, target.early) == (False, "BackoffLimitExceeded", "FailureTarget")


def test_indexes_fail_alone_when_they_have_a_limit_of_their_own() -> None:
    count = {"batch.kubernetes.io/job-index-failure-count": "1"}
    spec = {"completionMode": "Indexed", "backoffLimitPerIndex": 1, "backoffLimit": 100}
    pods = [
        worker("x", index=0, phase="Failed", annotations=count),
        worker("y", index=1, phase="Failed"),
        worker("z", index=2, phase="Succeeded"),
    ]
    view = JobView(job(**spec), pods, NOW)
    assert (view.failed_indexes, view.succeeded_indexes) == ({0}, {2})
    assert view.open_indexes(3) == [1]
    assert view.marks(1) == {"batch.kubernetes.io/job-index-failure-count": "1"}
    status = {"failedIndexes": "0", "completedIndexes": "1,2"}
    target = JobView({**job(**spec), "status": status}, [], NOW).target()
    assert target is not None
    assert target.reason == "FailedIndexes"


def test_policies_say_when_a_job_ends_early() -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    spec = {"podFailurePolicy": {"rules": [rule]}}
    failed = pod("x", phase="Failed")
    failed["status"]["containerStatuses"] = [{"name": "c", "state": {"terminated": {"exitCode": 42}}}]
    assert fails_job(spec, failed) == (
        "Container c for pod ns/x failed with exit code 42 matching FailJob rule at index 0"
    )
    success = {"successPolicy": {"rules": [{"succeededIndexes": "0-2", "succeededCount": 2}]}}
    assert success_rule(success, {0}) is None
    assert success_rule(success, {0, 2}) == 0


def test_a_suspended_job_wants_no_pods_and_too_many_go() -> None:
    pods = [worker("x"), worker("y"), worker("z", phase="Pending", ready=False)]
    assert len(JobView(job(suspend=True), pods, NOW).surplus()) == 3
    assert [one["metadata"]["name"] for one in JobView(job(), pods, NOW).surplus()] == ["z"]


def test_time_to_live_counts_from_the_end() -> None:
    ended = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T11:59:50Z"}
    assert time_left(job(ttlSecondsAfterFinished=30), NOW) is None
    finished = {**job(ttlSecondsAfterFinished=30), "status": {"conditions": [ended]}}
    assert time_left(finished, NOW) == 20


# Cron


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * *", "2026-01-01T12:01:00"),
        ("*/15 * * * *", "2026-01-01T12:15:00"),
        ("0 9-17/4 * * MON-FRI", "2026-01-01T13:00:00"),
        ("30 6 29 2 *", "2028-02-29T06:30:00"),
        ("0 0 13 * 5", "2026-01-02T00:00:00"),
        ("@monthly", "2026-02-01T00:00:00"),
        ("@every 1h30m", "2026-01-01T13:30:00"),
    ],
)
def test_a_schedule_knows_when_it_is_due_next(schedule: str, expected: str) -> None:
    found = parse(schedule).next(NOW)
    assert found is not None
    assert found.replace(tzinfo=None).isoformat() == expected


def test_only_the_latest_missed_time_counts() -> None:
    hourly = parse("@hourly")
    assert hourly.latest(NOW - timedelta(hours=5), NOW) == NOW
    assert hourly.latest(NOW, NOW + timedelta(minutes=59)) is None
    assert parse("0 0 31 2 *").next(NOW) is None


# StatefulSet


def stateful(replicas: int, **spec: Any) -> Object:
    return {
        "metadata": {"name": "db", "namespace": "ns", "uid": "u-db", "generation": 1},
        "spec": {"replicas": replicas, **spec},
    }


def member(number: int, revision: str = "db-new", **more: Any) -> Object:
    return pod(f"db-{number}", labels={"controller-revision-hash": revision}, **more)


def test_a_stateful_set_goes_step_by_step_or_all_at_once() -> None:
    steps = Ordinals(stateful(3), [member(0, ready=False)], "db-new", "db-new", NOW).steps()
    assert steps == []
    steps = Ordinals(stateful(3), [member(0)], "db-new", "db-new", NOW).steps()
    assert [one.create for one in steps] == [1]
    parallel = Ordinals(stateful(3, podManagementPolicy="Parallel"), [], "db-new", "db-new", NOW)
    assert [one.create for one in parallel.steps()] == [0, 1, 2]
    shifted = Ordinals(stateful(1, ordinals={"start": 5}), [], "db-new", "db-new", NOW)
    assert [one.create for one in shifted.steps()] == [5]


def test_a_stateful_set_shrinks_and_updates_from_the_top() -> None:
    shrinking = Ordinals(stateful(1), [member(n) for n in range(3)], "db-new", "db-new", NOW).steps()
    assert [one.delete["metadata"]["name"] for one in shrinking if one.delete] == ["db-2"]
    old = [member(n, "db-old") for n in range(3)]
    steps = Ordinals(stateful(3), old, "db-old", "db-new", NOW).steps()
    assert [one.delete["metadata"]["name"] for one in steps if one.delete] == ["db-2"]
    held = stateful(3, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 3}})
    look = Ordinals(held, old, "db-old", "db-new", NOW)
    assert (look.steps(), look.revision_for(2)) == ([], "db-old")
    status = look.status(0)
    assert (status["currentReplicas"], status.get("updatedReplicas"), status["collisionCount"]) == (
        3,
        None,
        0,
    )


# DaemonSet


def node(name: str, *, taints: list[Object] | None = None, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints or []}}


def daemon_set(**spec: Any) -> Object:
    made = template("i")
    made["spec"].update(spec.pop("pod", {}))
    return {
        "metadata": {"name": "ds", "namespace": "ns", "uid": "u-ds", "generation": 1},
        "spec": {"template": made, **spec},
    }


def test_a_daemon_runs_where_selector_and_taints_allow() -> None:
    spec = {"nodeSelector": {"pool": "x"}}
    assert fits(spec, node("a", pool="x")) == (True, True)
    assert fits(spec, node("a", pool="y")) == (False, False)
    assert fits({}, node("a", taints=[{"key": "k", "effect": "NoSchedule"}])) == (False, True)
    assert fits({}, node("a", taints=[{"key": "k", "effect": "NoExecute"}])) == (False, False)
    cordoned = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    assert fits({}, node("a", taints=cordoned)) == (True, True)


def test_a_daemon_pod_is_bound_to_its_node_by_affinity() -> None:
    made = pod_for(daemon_set(), "a", "mark")
    assert target_of(made) == "a"
    assert made["metadata"]["labels"]["controller-revision-hash"] == "mark"


def test_each_node_gets_one_daemon_and_an_update_takes_one_at_a_time() -> None:
    nodes = [node("a"), node("b")]
    look = Daemons(daemon_set(), [pod("x", node="a"), pod("y", node="a")], nodes, "new", NOW)
    plan = look.plan()
    assert (plan.create, len(plan.delete)) == (["b"], 1)
    old = [pod(f"p{one}", node=one, labels={"controller-revision-hash": "old"}) for one in "ab"]
    assert len(Daemons(daemon_set(), old, nodes, "new", NOW).plan().delete) == 1
    surge = daemon_set(updateStrategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    plan = Daemons(surge, old, nodes, "new", NOW).plan()
    assert (plan.create, plan.delete) == (["a"], [])


# Budgets


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 1}, (1, 2, 1, 2)),
        ({"maxUnavailable": 1}, (0, 2, 3, 4)),
        ({"minAvailable": "50%"}, (0, 2, 2, 4)),
        ({"maxUnavailable": "75%"}, (1, 2, 1, 4)),
    ],
)
def test_a_budget_knows_how_many_may_go(spec: Object, expected: tuple[int, ...]) -> None:
    budget = {"metadata": {"name": "b", "generation": 2}, "spec": spec}
    status = budget_status(budget, [pod("x"), pod("y")], 4, NOW)
    names = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    assert tuple(status[name] for name in names) == expected
    assert status["conditions"][0]["status"] == str(expected[0] > 0)
