"""The engine: accepts requests, claims them, keeps their leases, ends them, and tells those who watch.

The invariants I1 to I13 (listed in the package's docstring) are kept here and in `whimbrel.store.queue`. The engine
knows nothing of clusters or HTTP: operations are given to it, routes call `submit`.

    POST -> submit -> row -> claim -> Run -> operation.run(run) -> finish
                                \\-> renew every third of a lease; lost or cancelled -> the task is cancelled
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, insert, update
from sqlalchemy.exc import OperationalError

import whimbrel
from whimbrel.model.errors import InvalidTask
from whimbrel.model.status import RequestState
from whimbrel.requests.outcome import Outcome, crashed, outcome_of, stopped
from whimbrel.requests.run import Operation, Run, Stop
from whimbrel.requests.watching import POLL, EventPage, Watchers, wait_for
from whimbrel.store import clock, queue
from whimbrel.store import requests as rows
from whimbrel.store.clock import Moment
from whimbrel.store.engine import Store
from whimbrel.store.leases import LostLease
from whimbrel.store.requests import Event, Request
from whimbrel.store.tables import servers

__all__ = ["Engine", "EventPage", "LostLease", "Operation", "Run", "Stop"]

logger = logging.getLogger(__name__)

RETENTION = 30 * 86400.0
WORKERS = 1000
"""Requests that run at once. One that waits, for machines or an answer, costs a task and no thread, and what it may ask
of an infrastructure at once is that one's guard's business: few workers would be a limit that all share, and sixteen
launches waiting for machines of one context would keep everybody else waiting."""


@dataclass(slots=True)
class _Active:
    """A run and the task of its operation."""

    run: Run
    task: asyncio.Task[Outcome] | None = None
    trusted_until: float = 0.0  # monotonic; without a renewal, we distrust ourselves after this


class Engine:
    """The requests of one server. `start` it in the running loop; `drain`, then `stop` it."""

    def __init__(
        self,
        store: Store,
        operations: Mapping[str, Operation],
        server_id: str | None = None,
        *,
        workers: int = WORKERS,
        lease: float = 15.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.server_id = server_id or f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._store = store
        self._operations = dict(operations)
        self._workers = workers
        self._lease = lease
        self._clock = clock
        self._active: dict[tuple[str, int], _Active] = {}
        self._watchers = Watchers(store)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = asyncio.Event()
        self._stopping = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._claiming: asyncio.Task[None] | None = None
        self._main: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------- what routes use

    async def submit(
        self,
        kind: str,
        subject: str,
        body: Mapping[str, Any],
        actor: str,
        idempotency_key: str | None = None,
        *,
        priority: int = 0,
        delay: float = 0.0,
    ) -> Request:
        """Accept a request: it is stored when this returns (I1). The same key and content give the same request."""
        id = _request_id(idempotency_key)
        request = await self._store.write(
            lambda connection: rows.accept(
                connection,
                id=id,
                kind=kind,
                subject=subject,
                body=body,
                actor=actor,
                now=self.now(),
                priority=priority,
                delay=delay,
            )
        )
        self.wake()
        self._watchers.publish(id)
        return request

    async def cancel(self, request_id: str, *, actor: str, reason: str = "") -> Request:
        """Ask for the end of a request: at once while it waits; while it runs, its owner ends it. Idempotent."""
        request = await self._store.write(
            lambda connection: rows.ask_to_cancel(
                connection, request_id, actor=actor, reason=reason, now=self.now()
            )
        )
        active = self._active.get((request.id, request.fence))
        if active is not None and request.state is RequestState.RUNNING:
            self._end(active, Stop.USER, request.cancel_reason)
        self._watchers.publish(request_id)
        self.wake()
        return request

    async def get(self, request_id: str) -> Request:
        """The request as stored. Raises `NotFound`."""
        return await self._store.read(lambda connection: rows.get(connection, request_id))

    async def wait(self, request_id: str) -> Request:
        """The request, once it has finished."""
        return await self._watchers.wait(request_id)

    async def poll_events(
        self, request_id: str, after: int = 0, *, timeout: float = 10.0, limit: int = 500
    ) -> EventPage:
        """The events after number `after`, waiting up to `timeout` seconds for one: for streams with heartbeats."""
        return await self._watchers.poll_events(request_id, after, timeout=timeout, limit=limit)

    def events(self, request_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Every event after number `after`, as they come, until the request has finished."""
        return self._watchers.events(request_id, after)

    def wake(self) -> None:
        """Look for work now: somebody has written a request."""
        self._wake.set()

    def now(self) -> Moment:
        """The clock of all that is written: the database's, unless a test has its own."""
        return clock.now() if self._clock is None else self._clock()

    @property
    def running(self) -> list[Run]:
        """The runs of this server."""
        return [active.run for active in self._active.values()]

    @property
    def draining(self) -> bool:
        """Whether it has stopped to claim."""
        return self._draining.is_set()

    # ---------------------------------------------------------------- life

    async def start(self, *, alone: bool = False) -> None:
        """Begin to claim. `alone`: the caller's lock proves that no other server lives, so that what a dead one
        left is taken over now and not at the end of its lease."""
        await self._store.write(lambda connection: self._register(connection, alone))
        self._main = asyncio.create_task(self._serve(), name="whimbrel-requests")

    async def join(self) -> None:
        """Wait for the end of the engine; raises if one of its loops failed. The server ends itself then."""
        if self._main is not None:
            await asyncio.shield(self._main)

    async def drain(self, reason: str = "shutdown", *, grace: float = 0.0, patience: float = 10.0) -> None:
        """Leave without failing anything (I7): stop claiming, let work finish for `grace` seconds, cancel the rest,
        wait for it at most `patience` seconds, and hand it back to the queue."""
        self._draining.set()
        self._wake.set()
        if self._claiming is not None:
            await asyncio.wait({self._claiming})
        if grace > 0:
            await wait_for(self._idle, grace)
        for active in list(self._active.values()):
            self._end(active, Stop.SHUTDOWN, reason)
        await wait_for(self._idle, patience)
        given = await self._store.write(
            lambda connection: queue.give_back(connection, owner=self.server_id, why=reason, now=self.now())
        )
        for id in given:
            self._watchers.publish(id)
        logger.info(
            "handed %d requests back to the queue",
            len(given),
            extra={"action": "requests-drained", "requests": given},
        )

    async def stop(self, *, patience: float = 5.0) -> None:
        """Drain if that was not done, end every task, and strike the server off the list. Idempotent.

        A task that will not end within `patience` seconds is named and left behind: its lease is given back
        already, so that it can write nothing, and the process ends anyway.
        """
        main, self._main = self._main, None
        if main is None:
            return
        if not main.done() and not self.draining:
            await self.drain()
        self._stopping.set()
        try:
            done, _ = await asyncio.wait({main}, timeout=patience)
            if done:
                main.result()
            else:
                stuck = [
                    active.task.get_name() for active in self._active.values() if active.task is not None
                ]
                logger.error("these will not end: %s", ", ".join(stuck), extra={"action": "requests-stuck"})
        finally:
            await self._store.write(
                lambda connection: (
                    connection.execute(delete(servers).where(servers.c.id == self.server_id)).rowcount
                )
            )

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._claiming = group.create_task(self._claim_loop(), name="whimbrel-requests-claim")
                loops = [
                    group.create_task(self._renew_loop(), name="whimbrel-requests-renew"),
                    group.create_task(self._reap_loop(), name="whimbrel-requests-reap"),
                ]
                await self._stopping.wait()
                self._claiming.cancel()
                for task in loops:
                    task.cancel()
                for active in self._active.values():
                    if active.task is not None:
                        active.task.cancel()
        finally:
            self._group = None

    def _register(self, connection: Connection, alone: bool) -> None:
        if alone:
            queue.presume_dead(connection, survivor=self.server_id, now=self.now())
            connection.execute(delete(servers))
        at = clock.moment(self.now())
        connection.execute(
            insert(servers).values(
                id=self.server_id, version=whimbrel.__version__, pid=os.getpid(), started_at=at, seen_at=at
            )
        )

    # ---------------------------------------------------------------- the three loops

    async def _claim_loop(self) -> None:
        while not self.draining:
            self._wake.clear()
            try:
                while len(self._active) < self._workers and not self.draining:
                    request = await self._store.write(self._claim)
                    if request is None or self.draining:
                        break  # a request claimed while draining is handed back with the others
                    self._begin(request)
            except OperationalError as error:
                logger.warning(
                    "the database did not let us claim: %s", error.orig, extra={"action": "claim-failed"}
                )
            await wait_for(self._wake, random.uniform(POLL / 2, POLL))

    def _claim(self, connection: Connection) -> Request | None:
        return queue.claim(
            connection, kinds=self._operations.keys(), owner=self.server_id, lease=self._lease, now=self.now()
        )

    async def _renew_loop(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            held = self._held()
            asked_at = time.monotonic()
            try:
                renewals = await self._store.write(partial(self._renew, held=held))
            except OperationalError as error:
                logger.warning("leases were not renewed: %s", error.orig, extra={"action": "renew-failed"})
            else:
                self._renewed(held, renewals, asked_at)
            for active in list(self._active.values()):
                if time.monotonic() > active.trusted_until:
                    self._end(active, Stop.LOST)

    def _held(self) -> list[tuple[str, int, float]]:
        """The requests whose leases may be renewed: id, fence, and for how long."""
        return [
            (active.run.id, active.run.fence, seconds)
            for active in self._active.values()
            if (seconds := active.run.lease_seconds(self._lease)) > 0
        ]

    def _renewed(
        self, held: Sequence[tuple[str, int, float]], renewals: Sequence[queue.Renewal], asked_at: float
    ) -> None:
        """Trust what was kept, counted from before the question; end what was lost or is to be cancelled."""
        for (id, fence, seconds), renewal in zip(held, renewals, strict=True):
            active = self._active.get((id, fence))
            if active is None:
                continue
            if not renewal.held:
                self._end(active, Stop.LOST)
                continue
            active.trusted_until = asked_at + seconds
            if renewal.cancel_reason is not None:
                self._end(active, Stop.USER, renewal.cancel_reason)

    def _renew(self, connection: Connection, held: Sequence[tuple[str, int, float]]) -> list[queue.Renewal]:
        connection.execute(
            update(servers)
            .where(servers.c.id == self.server_id)
            .values(seen_at=clock.moment(self.now()), draining=self.draining)
        )
        return queue.renew(connection, held, now=self.now())

    async def _reap_loop(self) -> None:
        pruned_at = time.monotonic()
        while True:
            try:
                await self._look_for_lost()
                if time.monotonic() - pruned_at > 3600:
                    await self._prune_all()
                    pruned_at = time.monotonic()
            except OperationalError as error:
                logger.warning(
                    "lost requests were not looked for: %s", error.orig, extra={"action": "reap-failed"}
                )
            await asyncio.sleep(self._lease / 3)

    async def _look_for_lost(self) -> None:
        for request in await self._store.write(partial(self._reap, held=self._held())):
            logger.warning("the owner of request %s was lost", request.id, extra={"action": "request-reaped"})
            self._watchers.publish(request.id)
            self.wake()

    def _reap(self, connection: Connection, held: Sequence[tuple[str, int, float]]) -> list[Request]:
        """Our own leases first: a clock that was set, or a machine that slept, is no reason to lose our own work."""
        queue.renew(connection, held, now=self.now())
        return queue.reap(connection, by=self.server_id, now=self.now())

    async def _prune_all(self) -> None:
        while True:
            if not await self._store.write(self._prune):
                return
            await asyncio.sleep(0.05)  # others want to write too

    def _prune(self, connection: Connection) -> int:
        return rows.prune(connection, finished_before=clock.moment(self.now()) - RETENTION)

    # ---------------------------------------------------------------- one run

    def _begin(self, request: Request) -> None:
        assert self._group is not None
        run = Run(self._store, request, self.server_id, self.now, self._watchers.publish)
        active = _Active(run=run, trusted_until=time.monotonic() + self._lease)
        self._active[request.id, request.fence] = active
        self._idle.clear()
        self._watchers.publish(request.id)
        self._group.create_task(
            self._attend(active, self._group), name=f"request {request.kind} {request.id}"
        )

    async def _attend(self, active: _Active, group: asyncio.TaskGroup) -> None:
        """Run the operation in a task of its own (which can be cancelled) and write how it ended."""
        run = active.run
        operation = self._operations[run.request.kind]
        flusher = group.create_task(_tell(run), name=f"reports of {run.id}")
        active.task = group.create_task(
            outcome_of(operation, run), name=f"operation {run.request.kind} {run.id}"
        )
        try:
            await asyncio.wait({active.task})
            run.end_reports()
            await asyncio.wait({flusher})
            if not active.task.cancelled():
                await self._settle(run, active.task.result())
            elif run.cancelled is not None:  # before it had begun
                await self._settle(run, stopped(run))
        finally:
            flusher.cancel()
            self._active.pop((run.id, run.fence), None)
            if not self._active:
                self._idle.set()
            self._watchers.publish(run.id)
            self.wake()

    async def _settle(self, run: Run, outcome: Outcome) -> None:
        """Write the outcome, trying for as long as the lease can last; a lost lease means: write nothing. An outcome
        that cannot be stored as it is (a value that is no JSON) fails its request, and nothing else."""
        if run.cancelled is Stop.LOST:
            return
        ends = time.monotonic() + self._lease
        replaced = False
        while True:
            try:
                await run.flush()
                await self._store.write(partial(self._write_outcome, run=run, outcome=outcome))
            except LostLease:
                logger.warning(
                    "request %s belongs to somebody else: its outcome here is dropped",
                    run.id,
                    extra={"action": "late-write-refused"},
                )
                return
            except OperationalError as error:
                logger.warning(
                    "%s could not be ended: %s", run.id, error.orig, extra={"action": "finish-failed"}
                )
                if time.monotonic() > ends:
                    return
                await asyncio.sleep(0.5)
            except Exception as error:
                if replaced:
                    logger.exception("%s could not be ended", run.id, extra={"action": "finish-failed"})
                    return
                outcome, replaced = crashed(run, error), True
            else:
                return

    def _write_outcome(self, connection: Connection, run: Run, outcome: Outcome) -> None:
        at = self.now()
        if outcome.state is not None:
            queue.finish(
                connection,
                run.id,
                run.fence,
                outcome.state,
                owner=self.server_id,
                now=at,
                output=outcome.output,
                error=outcome.error,
            )
        elif outcome.put_off:
            delay = float(min(60, 2**run.request.failures))
            queue.put_off(
                connection, run.id, run.fence, delay=delay, why=outcome.why, owner=self.server_id, now=at
            )

    def _end(self, active: _Active, why: Stop, reason: str | None = None) -> None:
        """Cancel the operation of a run, once per reason."""
        if active.run.mark_stopped(why, reason) and active.task is not None:
            active.task.cancel()


async def _tell(run: Run) -> None:
    """Progress that cannot be stored must not end the engine: the operation's next write tells the same."""
    try:
        await run.flush_reports()
    except (LostLease, OperationalError) as error:
        logger.warning("progress was not stored: %s", error, extra={"action": "report-failed"})
    except Exception:
        logger.exception("progress of %s cannot be stored", run.id, extra={"action": "report-failed"})


def _request_id(key: str | None) -> str:
    if key is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(key))
    except ValueError:
        raise InvalidTask(f"The idempotency key must be a UUID, not {key!r}.") from None
