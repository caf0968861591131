"""One job on several nodes: all ranks start or none does, and one rank's failure ends the others.

The start has two phases: the files go to every node first, which proves that every node answers; only then is any
rank started. When a rank cannot be started after that, the others are ended and that rank is told never to start.
Everything is safe to ask again: a restarted server calls `follow_gang` with the offsets that it has written down.

Whether a node that does not answer is lost, or only out of reach for a while, cannot be known from an exec stream.
`given_up` is asked; the jobs on the other nodes are not ended before it says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from whimbrel.infra.base import Node
from whimbrel.model.errors import InfraError, InfraRefused, NotFound
from whimbrel.runtime.spool import (
    JobFiles,
    LogReader,
    State,
    cancel_job,
    follow_job,
    prepare_job,
    read_log,
)

logger = logging.getLogger(__name__)

OnOutput = Callable[[int, int, bytes], Awaitable[None]]
"""Given (rank, offset, piece of that rank's log)."""
OnStarted = Callable[[], Awaitable[None]]
"""Called once, when every rank has been started."""
GivenUp = Callable[[int, InfraError], Awaitable[bool]]
"""Asked when rank's stream failed: whether its node is lost for good. False: it will be tried again."""

_PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GangEnd:
    """How a job ended, rank by rank."""

    states: tuple[State, ...]  # `lost` where it is not known how the rank ended
    first_failure: int | None = None  # the rank because of which the others were ended
    errors: tuple[Exception | None, ...] = ()  # by rank: why it is lost

    @property
    def succeeded(self) -> bool:
        """Whether every rank ended with 0."""
        return all(state.exit_code == 0 for state in self.states)


async def run_gang(
    nodes: Sequence[Node],
    jobs: Sequence[JobFiles],
    on_output: OnOutput,
    *,
    given_up: GivenUp,
    on_started: OnStarted | None = None,
    grace: float = 10.0,
    timeout: float = 15.0,
) -> GangEnd:
    """Start rank i of the job on node i and follow all to the end. `timeout` is for preparing; an error of it is
    raised, and nothing was started then. One node needs one exec for all of it."""
    readers = [follow_job(nodes[0], jobs[0])]
    if len(nodes) > 1:
        await prepare_gang(nodes, jobs, timeout=timeout)
        readers = [follow_job(node, job.id) for node, job in zip(nodes, jobs, strict=True)]
    return await _Gang(jobs[0].id, readers, on_output, given_up, on_started, grace).run()


async def follow_gang(
    nodes: Sequence[Node],
    job_id: str,
    offsets: Sequence[int],
    on_output: OnOutput,
    *,
    given_up: GivenUp,
    grace: float = 10.0,
) -> GangEnd:
    """Follow a job that was started earlier, from these offsets on, to its end."""
    readers = [
        read_log(node, job_id, offset=offset, follow=True)
        for node, offset in zip(nodes, offsets, strict=True)
    ]
    return await _Gang(job_id, readers, on_output, given_up, None, grace).run()


async def prepare_gang(nodes: Sequence[Node], jobs: Sequence[JobFiles], *, timeout: float = 15.0) -> None:
    """The files of every rank on its node; the first error, after all were tried."""
    outcomes = await asyncio.gather(
        *(prepare_job(node, job, timeout=timeout) for node, job in zip(nodes, jobs, strict=True)),
        return_exceptions=True,
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def cancel_gang(
    nodes: Sequence[Node], job_id: str, *, grace: float = 10.0, timeout: float | None = None
) -> list[State | InfraError]:
    """Cancel on every node at once; by rank, the state or why the node could not be asked."""
    outcomes = await asyncio.gather(
        *(cancel_job(node, job_id, grace=grace, timeout=timeout) for node in nodes), return_exceptions=True
    )
    answers: list[State | InfraError] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, InfraError):
            raise outcome
        answers.append(outcome)
    return answers


class _Gang:
    """The followers of all ranks, and what they know of each other."""

    def __init__(
        self,
        job_id: str,
        readers: Sequence[LogReader],
        on_output: OnOutput,
        given_up: GivenUp,
        on_started: OnStarted | None,
        grace: float,
    ) -> None:
        self._job_id = job_id
        self._readers = readers
        self._on_output = on_output
        self._given_up = given_up
        self._on_started = on_started
        self._grace = grace
        self._states: list[State | None] = [None] * len(readers)
        self._errors: list[Exception | None] = [None] * len(readers)
        self._first_failure: int | None = None
        self._failed = asyncio.Event()

    async def run(self) -> GangEnd:
        """Returns when every rank has ended or was given up."""
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(self._end_others(), name=f"job {self._job_id}: end others")]
            if self._on_started:
                call = self._tell_started(self._on_started)
                beside.append(tasks.create_task(call, name=f"job {self._job_id}: started"))
            ranks = [
                tasks.create_task(self._follow(rank), name=f"job {self._job_id}: rank {rank}")
                for rank in range(len(self._readers))
            ]
            await asyncio.wait(ranks)
            if not self._failed.is_set():
                beside[0].cancel()
            for task in beside[1:]:
                task.cancel()
        return GangEnd(
            states=tuple(state or State(job_id=self._job_id, lost=True) for state in self._states),
            first_failure=self._first_failure,
            errors=tuple(self._errors),
        )

    async def _follow(self, rank: int) -> None:
        reader = self._readers[rank]
        tries = 0
        while True:
            before = reader.offset
            try:
                async for offset, piece in reader:
                    await self._on_output(rank, offset, piece)
                self._states[rank] = reader.state
                break
            except (InfraRefused, NotFound) as error:
                self._errors[rank] = error
                break
            except InfraError as error:
                logger.info("job %s, rank %d, node %s: %s", self._job_id, rank, reader.node.name, error)
                if await self._given_up(rank, error):
                    self._errors[rank] = error
                    break
            tries = 0 if reader.offset > before else min(tries + 1, len(_PAUSES) - 1)
            await asyncio.sleep(_PAUSES[tries])
        state = self._states[rank]
        if (state is None or state.exit_code != 0) and self._first_failure is None:
            self._first_failure = rank
            self._failed.set()

    async def _tell_started(self, on_started: OnStarted) -> None:
        for reader in self._readers:
            await reader.started.wait()
        await on_started()

    async def _end_others(self) -> None:
        await self._failed.wait()
        async with asyncio.TaskGroup() as tasks:
            for rank in range(len(self._readers)):
                tasks.create_task(self._end_rank(rank), name=f"job {self._job_id}: end rank {rank}")

    async def _end_rank(self, rank: int) -> None:
        """Ask until the node has answered, or the rank has ended by itself or was given up."""
        tries = 0
        while self._states[rank] is None:
            gone = self._errors[rank] is not None
            try:
                state = await cancel_job(self._readers[rank].node, self._job_id, grace=self._grace)
            except InfraError as error:
                logger.info("job %s: rank %d could not be ended yet: %s", self._job_id, rank, error)
                if gone:
                    return
                await asyncio.sleep(_PAUSES[tries])
                tries = min(tries + 1, len(_PAUSES) - 1)
                continue
            if gone:
                self._states[rank] = state
            return
