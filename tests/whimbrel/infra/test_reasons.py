"""Why a pod does not run, in the user's words."""

from __future__ import annotations

from typing import Any

import pytest

from whimbrel.infra.kubernetes.reasons import hopeless, node_state, phase, unschedulable, why

from .fake_api import running, unscheduled, waiting


def pod(status: dict[str, Any], *, host: str = "m1", **metadata: Any) -> dict[str, Any]:
    """A pod with this status."""
    return {"metadata": {"name": "p", **metadata}, "spec": {"nodeName": host}, "status": status}


def terminated(reason: str, code: int, **more: Any) -> dict[str, Any]:
    """The status of a pod that ended."""
    state = {"terminated": {"reason": reason, "exitCode": code}}
    return {
        "phase": "Failed",
        "containerStatuses": [{"name": "node", "image": "img", "state": state}],
        **more,
    }


@pytest.mark.parametrize(
    ("status", "expected", "says"),
    [
        (running(), "running", ""),
        ({}, "pending", "it is starting on m1"),
        (
            unscheduled("0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available."),
            "pending",
            "no machine can take it: 0/3 nodes are available: 3 Insufficient cpu.",
        ),
        (
            unscheduled(
                "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes ..."
            ),
            "pending",
            "no machine can take it: 0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (waiting("ContainerCreating"), "pending", "it is starting on m1"),
        (
            waiting("ImagePullBackOff", "Back-off pulling"),
            "pending",
            "the image img cannot be pulled (ImagePullBackOff): Back-off pulling",
        ),
        (
            waiting("CreateContainerConfigError", "secret not found"),
            "pending",
            "its container cannot be started (CreateContainerConfigError): secret not found",
        ),
        (terminated("OOMKilled", 137), "ended", "it used more memory than it was given"),
        (terminated("Error", 3), "ended", "it ended with exit code 3"),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            "ended",
            "its machine was short of something and evicted it: The node was low on resource: memory.",
        ),
        ({"phase": "Succeeded"}, "ended", "it ended"),
        ({"phase": "Unknown"}, "pending", "its machine m1 does not answer"),
        (
            {"phase": "Running", "containerStatuses": [{"state": {"terminated": {"exitCode": 0}}}]},
            "ended",
            "it ended with exit code 0",
        ),
    ],
)
def test_the_state_of_a_pod_in_words(status: dict[str, Any], expected: str, says: str) -> None:
    assert (phase(pod(status)), why(pod(status))) == (expected, says)


def test_a_pod_without_a_machine_waits_for_the_scheduler() -> None:
    assert why(pod({"phase": "Pending"}, host="")) == "it waits for the scheduler"


def test_the_last_warning_explains_a_pod_that_is_not_starting() -> None:
    def event(kind: str, reason: str, message: str, day: int) -> dict[str, Any]:
        return {
            "type": kind,
            "reason": reason,
            "message": message,
            "lastTimestamp": f"2026-01-0{day}T00:00:00Z",
        }

    events = [
        event("Warning", "FailedMount", "old", 1),
        event("Warning", "FailedMount", "no such volume", 2),
        event("Normal", "Pulled", "x", 3),
    ]
    starting = pod(waiting("ContainerCreating"))
    assert why(starting, events) == "it is not starting on m1: FailedMount: no such volume"


def test_finalizers_that_keep_a_pod_are_named() -> None:
    kept = pod(running(), deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["example.com/keep"])
    assert phase(kept) == "deleting"
    assert why(kept) == "it is being deleted and waits for the finalizers example.com/keep"


def test_what_cannot_be_mended_by_waiting_is_told_apart() -> None:
    assert hopeless(pod(waiting("InvalidImageName")))
    assert not hopeless(pod(waiting("ImagePullBackOff")))
    assert unschedulable(pod(unscheduled("x")))
    assert not unschedulable(pod(running()))


def test_a_pod_as_a_node() -> None:
    state = node_state(pod(running("10.0.0.9")), 1, "p")
    assert (state.rank, state.phase, state.ip, state.host) == (1, "running", "10.0.0.9", "m1")
    assert node_state(None, 0, "p").phase == "absent"
