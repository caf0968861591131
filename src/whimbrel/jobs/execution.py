"""One job from its place to its end: prepared on all its nodes, started on all or none, followed, and ended together.

Everything asked of a node may be asked again (a job's script starts at most once, by the spool's own lock), so that
this runs the same way the first time and after a crash of the server: from the offsets that the log store holds and
the ranks that the row holds. A node that does not answer is asked for as long as nobody has seen it gone; a node that
was seen gone ends the job. What is written where is the keeper's business: it is told through `Reports`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from whimbrel.infra.base import Node
from whimbrel.jobs.logstore import LogWriter
from whimbrel.jobs.outcome import Rank, ended
from whimbrel.model.errors import InfraError, InfraRefused, InvalidTask, JobNotFound
from whimbrel.runtime.spool import JobFiles, LogReader, State, cancel_job, prepare_job

logger = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds between TERM and KILL for the ranks of a job that is ended."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0


class Reports(Protocol):
    """Where the execution tells what happens; each call is stored when it returns."""

    async def started(self) -> None:
        """Every rank has been started."""

    async def rank_ended(self, rank: Rank) -> None:
        """A rank has ended and its output is in the log store."""

    async def trouble(self, error: InfraError) -> None:
        """A node does not answer; it will be asked again."""

    async def missing(self, node: int) -> str:
        """Why the cluster's node of this rank is gone for good; empty as long as nobody has seen that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one rank needs."""

    rank: Rank
    node: Node
    files: JobFiles


class Execution:
    """Runs one job. `run` returns when every rank has ended; `stop` ends them before."""

    def __init__(self, parts: Sequence[Part], log: LogWriter, reports: Reports, *, begun: bool) -> None:
        self._parts = parts
        self._log = log
        self._reports = reports
        self._begun = begun  # every rank is known to have been started
        self._stopping = asyncio.Event()
        self._grace = GRACE
        self._started: set[int] = set()

    def stop(self, grace: float = GRACE) -> None:
        """End all ranks: TERM, and KILL after the grace. A rank that has not started never will."""
        self._grace = grace
        self._stopping.set()

    async def run(self) -> list[Rank]:
        """Do it; the ranks, in the order in which they ended."""
        over = [part.rank for part in self._parts if part.rank.ended]
        open_ = [part for part in self._parts if not part.rank.ended]
        if any(rank.failed for rank in over):
            self._stopping.set()
        if len(self._parts) > 1 and not self._begun:
            gone = await self._prepare(open_)
            if gone is not None:
                return over + gone
        async with asyncio.TaskGroup() as group:
            watching = [
                group.create_task(self._attend(part, over), name=f"rank {part.rank.rank} of job {part.files.id}")
                for part in open_
            ]
            stopper = group.create_task(self._end_when_told(open_), name=f"stop job {open_ and open_[0].files.id}")
            await asyncio.gather(*watching)
            stopper.cancel()
        return over

    async def _attend(self, part: Part, over: list[Rank]) -> None:
        rank = await self._follow(part)
        await self._log.end(rank.rank)
        over.append(rank)
        if rank.failed:
            self._stopping.set()
        await self._reports.rank_ended(rank)

    async def _prepare(self, parts: Sequence[Part]) -> list[Rank] | None:
        """Put the job on all its nodes before any starts; when one is gone, none will: the ranks then say why."""
        results = await asyncio.gather(*(self._prepare_one(part) for part in parts))
        if not any(results):
            return None
        return [
            ended(part.rank, exit_code=None, signal=None, lost=why or "was not started", by_us=not why)
            for part, why in zip(parts, results, strict=True)
        ]

    async def _prepare_one(self, part: Part) -> str:
        """Why it could not be prepared; empty when it was (or when the job is being stopped)."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                await prepare_job(part.node, part.files)
                return ""
            except (InfraRefused, InvalidTask) as error:
                return f"could not be started: {error.message}"
            except InfraError as error:
                gone = await self._reports.missing(part.rank.node)
                if gone:
                    return f"could not be started: {gone}"
                await self._reports.trouble(error)
                pause = await self._rest(pause)
        return ""

    async def _follow(self, part: Part) -> Rank:
        """Start the rank if need be, keep what it prints, and learn how it ended, whatever happens to streams."""
        pause = FIRST_PAUSE
        while True:
            try:
                state = await self._read(part)
                return self._ended(part.rank, state)
            except JobNotFound:
                return self._lost(part.rank, "was lost: its node knows nothing of it")
            except (InfraRefused, InvalidTask) as error:
                return self._lost(part.rank, f"could not be started: {error.message}")
            except InfraError as error:
                gone = await self._reports.missing(part.rank.node)
                if gone:
                    return self._lost(part.rank, f"was lost: {gone}")
                await self._reports.trouble(error)
                pause = await self._rest(pause)

    async def _read(self, part: Part) -> State:
        rank = part.rank.rank
        start = not self._begun and rank not in self._started and not self._stopping.is_set()
        reader = LogReader(
            part.node,
            self._what(part),
            offset=self._log.offsets[rank],
            follow=True,
            start=start,
        )
        noticing = asyncio.create_task(self._notice_start(rank, reader), name=f"start of rank {rank}")
        try:
            async for _, data in reader:
                await self._log.append(rank, data)
        finally:
            noticing.cancel()
            await asyncio.gather(noticing, return_exceptions=True)
        state = reader.state
        if state is None or not (state.ended or state.cancelled):
            raise JobNotFound(f"job {part.files.id} was not started on node {part.node.name}")
        await self._note_start(rank)
        return state

    def _what(self, part: Part) -> JobFiles:
        return part.files

    async def _notice_start(self, rank: int, reader: LogReader) -> None:
        await reader.started.wait()
        await self._note_start(rank)

    async def _note_start(self, rank: int) -> None:
        """The job runs once its last rank does."""
        if rank in self._started:
            return
        self._started.add(rank)
        if not self._begun and len(self._started) == len(self._parts):
            self._begun = True
            await self._reports.started()

    async def _end_when_told(self, parts: Sequence[Part]) -> None:
        await self._stopping.wait()
        await asyncio.gather(*(self._end(part) for part in parts))

    async def _end(self, part: Part) -> None:
        """Ask until the node has done it; whoever follows the rank learns how it ended, or that it is gone."""
        pause = FIRST_PAUSE
        while True:
            try:
                await cancel_job(part.node, part.files.id, grace=self._grace)
                return
            except InfraError as error:
                logger.info("ending job %s on node %s: %s", part.files.id, part.node.name, error.message)
                pause = await self._rest(pause)

    def _ended(self, rank: Rank, state: State) -> Rank:
        by_us = state.cancelled or self._stopping.is_set()
        lost = "was lost: its processes are gone and left no exit code" if state.lost else ""
        return ended(rank, exit_code=state.exit_code, signal=state.signal, lost=lost, by_us=by_us)

    def _lost(self, rank: Rank, why: str) -> Rank:
        return ended(rank, exit_code=None, signal=None, lost=why, by_us=self._stopping.is_set())

    @staticmethod
    async def _rest(pause: float) -> float:
        await asyncio.sleep(pause)
        return min(LONGEST_PAUSE, pause * 2)


Missing = Callable[[int], Awaitable[str]]
