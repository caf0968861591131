"""The states of clusters, jobs and requests, with SkyPilot's words."""

from enum import StrEnum


class ClusterStatus(StrEnum):
    """Where a cluster is in its life."""

    INIT = "INIT"  # being created, or a creation that did not finish
    UP = "UP"
    STOPPED = "STOPPED"
    DOWN = "DOWN"  # seen gone (or forgotten by purge): only in the history


class JobStatus(StrEnum):
    """Where a job of a cluster is in its life."""

    PENDING = "PENDING"  # waits in the cluster's queue
    STARTING = "STARTING"  # its ranks are being started
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"  # a rank ended with a non-zero code or by a signal
    FAILED_DRIVER = "FAILED_DRIVER"  # we cannot know how it ended: its node was lost
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"

    @property
    def finished(self) -> bool:
        """Whether this state is final."""
        return self in FINISHED_JOB


FINISHED_JOB = frozenset(
    {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.FAILED_DRIVER, JobStatus.CANCELLED}
)


class RequestState(StrEnum):
    """Where a request is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether this state is final."""
        return self in (RequestState.SUCCEEDED, RequestState.FAILED, RequestState.CANCELLED)
