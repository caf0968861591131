"""One job on several nodes: all ranks start or none does, and one rank's failure ends the others.

The start has two phases: the files go to every node first, which proves that every node answers; only then is any
rank started. If a node is lost between the two, the ranks that were started are cancelled. Everything is safe to
ask again: a restarted server calls `follow_gang` with the offsets that it has written down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from whimbrel.infra.base import Node
from whimbrel.model.errors import InfraError, NodeLost
from whimbrel.runtime.spool import (
    JobFiles,
    LogReader,
    State,
    cancel_job,
    follow_job,
    prepare_job,
    read_log,
    start_job,
)

logger = logging.getLogger(__name__)

OnOutput = Callable[[int, int, bytes], Awaitable[None]]
"""(rank, offset, piece of its log)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GangEnd:
    """How a job ended, rank by rank. A rank whose node was lost has `lost` set."""

    states: tuple[State, ...]
    first_failure: int | None = None  # the rank because of which the others were ended

    @property
    def succeeded(self) -> bool:
        """Whether every rank ended with 0."""
        return all(state.exit_code == 0 for state in self.states)

    @property
    def lost(self) -> bool:
        """Whether it is not known how some rank ended."""
        return any(state.exit_code is None for state in self.states)


async def start_gang(nodes: Sequence[Node], jobs: Sequence[JobFiles], *, timeout: float = 15.0) -> None:
    """Start rank i of the job on node i. When a node fails, nothing of the job runs anywhere, and its error is
    raised."""
    if len(nodes) == 1:
        await start_job(nodes[0], jobs[0], timeout=timeout)
        return
    await prepare_gang(nodes, jobs, timeout=timeout / 2)
    started = await asyncio.gather(
        *(start_job(node, job.id, timeout=timeout / 2) for node, job in zip(nodes, jobs, strict=True)),
        return_exceptions=True,
    )
    failures = [outcome for outcome in started if isinstance(outcome, BaseException)]
    if failures:
        await cancel_gang(nodes, jobs[0].id, grace=0)
        raise failures[0]


async def prepare_gang(nodes: Sequence[Node], jobs: Sequence[JobFiles], *, timeout: float = 8.0) -> None:
    """The files of every rank on its node; the first error, after all were tried."""
    outcomes = await asyncio.gather(
        *(prepare_job(node, job, timeout=timeout) for node, job in zip(nodes, jobs, strict=True)),
        return_exceptions=True,
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def cancel_gang(nodes: Sequence[Node], job_id: str, *, grace: float = 10.0) -> list[State | InfraError]:
    """Cancel on every node at once; what a node answered, or why it did not."""
    outcomes = await asyncio.gather(
        *(cancel_job(node, job_id, grace=grace) for node in nodes), return_exceptions=True
    )
    answers: list[State | InfraError] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, InfraError):
            raise outcome
        answers.append(outcome)
    return answers


class Gang:
    """A running job on several nodes, followed. `run` returns when every rank has ended."""

    def __init__(
        self,
        nodes: Sequence[Node],
        job_id: str,
        on_output: OnOutput,
        *,
        grace: float = 10.0,
        patience: float = 60.0,
    ) -> None:
        self._nodes = nodes
        self._job_id = job_id
        self._on_output = on_output
        self._grace = grace
        self._patience = patience
        self._states: list[State | None] = [None] * len(nodes)
        self._failed = asyncio.Event()
        self.first_failure: int | None = None
        self.started = asyncio.Event()

    async def run(self, readers: Sequence[LogReader]) -> GangEnd:
        """Follow one reader per rank to its end, ending all ranks once one has failed."""
        async with asyncio.TaskGroup() as tasks:
            ender = tasks.create_task(self._end_others(), name=f"gang {self._job_id}: end")
            ranks = [
                tasks.create_task(self._rank(rank, reader), name=f"gang {self._job_id}: rank {rank}")
                for rank, reader in enumerate(readers)
            ]
            starts = tasks.create_task(self._all_started(readers), name=f"gang {self._job_id}: start")
            await asyncio.wait(ranks)
            starts.cancel()
            if not self._failed.is_set():
                ender.cancel()
        states = tuple(state or State(job_id=self._job_id, lost=True) for state in self._states)
        return GangEnd(states=states, first_failure=self.first_failure)

    async def _rank(self, rank: int, reader: LogReader) -> None:
        try:
            async for offset, piece in reader:
                await self._on_output(rank, offset, piece)
            self._states[rank] = reader.state
        except InfraError as error:
            logger.warning("job %s lost rank %d on node %s: %s", self._job_id, rank, reader.node.name, error)
        state = self._states[rank]
        if (state is None or state.exit_code != 0) and self.first_failure is None:
            self.first_failure = rank
            self._failed.set()

    async def _all_started(self, readers: Sequence[LogReader]) -> None:
        for reader in readers:
            await reader.started.wait()
        self.started.set()

    async def _end_others(self) -> None:
        await self._failed.wait()
        left = [node for rank, node in enumerate(self._nodes) if rank != self.first_failure]
        await cancel_gang(left, self._job_id, grace=self._grace)
