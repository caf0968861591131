"""What an operation is, and what it gets: a `Run`, through which alone it may write for its request.

An operation says "make it so" in named steps. `step` commits the intention (and the ledger rows of what is about
to exist) before the action, runs the action under a deadline, and commits its output; a successor, after a crash or
a deploy, gets the stored output instead of a second action. Everything written here proves the fence in its own
transaction and raises `LostLease` when somebody else has the request: the operation then just ends.

Claiming, renewing and finishing are the engine's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from whimbrel.model.errors import DeadlineExceeded
from whimbrel.store import queue, steps, things
from whimbrel.store.clock import Moment
from whimbrel.store.engine import Store
from whimbrel.store.requests import JsonObject, NewEvent, Request
from whimbrel.store.things import Intended

T = TypeVar("T")

BETWEEN_STEPS = 30.0
"""An operation that is in no step for so long is stuck: its lease is not renewed any more."""

CLEANUP = 5.0
"""How long an operation may go on after it was cancelled, or after the deadline of its step (I5)."""

LARGEST_TEXT = 32 * 1024
"""Longer log text is split into several events."""


class Stop(StrEnum):
    """Why a run was ended from outside."""

    USER = "user"  # somebody cancelled the request
    SHUTDOWN = "shutdown"  # this server leaves; another one carries on
    LOST = "lost"  # somebody else owns the request now


class Run:
    """One attempt at one request by this server."""

    def __init__(
        self,
        store: Store,
        request: Request,
        server_id: str,
        now: Callable[[], Moment],
        publish: Callable[[str], None],
    ) -> None:
        self.request = request
        self.server_id = server_id
        self.cancelled: Stop | None = None
        self.cancel_reason: str | None = None
        self._store = store
        self._now = now
        self._publish = publish
        self._pending: list[NewEvent] = []
        self._flushing = asyncio.Lock()
        self._dirty = asyncio.Event()
        self._told_all = False
        self._idle_until = time.monotonic() + BETWEEN_STEPS
        self._steps: dict[str, float] = {}
        self._stopped_at: float | None = None

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.id

    @property
    def body(self) -> JsonObject:
        """What was asked for, as the client sent it."""
        return self.request.body

    @property
    def actor(self) -> str:
        """Who asked."""
        return self.request.actor

    @property
    def fence(self) -> int:
        """What proves that this run, and no later one, writes."""
        return self.request.fence

    async def step(
        self,
        name: str,
        action: Callable[[], Awaitable[JsonObject | None]],
        *,
        deadline: float,
        things: Sequence[Intended] = (),
    ) -> JsonObject:
        """Do `action` once, as far as anybody can: its output is stored, and returned without running it again.

        `things` are what the action is about to create; they are in the ledger before it starts. The action must be
        idempotent: it runs again when its server dies in the middle. It is cancelled after `deadline` seconds, which
        raises `DeadlineExceeded`.
        """
        stored = await self._intend(name, deadline, things)
        if stored is not None:
            return stored
        self._steps[name] = time.monotonic() + deadline
        try:
            try:
                async with asyncio.timeout(deadline) as limit:
                    output = dict(await action() or {})
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise DeadlineExceeded(
                    f"The step '{name}' was not done within {deadline:g} s.", details={"step": name}
                ) from error
        finally:
            del self._steps[name]
            self._idle_until = time.monotonic() + BETWEEN_STEPS
        await self._complete(name, output, [thing.token for thing in things])
        return output

    async def progress(self, message: str, **data: Any) -> None:
        """Tell whoever watches what is being waited for; stored when this returns."""
        self.report(message, **data)
        await self.flush()

    async def log(self, text: str, *, upto: int | None = None) -> None:
        """Append text to the log of the request; stored when this returns. `upto` says how far its source has been
        told with it, for whoever carries on."""
        new = [
            NewEvent(kind="log", data={"text": text[at : at + LARGEST_TEXT]})
            for at in range(0, len(text), LARGEST_TEXT)
        ]
        if upto is not None and new:
            new[-1] = NewEvent(kind="log", data={**new[-1].data, "upto": upto})
        self._pending += new
        await self.flush()

    def report(self, message: str, **data: Any) -> None:
        """`progress` for callbacks that cannot wait: stored soon, at the latest before the request finishes."""
        self._pending.append(NewEvent(kind="progress", data={"message": message, **data}))
        self._dirty.set()

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """A transaction for this request, under its fence."""

        def fenced(connection: Connection) -> T:
            queue.prove(connection, self.id, self.fence)
            return fn(connection)

        return await self._store.write(fenced)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """A consistent read."""
        return await self._store.read(fn)

    def now(self) -> Moment:
        """The moment to write with: the database's clock."""
        return self._now()

    async def flush(self) -> None:
        """Store the events that wait. Whoever comes while another one writes finds its events written by the next."""
        async with self._flushing:
            self._dirty.clear()
            if not self._pending:
                return
            batch, self._pending = self._pending, []
            try:
                await self._store.write(
                    lambda connection: queue.record(
                        connection, self.id, self.fence, batch, owner=self.server_id, now=self._now()
                    )
                )
            except OperationalError:
                self._pending = [*batch, *self._pending]  # for whoever writes next
                raise
        self._publish(self.id)

    async def flush_reports(self) -> None:
        """Store what `report` left, until `end_reports`; the engine runs this beside the operation."""
        while not self._told_all:
            await self._dirty.wait()
            await self.flush()

    def end_reports(self) -> None:
        """The operation has ended: `flush_reports` stores what is left, and returns."""
        self._told_all = True
        self._dirty.set()

    def lease_seconds(self, lease: float) -> float:
        """For how long the lease may be renewed now; 0 or less when the work is overdue (I5)."""
        at = time.monotonic()
        horizon = max(self._steps.values()) + CLEANUP if self._steps else self._idle_until
        if self._stopped_at is not None:
            horizon = min(horizon, self._stopped_at + CLEANUP)
        return min(lease, horizon - at)

    def mark_stopped(self, why: Stop, reason: str | None = None) -> bool:
        """Note why the run is being ended; False if that was known. `LOST` replaces every other reason."""
        if self.cancelled is Stop.LOST or (self.cancelled is not None and why is not Stop.LOST):
            return False
        self.cancelled, self.cancel_reason = why, reason
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        return True

    async def _intend(self, name: str, deadline: float, new: Sequence[Intended]) -> JsonObject | None:
        def transaction(connection: Connection) -> JsonObject | None:
            queue.prove(connection, self.id, self.fence)
            known = steps.find(connection, self.id, name)
            if known is not None and known.done:
                return known.output or {}
            at = self._now()
            token = steps.intend(connection, self.id, name, deadline=deadline, now=at)
            things.intend(connection, new, subject=self.request.subject, request=self.id, now=at)
            self._record_step(connection, name, "intended", token)
            return None

        await self.flush()
        stored = await self._store.write(transaction)
        self._publish(self.id)
        return stored

    async def _complete(self, name: str, output: JsonObject, tokens: Sequence[str]) -> None:
        def transaction(connection: Connection) -> None:
            queue.prove(connection, self.id, self.fence)
            at = self._now()
            steps.complete(connection, self.id, name, output=output, now=at)
            things.saw(connection, tokens, now=at)
            self._record_step(connection, name, "done", f"{self.id}-{name}")

        await self.flush()
        await self._store.write(transaction)
        self._publish(self.id)

    def _record_step(self, connection: Connection, name: str, state: str, token: str) -> None:
        event = NewEvent(kind="step", data={"name": name, "state": state, "token": token})
        queue.record(connection, self.id, self.fence, [event], owner=self.server_id, now=self._now())


class Operation(Protocol):
    """One kind of request: how to make it so."""

    @property
    def kind(self) -> str:
        """'cluster.launch', 'cluster.down', ..."""

    async def run(self, run: Run) -> JsonObject | None:
        """Do it, in steps that can find themselves done. Raises a `WhimError` to fail for good; an
        `asyncio.CancelledError` must be let through after at most `CLEANUP` seconds."""
