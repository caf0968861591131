"""Why a job does not run yet, as `whim queue` says it."""

from __future__ import annotations

from typing import Any

from whimbrel.jobs.waiting import reasons
from whimbrel.model.status import ClusterStatus, JobStatus
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.jobs import JobRow


def _cluster(status: ClusterStatus = ClusterStatus.UP, error: dict[str, Any] | None = None) -> ClusterRow:
    return ClusterRow(
        uid="u", name="c", status=status, infra="k8s/x", kubeconfig=[], identity="", num_nodes=1,
        shape={"cpus": 2.0}, task={}, nodes=[], autodown=False, workspace="default", user="me", created_at=0.0,
        launched_at=None, observed_at=None, last_error=error, closed_at=None, next_job=9, owner=None, fence=0,
        lease_until=None,
    )  # fmt: skip


def _job(number: int, cpus: float, status: JobStatus = JobStatus.PENDING) -> JobRow:
    ranks = [] if status is JobStatus.PENDING else [{"rank": 0, "node": 0}]
    return JobRow(
        cluster_uid="u", id=number, name="", status=status, spec={}, num_nodes=1, cpus=cpus, gpus=0.0, ranks=ranks,
        submitted_at=0.0, started_at=None, ended_at=None, reason="", cancel_requested_at=None, request_id="r",
        log_bytes=0,
    )  # fmt: skip


def test_the_first_waits_for_room_and_names_who_has_it_the_others_wait_for_the_first() -> None:
    live = [_job(1, 1.5, JobStatus.RUNNING), _job(2, 1.0), _job(3, 0.1), _job(4, 2.0)]
    assert reasons(_cluster(), live) == {
        2: "for 1 CPUs (taken by job 1)",
        3: "behind job 2",
        4: "behind job 2",
    }


def test_one_that_fits_is_about_to_start() -> None:
    assert reasons(_cluster(), [_job(1, 1.0, JobStatus.RUNNING), _job(2, 1.0)]) == {2: "it is about to start"}


def test_a_cluster_that_is_not_up_is_what_everybody_waits_for() -> None:
    gone = _cluster(ClusterStatus.INIT, {"message": "Not all nodes of c run."})
    assert reasons(gone, [_job(1, 1.0)]) == {1: "its cluster is INIT: Not all nodes of c run."}
