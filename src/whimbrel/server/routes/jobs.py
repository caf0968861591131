"""Jobs of a cluster: list, cancel, and their logs, which are there after `down` as well."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from whimbrel.jobs import waiting
from whimbrel.jobs.logstore import PIECE, JobLog, text_of
from whimbrel.jobs.pulse import wait_any
from whimbrel.model.errors import InfraError, JobNotFound
from whimbrel.model.status import JobStatus
from whimbrel.server import views
from whimbrel.server.bodies import LARGEST, CancelJobsBody
from whimbrel.server.caller import With
from whimbrel.server.services import Services
from whimbrel.server.streaming import Frame, stream
from whimbrel.store import clock, clusters, jobs
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.jobs import JobRow

router = APIRouter(prefix="/api/v1/clusters/{name}/jobs")

LONGEST_NUMBER = 15
"""Digits of the id of a job."""
LOOK_AGAIN = 2.0
"""Seconds after which a follower looks at the row even if nobody woke it: another server may have written."""


@router.get("")
async def list_jobs(services: With, name: str) -> dict[str, Any]:
    """The jobs of the cluster, newest first."""

    def read(connection: Connection) -> tuple[list[JobRow], dict[int, str]]:
        cluster = clusters.get(connection, name)
        why = waiting.reasons(cluster, jobs.live(connection, cluster.uid))
        return jobs.of_cluster(connection, cluster.uid), why

    rows, why = await services.tools.store.read(read)
    return {"jobs": [views.job(row, why.get(row.id, "")) for row in rows]}


@router.post("/cancel")
async def cancel(services: With, name: str, body: CancelJobsBody) -> dict[str, Any]:
    """Note that jobs shall end; their keeper acts at once."""

    def ask(connection: Connection) -> tuple[str, list[int]]:
        cluster = clusters.get(connection, name)
        live = [job.id for job in jobs.live(connection, cluster.uid)]
        ids = body.job_ids if body.job_ids is not None else live if body.all else live[-1:]
        return cluster.uid, jobs.ask_to_cancel(connection, cluster.uid, ids=ids, now=clock.now())

    uid, cancelled = await services.tools.store.write(ask)
    services.jobs.wake(uid)
    return {"cancelled": cancelled}


@router.get("/{job}/logs", response_model=None)
async def logs(
    services: With,
    name: str,
    job: str,
    follow: bool = False,
    offset: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    tail: Annotated[int | None, Query(ge=0, le=LARGEST)] = None,
) -> StreamingResponse:
    """What a job printed, as JSON lines, from an offset on (or its last `tail` lines); the last line is
    `end`."""
    row = await services.tools.store.read(lambda connection: _find(connection, name, job))
    log = services.tools.logs.job(row.cluster_uid, row.id)
    if tail is not None and offset == 0:
        offset = await log.tail_offset(tail)
    return stream(_frames(services, row, log, offset, follow=follow), services.drain)


def _find(connection: Connection, name: str, job: str) -> JobRow:
    """The job, on the open cluster of that name or, after `down`, on its last incarnation."""
    cluster: ClusterRow = clusters.latest(connection, name) or clusters.get(connection, name)
    if job == "latest":
        found = jobs.latest(connection, cluster.uid)
        if found is None:
            raise JobNotFound(f"No job has been submitted to {name} yet.", remedy=f"whim exec {name} ...")
        return found
    if not job.isdecimal() or len(job) > LONGEST_NUMBER:
        raise JobNotFound(f"A job is named by its number, not {job[:40]!r}.", remedy=f"whim queue {name}")
    return jobs.get(connection, cluster.uid, int(job))


async def _frames(
    services: Services, row: JobRow, log: JobLog, offset: int, *, follow: bool
) -> AsyncGenerator[Frame, None]:
    uid, number = row.cluster_uid, row.id
    cluster = await services.tools.store.read(lambda connection: clusters.get_uid(connection, uid))
    shown: str | None = None
    told = ""
    while True:
        changed = log.next()
        row = await services.tools.store.read(lambda connection: jobs.get(connection, uid, number))
        if row.status != shown:
            shown = row.status
            reason = row.reason or await _why_it_waits(services, row)
            yield {"kind": "status", "status": row.status, "reason": reason}
        last = row.status.finished or not follow
        trouble = "" if last else await _trouble(services, cluster)
        if trouble != told:
            told = trouble
            yield {"kind": "waiting", "message": trouble or f"{cluster.infra} answers again"}
        until = (
            None if follow or row.status.finished else await log.size()
        )  # it may print faster than we read
        while data := await log.read(offset, PIECE if until is None else min(PIECE, until - offset)):
            text, length = text_of(data, final=False)
            if not length:
                break
            offset += length
            yield {"kind": "log", "offset": offset, "text": text}
        if last:
            rest = await log.read(offset)
            if rest and row.status.finished:
                yield {"kind": "log", "offset": offset + len(rest), "text": text_of(rest, final=True)[0]}
            yield _end(row)
            return
        await wait_any(LOOK_AGAIN, changed)


async def _why_it_waits(services: Services, row: JobRow) -> str:
    if row.status is not JobStatus.PENDING:
        return ""

    def read(connection: Connection) -> dict[int, str]:
        cluster = clusters.get_uid(connection, row.cluster_uid)
        return waiting.reasons(cluster, jobs.live(connection, cluster.uid))

    return (await services.tools.store.read(read)).get(row.id, "")


async def _trouble(services: Services, cluster: ClusterRow) -> str:
    """Why nothing can come of the job at present, as far as is known without asking."""
    try:
        return (await services.tools.infra_of(cluster)).trouble()
    except InfraError as error:
        return error.message


def _end(row: JobRow) -> Frame:
    return {
        "kind": "end",
        "job_id": row.id,
        "status": row.status,
        "exit_codes": views.exit_codes(row),
        "reason": row.reason,
    }
