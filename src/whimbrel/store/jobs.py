"""Jobs of clusters as rows: numbered 1, 2, 3, ... per cluster, final states final, secrets wiped at the end.

Which job may start is decided by `whimbrel.jobs`; here is only what is known about each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from whimbrel.model.errors import JobNotFound
from whimbrel.model.redaction import redact
from whimbrel.model.status import FINISHED_JOB, JobStatus
from whimbrel.store.clock import Moment, moment
from whimbrel.store.requests import JsonObject
from whimbrel.store.tables import clusters, jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One row of `jobs`."""

    cluster_uid: str
    id: int
    name: str
    status: JobStatus
    spec: JsonObject = field(repr=False)  # may hold secrets until the job has ended
    num_nodes: int
    cpus: float
    gpus: float
    ranks: list[JsonObject]
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    reason: str
    cancel_requested_at: float | None
    request_id: str
    log_bytes: int


def submit(
    connection: Connection,
    cluster_uid: str,
    *,
    name: str,
    spec: Mapping[str, Any],
    num_nodes: int,
    cpus: float,
    gpus: float,
    request_id: str,
    now: Moment,
) -> JobRow:
    """Queue a job. The same request submits at most one: a second call finds the first one's job."""
    row = connection.execute(
        select(jobs).where(jobs.c.cluster_uid == cluster_uid, jobs.c.request_id == request_id)
    ).one_or_none()
    if row is not None:
        return _job(row)
    next_id = connection.execute(
        update(clusters)
        .where(clusters.c.uid == cluster_uid)
        .values(next_job=clusters.c.next_job + 1)
        .returning(clusters.c.next_job)
    ).scalar_one()
    connection.execute(
        insert(jobs).values(
            cluster_uid=cluster_uid,
            id=next_id - 1,
            name=name,
            status=JobStatus.PENDING,
            spec=dict(spec),
            num_nodes=num_nodes,
            cpus=cpus,
            gpus=gpus,
            ranks=[],
            submitted_at=moment(now),
            request_id=request_id,
        )
    )
    return get(connection, cluster_uid, next_id - 1)


def get(connection: Connection, cluster_uid: str, id: int) -> JobRow:
    """One job. Raises `JobNotFound`."""
    row = connection.execute(
        select(jobs).where(jobs.c.cluster_uid == cluster_uid, jobs.c.id == id)
    ).one_or_none()
    if row is None:
        raise JobNotFound(
            f"There is no job {id} on this cluster.", remedy="`whim queue CLUSTER` lists its jobs."
        )
    return _job(row)


def latest(connection: Connection, cluster_uid: str) -> JobRow | None:
    """The job that was submitted last."""
    row = connection.execute(
        select(jobs).where(jobs.c.cluster_uid == cluster_uid).order_by(jobs.c.id.desc()).limit(1)
    ).one_or_none()
    return _job(row) if row is not None else None


def of_cluster(connection: Connection, cluster_uid: str) -> list[JobRow]:
    """Every job of a cluster, newest first."""
    rows = connection.execute(
        select(jobs).where(jobs.c.cluster_uid == cluster_uid).order_by(jobs.c.id.desc())
    )
    return [_job(row) for row in rows]


def live(connection: Connection, cluster_uid: str) -> list[JobRow]:
    """Jobs of a cluster that have not ended, in the order of the queue."""
    rows = connection.execute(
        select(jobs).where(jobs.c.cluster_uid == cluster_uid, jobs.c.ended_at.is_(None)).order_by(jobs.c.id)
    )
    return [_job(row) for row in rows]


def clusters_with_live_jobs(connection: Connection) -> list[str]:
    """The uids of clusters that have a job which has not ended."""
    rows = connection.execute(select(jobs.c.cluster_uid).where(jobs.c.ended_at.is_(None)).distinct())
    return [str(uid) for (uid,) in rows]


def count_by_status(connection: Connection, cluster_uids: Iterable[str]) -> dict[str, dict[JobStatus, int]]:
    """How many live jobs each cluster has, by status."""
    counts: dict[str, dict[JobStatus, int]] = {uid: {} for uid in cluster_uids}
    rows = connection.execute(
        select(jobs.c.cluster_uid, jobs.c.status, func.count())
        .where(jobs.c.cluster_uid.in_(list(counts)), jobs.c.ended_at.is_(None))
        .group_by(jobs.c.cluster_uid, jobs.c.status)
    )
    for uid, status, count in rows:
        counts[uid][JobStatus(status)] = int(count)
    return counts


def started(
    connection: Connection,
    cluster_uid: str,
    id: int,
    *,
    status: JobStatus,
    ranks: Sequence[Mapping[str, Any]],
    now: Moment,
) -> None:
    """The job's ranks are being started, or run; `started_at` is the first time it was RUNNING."""
    values: dict[str, Any] = {"status": status, "ranks": [dict(rank) for rank in ranks]}
    if status is JobStatus.RUNNING:
        values["started_at"] = func.coalesce(jobs.c.started_at, moment(now))
    _change(connection, cluster_uid, id, **values)


def set_log_bytes(connection: Connection, cluster_uid: str, id: int, log_bytes: int) -> None:
    """The length of the merged log (also of a job that has ended: its last lines come after)."""
    connection.execute(
        update(jobs).where(jobs.c.cluster_uid == cluster_uid, jobs.c.id == id).values(log_bytes=log_bytes)
    )


def ask_to_cancel(
    connection: Connection, cluster_uid: str, *, ids: Sequence[int] | None, now: Moment
) -> list[int]:
    """Note that these live jobs (all of them, for None) shall end; the ids it was noted for. The reconciler acts."""
    which = (jobs.c.cluster_uid == cluster_uid) & jobs.c.ended_at.is_(None)
    if ids is not None:
        for id in ids:
            get(connection, cluster_uid, id)
        which = which & jobs.c.id.in_(list(ids))
    rows = connection.execute(
        update(jobs)
        .where(which)
        .values(cancel_requested_at=func.coalesce(jobs.c.cancel_requested_at, moment(now)))
        .returning(jobs.c.id)
    )
    return sorted(int(id) for (id,) in rows)


def set_status(connection: Connection, cluster_uid: str, id: int, status: JobStatus) -> None:
    """A step of its life that is not the end (`end` is)."""
    if status in FINISHED_JOB:
        raise ValueError("a job ends through `end`")
    _change(connection, cluster_uid, id, status=status)


def end(
    connection: Connection,
    cluster_uid: str,
    id: int,
    *,
    status: JobStatus,
    reason: str,
    now: Moment,
    ranks: Sequence[Mapping[str, Any]] | None = None,
) -> bool:
    """The end of a job, with its secrets wiped; False when it had ended before."""
    if status not in FINISHED_JOB:
        raise ValueError(f"{status} is not an end")
    row = connection.execute(
        select(jobs.c.spec).where(
            jobs.c.cluster_uid == cluster_uid, jobs.c.id == id, jobs.c.ended_at.is_(None)
        )
    ).one_or_none()
    if row is None:
        return False
    values: dict[str, Any] = {
        "status": status,
        "reason": reason,
        "ended_at": moment(now),
        "spec": redact(row[0]),
    }
    if ranks is not None:
        values["ranks"] = [dict(rank) for rank in ranks]
    _change(connection, cluster_uid, id, **values)
    return True


def _change(connection: Connection, cluster_uid: str, id: int, **values: Any) -> None:
    """Change a job that has not ended."""
    connection.execute(
        update(jobs)
        .where(jobs.c.cluster_uid == cluster_uid, jobs.c.id == id, jobs.c.ended_at.is_(None))
        .values(**values)
    )


def _job(row: Row[Any]) -> JobRow:
    columns = row._asdict()
    return JobRow(**{**columns, "status": JobStatus(columns["status"])})
