"""What is decided for a pod, and what it reports: pure functions of its spec and of what its containers did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kubesim.kubelet.containerfiles import Exit
from kubesim.kubelet.containers import Attempt, ContainerView, Health, PodView
from kubesim.kubelet.reconcile import Decision, Kill, Start, decide
from kubesim.kubelet.records import from_status
from kubesim.kubelet.status import pod_status

NOW = 1_800_000_000.0
NOW_TEXT = "2027-01-15T08:00:00Z"


def pod(*names: str, init: tuple[dict[str, Any], ...] = (), **spec: Any) -> dict[str, Any]:
    containers = [{"name": name, "image": "img", "command": ["x"]} for name in names or ("main",)]
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u-1"},
        "spec": {"containers": containers, "initContainers": list(init), **spec},
        "status": {},
    }


def running(number: int = 0, **health: Any) -> ContainerView:
    attempt = Attempt(number=number, container_id="process://1", started_at=NOW - 60)
    return ContainerView(current=attempt, health=Health(**health))


def ended(
    code: int, *, number: int = 0, ago: float = 0.0, lasted: float = 1.0, backoff: float = 0.0
) -> ContainerView:
    end = Exit(exit_code=code, started_at=NOW - ago - lasted, finished_at=NOW - ago)
    return ContainerView(
        current=Attempt(
            number=number, container_id="process://1", started_at=end.started_at, exit=end, backoff=backoff
        )
    )


def look(pod: dict[str, Any], known: Mapping[str, ContainerView] | None = None) -> PodView:
    return PodView(pod=pod, containers=known or {}, pod_ip="127.64.0.1", prepared=True)


def started(decision: Decision) -> list[str]:
    return [start.container for start in decision.start]


def reported(view: PodView) -> dict[str, Any]:
    return pod_status(view, decide(view, NOW), host_ip="127.0.0.1", now=NOW)


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(one for one in status["conditions"] if one["type"] == kind)


def test_all_containers_of_a_new_pod_are_started_side_by_side() -> None:
    assert started(decide(look(pod("a", "b")), NOW)) == ["a", "b"]


def test_nothing_is_to_be_done_while_everything_runs() -> None:
    assert decide(look(pod(), {"main": running()}), NOW) == Decision()


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Never", 1, False),
        ("Never", 0, False),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Always", 0, True),
    ],
)
def test_the_restart_policy_decides_whether_an_ended_container_is_started_again(
    policy: str, code: int, again: bool
) -> None:
    decision = decide(look(pod(restartPolicy=policy), {"main": ended(code)}), NOW)
    assert decision.start == ((Start(container="main", number=1, backoff=0.0),) if again else ())


@pytest.mark.parametrize(
    ("number", "last", "wait"),
    [(0, 0, 0), (1, 0, 10), (2, 10, 20), (3, 20, 40), (7, 300, 300), (9, 200, 300)],
)
def test_each_restart_waits_longer_up_to_five_minutes(number: int, last: float, wait: float) -> None:
    view = look(pod(), {"main": ended(1, number=number, backoff=last)})
    later = decide(view, NOW + wait)
    assert later.start == (Start(container="main", number=number + 1, backoff=wait),)
    if wait:
        assert decide(view, NOW).wake_at == NOW + wait
        assert decide(view, NOW).backing_off == (("main", wait),)


def test_ten_good_minutes_forgive_earlier_crashes() -> None:
    view = look(pod(), {"main": ended(1, number=5, lasted=601, backoff=160)})
    assert decide(view, NOW).start == (Start(container="main", number=6, backoff=0.0),)


def test_a_deleted_pod_is_stopped_with_its_grace_and_let_go_when_nothing_runs() -> None:
    deleted = pod("a", "b")
    deleted["metadata"] |= {"deletionTimestamp": NOW_TEXT, "deletionGracePeriodSeconds": 7}
    decision = decide(look(deleted, {"a": running(), "b": ended(1)}), NOW)
    assert (decision.stop, decision.grace, decision.let_go, decision.start) == (("a",), 7.0, False, ())
    assert decide(look(deleted, {"a": ended(143), "b": ended(1)}), NOW).let_go
    assert decide(look(deleted), NOW).let_go


def test_a_pod_that_has_ended_is_never_started_again() -> None:
    done = pod(restartPolicy="Always")
    done["status"] = {"phase": "Failed"}
    assert decide(look(done), NOW).start == ()


def test_init_containers_run_one_after_the_other_before_the_others() -> None:
    view = pod("main", init=({"name": "one"}, {"name": "two"}))
    assert started(decide(look(view), NOW)) == ["one"]
    assert started(decide(look(view, {"one": running()}), NOW)) == []
    assert started(decide(look(view, {"one": ended(0)}), NOW)) == ["two"]
    assert started(decide(look(view, {"one": ended(0), "two": ended(0)}), NOW)) == ["main"]


def test_a_failed_init_container_is_repeated_unless_the_pod_never_restarts() -> None:
    assert started(decide(look(pod(init=({"name": "one"},)), {"one": ended(1)}), NOW)) == ["one"]
    view = look(pod(init=({"name": "one"},), restartPolicy="Never"), {"one": ended(1)})
    assert decide(view, NOW).start == ()
    assert reported(view)["phase"] == "Failed"


def test_a_sidecar_goes_on_beside_the_containers_and_is_ended_after_them() -> None:
    view = pod("main", init=({"name": "side", "restartPolicy": "Always"},), restartPolicy="Never")
    assert started(decide(look(view), NOW)) == ["side"]
    assert started(decide(look(view, {"side": running()}), NOW)) == ["main"]
    decision = decide(look(view, {"side": running(), "main": ended(0)}), NOW)
    assert decision.stop == ("side",)
    assert reported(look(view, {"side": running(), "main": ended(0)}))["phase"] == "Running"
    assert reported(look(view, {"side": ended(143), "main": ended(0)}))["phase"] == "Succeeded"


def test_what_follows_a_sidecar_waits_until_it_is_up_but_only_the_first_time() -> None:
    side = {"name": "side", "restartPolicy": "Always", "startupProbe": {}}
    view = pod("main", init=(side,))
    assert started(decide(look(view, {"side": running(started=False)}), NOW)) == []
    assert started(decide(look(view, {"side": running(hook="running")}), NOW)) == []
    assert started(decide(look(view, {"side": running()}), NOW)) == ["main"]
    assert started(decide(look(view, {"side": running(started=False), "main": ended(1)}), NOW)) == ["main"]


def test_sidecars_are_held_until_what_was_started_after_them_has_ended() -> None:
    sides = tuple({"name": name, "restartPolicy": "Always"} for name in ("one", "two"))
    deleted = pod("main", init=sides)
    deleted["metadata"]["deletionTimestamp"] = NOW_TEXT
    everyone = {"one": running(), "two": running(), "main": running()}
    assert decide(look(deleted, everyone), NOW).held == ("one", "two")
    assert decide(look(deleted, everyone | {"main": ended(0)}), NOW).held == ("one",)
    assert decide(look(deleted, {"one": running(), "two": ended(0), "main": ended(0)}), NOW).held == ()


def test_a_container_that_its_liveness_probe_has_given_up_is_ended_with_the_probes_own_grace() -> None:
    sick = pod("main", "other", terminationGracePeriodSeconds=40)
    sick["spec"]["containers"][0]["livenessProbe"] = {"terminationGracePeriodSeconds": 3}
    known = {"main": running(failed="liveness"), "other": running()}
    message = "Container main failed liveness probe, will be restarted"
    assert decide(look(sick, known), NOW).kill == (Kill(container="main", grace=3.0, message=message),)
    sick["spec"]["restartPolicy"] = "Never"
    (kill,) = decide(look(sick, {"main": running(failed="startup"), "other": running()}), NOW).kill
    assert (kill.grace, kill.message) == (40.0, "Container main failed startup probe")


def test_a_failed_post_start_hook_ends_its_container() -> None:
    (kill,) = decide(look(pod(), {"main": running(hook="failed")}), NOW).kill
    assert kill.message == "FailedPostStartHook"


def test_a_container_waits_for_the_post_start_hook_of_the_one_before_it() -> None:
    view = pod("a", "b")
    view["spec"]["containers"][0]["lifecycle"] = {"postStart": {"exec": {"command": ["x"]}}}
    assert started(decide(look(view), NOW)) == ["a"]
    assert started(decide(look(view, {"a": running(hook="running")}), NOW)) == []
    assert started(decide(look(view, {"a": running()}), NOW)) == ["b"]


def test_a_pod_over_its_deadline_is_stopped_and_has_failed() -> None:
    late = pod(activeDeadlineSeconds=30)
    late["status"] = {"startTime": "2027-01-15T07:59:40Z"}
    assert decide(look(late, {"main": running()}), NOW).wake_at == NOW + 10
    decision = decide(look(late, {"main": running()}), NOW + 10)
    assert decision.stop == ("main",)
    status = pod_status(look(late, {"main": ended(143)}), decision, host_ip="h", now=NOW + 10)
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_start_that_was_begun_before_a_crash_of_the_daemon_is_begun_again() -> None:
    view = ContainerView(current=Attempt(number=3, backoff=40))
    assert decide(look(pod(), {"main": view}), NOW).start == (Start(container="main", number=3, backoff=40),)


@pytest.mark.parametrize(
    ("known", "phase"),
    [
        ({}, "Pending"),
        ({"a": running()}, "Pending"),
        ({"a": running(), "b": running()}, "Running"),
        ({"a": running(), "b": ended(1)}, "Running"),
        ({"a": ended(0), "b": ended(0)}, "Succeeded"),
        ({"a": ended(0), "b": ended(3)}, "Failed"),
    ],
)
def test_the_phase_follows_from_the_containers(known: dict[str, ContainerView], phase: str) -> None:
    assert reported(look(pod("a", "b", restartPolicy="Never"), known))["phase"] == phase


def test_a_running_pod_is_ready() -> None:
    status = reported(look(pod(), {"main": running()}))
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
    assert [condition(status, kind)["status"] for kind in kinds] == ["True"] * 4
    (container,) = status["containerStatuses"]
    assert (container["ready"], container["started"], container["restartCount"]) == (True, True, 0)
    assert container["state"] == {"running": {"startedAt": "2027-01-15T07:59:00Z"}}
    assert (status["podIP"], status["hostIP"]) == ("127.64.0.1", "127.0.0.1")


def test_probes_decide_what_is_started_and_ready() -> None:
    status = reported(look(pod("a", "b"), {"a": running(started=False), "b": running(ready=False)}))
    assert [(one["started"], one["ready"]) for one in status["containerStatuses"]] == [
        (False, False),
        (True, False),
    ]
    ready = condition(status, "ContainersReady")
    assert (ready["reason"], ready["message"]) == (
        "ContainersNotReady",
        "containers with unready status: [a b]",
    )


def test_a_sidecar_that_is_not_ready_keeps_the_pod_from_being_ready() -> None:
    view = pod("main", init=({"name": "side", "restartPolicy": "Always"},))
    status = reported(look(view, {"side": running(ready=False), "main": running()}))
    assert condition(status, "Initialized")["status"] == "True"
    assert condition(status, "Ready")["message"] == "containers with unready status: [side]"


def test_a_readiness_gate_has_to_be_opened_by_somebody_else() -> None:
    gated = pod(readinessGates=[{"conditionType": "ours.example/up"}])
    view = look(gated, {"main": running()})
    closed = condition(reported(view), "Ready")
    assert (closed["status"], closed["reason"]) == ("False", "ReadinessGatesNotReady")
    assert closed["message"] == (
        'corresponding condition of pod readiness gate "ours.example/up" does not exist.'
    )
    gated["status"] = {"conditions": [{"type": "ours.example/up", "status": "False"}]}
    assert condition(reported(view), "Ready")["message"] == (
        'the status of pod readiness gate "ours.example/up" is not "True", but False'
    )
    gated["status"]["conditions"][0]["status"] = "True"
    assert condition(reported(view), "Ready")["status"] == "True"


def test_a_pod_that_has_succeeded_says_that_it_is_complete() -> None:
    status = reported(look(pod(restartPolicy="Never"), {"main": ended(0)}))
    assert condition(status, "Ready")["reason"] == "PodCompleted"
    terminated = status["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (0, "Completed")


def test_a_container_that_waits_for_its_restart_says_how_long_and_how_it_ended() -> None:
    status = reported(look(pod(), {"main": ended(3, number=2, backoff=10)}))
    (container,) = status["containerStatuses"]
    assert container["state"]["waiting"] == {
        "reason": "CrashLoopBackOff",
        "message": "back-off 20s restarting failed container=main pod=p_ns(u-1)",
    }
    assert container["lastState"]["terminated"]["exitCode"] == 3
    assert container["restartCount"] == 2
    assert status["phase"] == "Running"
    assert condition(status, "Ready")["message"] == "containers with unready status: [main]"


def test_what_keeps_a_container_from_starting_is_its_waiting_reason() -> None:
    view = ContainerView().with_problem("CreateContainerConfigError", 'configmap "c" not found')
    (container,) = reported(look(pod(), {"main": view}))["containerStatuses"]
    assert container["state"]["waiting"]["message"] == 'configmap "c" not found'


def test_reporting_the_same_state_again_changes_nothing() -> None:
    one = pod(restartPolicy="Never")
    view = look(one, {"main": running()})
    one["status"] = reported(view)
    later = pod_status(view, decide(view, NOW + 500), host_ip="127.0.0.1", now=NOW + 500)
    assert later == one["status"]


def test_conditions_of_others_are_carried_over() -> None:
    one = pod()
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": NOW_TEXT}
    one["status"] = {"conditions": [scheduled]}
    assert scheduled in reported(look(one, {"main": running()}))["conditions"]


def test_a_container_of_which_no_file_is_left_is_reported_as_unknown_and_not_run_again() -> None:
    lost = from_status(
        {"containerID": "process://9", "restartCount": 2, "state": {"running": {"startedAt": NOW_TEXT}}}
    )
    assert lost is not None
    view = look(pod(restartPolicy="Never"), {"main": lost})
    assert decide(view, NOW).start == ()
    terminated = reported(view)["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("ContainerStatusUnknown", 137)


def test_a_container_that_never_ran_is_not_taken_for_lost() -> None:
    assert from_status({"containerID": "", "state": {"waiting": {"reason": "ContainerCreating"}}}) is None
