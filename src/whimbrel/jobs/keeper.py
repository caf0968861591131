"""The keeper of one cluster: starts its waiting jobs, follows those that run, writes how they end.

It works under the lease of the cluster's row and proves its fence in every write, so that of several servers
one keeps a cluster, and one that was stopped for too long writes nothing. It holds no state that matters:
everything is in the rows, in the log store and on the nodes, and the next keeper goes on from there.
Cancelling is an intent in the job's row. Which clusters need a keeper is decided by
`whimbrel.jobs.reconciler`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from whimbrel.infra.base import Infra, Observation
from whimbrel.jobs import records
from whimbrel.jobs.attend import Around, Attendance
from whimbrel.jobs.logstore import JobLog, LogStore
from whimbrel.jobs.outcome import Rank, judge, placement_of, ranks_of
from whimbrel.jobs.pulse import Pulse
from whimbrel.jobs.queue import Occupied, Placement, never_fits, pack
from whimbrel.jobs.seen import note
from whimbrel.jobs.sight import Sight
from whimbrel.jobs.vault import Vault
from whimbrel.model.errors import InfraError, WhimError
from whimbrel.model.status import ClusterStatus, JobStatus
from whimbrel.store import clock, clusters, jobs, leases, tables
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.engine import Store
from whimbrel.store.jobs import JobRow

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEASE = 15.0
LOG_AGAIN = 2.0
"""Seconds until a log that could not be written is tried again."""
POLL = 2.0
"""Seconds between looks at the rows; a wake-up is only for speed."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What every keeper works with."""

    store: Store
    infra_of: Callable[[ClusterRow], Awaitable[Infra]]
    logs: LogStore
    vault: Vault


@dataclass(slots=True)
class _Running:
    """A job that is attended to; the attendance is there once its log is open."""

    attendance: Attendance | None = None
    stop: bool = False
    task: asyncio.Task[None] | None = None


class Keeper:
    """Keeps one cluster while it has jobs that have not ended."""

    def __init__(self, desk: Desk, cluster: ClusterRow, fence: int) -> None:
        self._desk = desk
        self._cluster = cluster
        self._fence = fence
        self._pulse = Pulse()
        self._running: dict[int, _Running] = {}
        self._sight = Sight(cluster, desk.infra_of, self._saw)
        self._trouble = ""

    def wake(self) -> None:
        """Look at the rows now."""
        self._pulse.ring()

    async def run(self) -> None:
        """Until no job is left, the cluster is down, or the lease is lost."""
        uid = self._cluster.uid
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._renew(), name=f"lease of cluster {uid}")
                try:
                    await self._keep(group)
                finally:
                    renewing.cancel()
                    for running in self._running.values():
                        if running.task is not None:
                            running.task.cancel()
        except* leases.LostLease:
            logger.info("cluster %s is closed, or kept by another server now", self._cluster.name)
        else:
            await self._desk.store.write(
                lambda connection: leases.release(
                    connection, tables.clusters, clusters.key(uid), fence=self._fence
                )
            )

    async def _renew(self) -> None:
        """Keep the lease; a database that cannot write (a full disk) is asked again for as long as it lasts."""
        key = clusters.key(self._cluster.uid)
        trusted_until = time.monotonic() + LEASE
        while True:
            await asyncio.sleep(LEASE / 3)
            asked_at = time.monotonic()
            try:
                held = await self._desk.store.write(
                    lambda connection: leases.renew(
                        connection, tables.clusters, key, fence=self._fence, lease=LEASE, now=clock.now()
                    )
                )
            except OperationalError as error:
                logger.warning("the lease of cluster %s was not renewed: %s", self._cluster.name, error.orig)
                held = asked_at < trusted_until
            else:
                trusted_until = asked_at + LEASE
            if not held:
                raise leases.LostLease

    async def _keep(self, group: asyncio.TaskGroup) -> None:
        while True:
            changed = self._pulse.next()
            self._forget_ended()  # before the rows are read: an end is stored before its task is done
            cluster, live = await self._desk.store.read(self._rows)
            self._cluster = cluster
            if cluster.status is ClusterStatus.DOWN:
                return
            await self._cancel(live)
            if cluster.status is ClusterStatus.UP:
                await self._start(group, live)
            for job in live:
                if job.status is not JobStatus.PENDING and job.id not in self._running:
                    self._begin(group, job)
            if not live:
                return
            try:
                async with asyncio.timeout(POLL):
                    await changed.wait()
            except TimeoutError:
                pass  # another server may have written: look again

    def _forget_ended(self) -> None:
        for job, running in list(self._running.items()):
            if running.task is not None and running.task.done():
                del self._running[job]

    def _rows(self, connection: Connection) -> tuple[ClusterRow, list[JobRow]]:
        uid = self._cluster.uid
        return clusters.get_uid(connection, uid), jobs.live(connection, uid)

    async def _write(self, fn: Callable[[Connection], T]) -> T:
        """A transaction of the keeper: proves its lease first."""
        key = clusters.key(self._cluster.uid)

        def fenced(connection: Connection) -> T:
            leases.prove(connection, tables.clusters, key, fence=self._fence)
            return fn(connection)

        return await self._desk.store.write(fenced)

    # ------------------------------------------------------------ what is asked of jobs

    async def _cancel(self, live: list[JobRow]) -> None:
        for job in live:
            if job.cancel_requested_at is None:
                continue
            running = self._running.get(job.id)
            if job.status is JobStatus.PENDING:
                await self._end(job, JobStatus.CANCELLED, "it was cancelled before it started")
            elif job.status is not JobStatus.CANCELLING:
                await self._write(
                    lambda connection, job=job: jobs.set_status(  # type: ignore[misc]
                        connection, job.cluster_uid, job.id, JobStatus.CANCELLING
                    )
                )
                self._log(job).ring()
            if running is not None:
                running.stop = True
                if running.attendance is not None:
                    running.attendance.stop()

    async def _start(self, group: asyncio.TaskGroup, live: list[JobRow]) -> None:
        """Give a place to the waiting jobs that fit, and begin them."""
        capacity = records.capacity(self._cluster)
        waiting = [job for job in live if job.status is JobStatus.PENDING and job.cancel_requested_at is None]
        for job in waiting:
            problem = never_fits(capacity, records.demand(job))
            if problem:
                await self._end(job, JobStatus.FAILED_DRIVER, f"it cannot start here: {problem}")
        occupied = [
            Occupied(demand=records.demand(job), placement=placement_of(job.id, records.ranks(job)))
            for job in live
            if job.status is not JobStatus.PENDING
        ]
        by_id = {job.id: job for job in waiting if not never_fits(capacity, records.demand(job))}
        demands = [records.demand(job) for job in by_id.values()]
        for placement in pack(capacity, occupied, demands):
            job = by_id[placement.job_id]
            missing = await self._secrets_that_are_gone(job)
            if missing:
                await self._end(job, JobStatus.FAILED_DRIVER, f"{missing} not kept any more: run it again")
            else:
                self._begin(group, await self._place(job, placement))

    async def _secrets_that_are_gone(self, job: JobRow) -> str:
        """A job that needs secrets does not start without them."""
        names = set(job.spec.get("secret_names") or ()) - set(await self._desk.vault.get(job.request_id))
        return f"its secrets {', '.join(sorted(names))} are" if names else ""

    async def _place(self, job: JobRow, placement: Placement) -> JobRow:
        ranks = [rank.to_json() for rank in ranks_of(placement)]

        def place(connection: Connection) -> JobRow:
            jobs.started(
                connection, job.cluster_uid, job.id, status=JobStatus.STARTING, ranks=ranks, now=clock.now()
            )
            return jobs.get(connection, job.cluster_uid, job.id)

        placed = await self._write(place)
        self._log(job).ring()
        return placed

    # ------------------------------------------------------------ one job

    def _begin(self, group: asyncio.TaskGroup, job: JobRow) -> None:
        """Attend to a job that has a place, new or met again after a restart."""
        running = _Running()
        self._running[job.id] = running
        running.task = group.create_task(
            self._guard(job, running), name=f"job {job.id} of {self._cluster.name}"
        )

    async def _guard(self, job: JobRow, running: _Running) -> None:
        """A log that cannot be written (a full disk) ends no job: its output is kept from there when it can
        be."""
        while not await self._attended(job, running):
            await asyncio.sleep(LOG_AGAIN)
            _, live = await self._desk.store.read(self._rows)
            found = [row for row in live if row.id == job.id]
            if not found:
                break
            job = found[0]
        self.wake()

    async def _attended(self, job: JobRow, running: _Running) -> bool:
        kept = True
        try:
            await self._attend(job, running)
        except* OSError as errors:
            kept = False
            await self._on_trouble(_no_log(errors))
        return kept

    async def _attend(self, job: JobRow, running: _Running) -> None:
        log = self._desk.logs.job(job.cluster_uid, job.id)
        ranks = records.ranks(job)
        infra, spec = await self._infra(), records.spec_of(self._cluster)
        writer = await log.writer(len(ranks))
        try:
            attendance = Attendance(
                ranks,
                [infra.node(spec, rank.node) for rank in ranks],
                records.job_files(self._cluster, job, await self._desk.vault.get(job.request_id)),
                writer,
                Around(
                    started=lambda: self._on_started(job),
                    trouble=self._on_trouble,
                    recovered=self._on_recovered,
                    missing=self._sight.missing,
                ),
                begun=job.status is JobStatus.RUNNING,
            )
            running.attendance = attendance
            if running.stop or job.cancel_requested_at is not None:
                attendance.stop()
            ends = await attendance.run()
        finally:
            await writer.close()
        await self._finish(job, ends)

    async def _infra(self) -> Infra:
        """The way to the cluster; waited for while its context is missing from the kubeconfig."""
        while True:
            try:
                return await self._desk.infra_of(self._cluster)
            except InfraError as error:
                await self._on_trouble(error)
                await asyncio.sleep(POLL)

    async def _saw(self, seen: Observation) -> None:
        """A node that is gone is gone for `status` too."""
        row = self._cluster
        if not seen.running:
            await self._write(lambda connection: note(connection, row, seen))

    async def _on_started(self, job: JobRow) -> None:
        def note(connection: Connection) -> None:
            now = jobs.get(connection, job.cluster_uid, job.id)
            if now.status is JobStatus.STARTING:
                jobs.started(
                    connection,
                    job.cluster_uid,
                    job.id,
                    status=JobStatus.RUNNING,
                    ranks=now.ranks,
                    now=clock.now(),
                )

        await self._write(note)
        self._log(job).ring()

    async def _finish(self, job: JobRow, ends: list[Rank]) -> None:
        """Write the end. The log is complete by now, so whoever sees the end has seen everything."""
        size = await self._log(job).size()
        by_rank = [rank.to_json() for rank in sorted(ends, key=lambda rank: rank.rank)]

        def end(connection: Connection) -> None:
            now = jobs.get(connection, job.cluster_uid, job.id)
            asked = "it was cancelled" if now.cancel_requested_at is not None else ""
            if records.being_removed(connection, self._cluster.name):
                asked = "its cluster was taken down"
            outcome = judge(ends, cancelled=asked)
            jobs.set_log_bytes(connection, job.cluster_uid, job.id, size)
            jobs.end(
                connection,
                job.cluster_uid,
                job.id,
                status=outcome.status,
                reason=outcome.reason,
                now=clock.now(),
                ranks=by_rank,
            )

        await self._write(end)
        await self._on_recovered()
        await self._desk.vault.wipe(job.request_id)
        self._log(job).ring()

    async def _end(self, job: JobRow, status: JobStatus, reason: str) -> None:
        """The end of a job that has not started."""
        await self._write(
            lambda connection: jobs.end(
                connection, job.cluster_uid, job.id, status=status, reason=reason, now=clock.now()
            )
        )
        await self._desk.vault.wipe(job.request_id)
        self._log(job).ring()

    def _log(self, job: JobRow) -> JobLog:
        return self._desk.logs.job(job.cluster_uid, job.id)

    # ------------------------------------------------------------ nodes that do not answer

    async def _on_trouble(self, error: WhimError) -> None:
        """Say once, where `status` shows it, what is being waited for."""
        if error.message == self._trouble:
            return
        self._trouble = error.message
        logger.warning("cluster %s: %s", self._cluster.name, error.message)
        await self._write(lambda connection: clusters.failed(connection, self._cluster.uid, error.to_wire()))

    async def _on_recovered(self) -> None:
        """Take back what was said, unless something else has gone wrong since."""
        said, self._trouble = self._trouble, ""

        def take_back(connection: Connection) -> None:
            shown = clusters.get_uid(connection, self._cluster.uid).last_error
            if shown is not None and shown.get("message") == said:
                clusters.failed(connection, self._cluster.uid, None)

        if said:
            await self._write(take_back)


def _no_log(errors: ExceptionGroup[OSError]) -> WhimError:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return WhimError(
        f"The server cannot keep the output of a job: {first}.",
        remedy="make room on the server's disk; the job runs on, and its output is read from the node then",
    )
