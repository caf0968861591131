"""One job from its place to its end: started on all its nodes or none, its output kept, its end judged.

The gang of `whimbrel.runtime` starts and follows; here is what it has to be told: what the log store has
already, which nodes are gone for good (asked of the infrastructure, never concluded from silence), and when
the user wants the end. It runs the same way the first time and after a crash of the server. Nothing is
written to rows here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from whimbrel.infra.base import Node
from whimbrel.jobs.logstore import LogWriter
from whimbrel.jobs.outcome import Rank, ended
from whimbrel.model.errors import Forbidden, InfraError, InfraRefused, InvalidTask, WhimError
from whimbrel.runtime.gang import GangEnd, cancel_gang, follow_gang, run_gang
from whimbrel.runtime.spool import JobFiles, State

logger = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds between TERM and KILL for a job that is ended."""
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Around:
    """What the keeper does for a job while it runs."""

    started: Callable[[], Awaitable[None]]
    """Every rank has been started; stored when it returns."""
    trouble: Callable[[WhimError], Awaitable[None]]
    """A node does not answer, and is asked again."""
    recovered: Callable[[], Awaitable[None]]
    """After trouble, a node has been heard again."""
    missing: Callable[[int], Awaitable[str]]
    """Why a node of the cluster is gone for good; empty as long as nobody has seen that."""


class Attendance:
    """Attends to one job. `run` returns its ranks as they ended; `stop` ends them before that."""

    def __init__(
        self,
        ranks: Sequence[Rank],
        nodes: Sequence[Node],
        files: Sequence[JobFiles],
        log: LogWriter,
        around: Around,
        *,
        begun: bool,
    ) -> None:
        self._ranks = list(ranks)
        self._nodes = list(nodes)
        self._files = list(files)
        self._log = log
        self._around = around
        self._begun = begun  # every rank is known to have been started
        self._runs = begun  # some rank is
        self._stopping = asyncio.Event()
        self._lost: dict[int, str] = {}
        self._troubled = False

    @property
    def job_id(self) -> str:
        """Its id on the nodes."""
        return self._files[0].id

    def stop(self) -> None:
        """End it: TERM, then KILL; a rank that was not started never will be."""
        self._stopping.set()

    async def run(self) -> list[Rank]:
        """Do it; the rank because of which the others were ended comes first."""
        async with asyncio.TaskGroup() as group:
            stopper = group.create_task(self._stop_when_told(), name=f"stop job {self.job_id}")
            try:
                ranks = await self._start_and_follow()
            finally:
                stopper.cancel()
        for rank in ranks:
            await self._log.end(rank.rank)
        if self._troubled:
            await self._well()
        return ranks

    async def _start_and_follow(self) -> list[Rank]:
        tries = 0
        while not self._begun and not self._stopping.is_set():
            try:
                return self._judged(
                    await run_gang(
                        self._nodes,
                        self._files,
                        self._keep,
                        given_up=self._given_up,
                        on_started=self._started,
                        grace=GRACE,
                    )
                )
            except (Forbidden, InfraRefused, InvalidTask) as error:
                return await self._not_started(error.message)
            except InfraError as error:
                gone = [why for rank in self._ranks if (why := await self._around.missing(rank.node))]
                if gone:
                    return await self._not_started(gone[0])
                await self._trouble(error)
                tries = await self._rest(tries)
        if not self._begun:
            await self._end_everywhere()
        offsets = [self._log.offsets[rank.rank] for rank in self._ranks]
        return self._judged(
            await follow_gang(
                self._nodes, self.job_id, offsets, self._keep, given_up=self._given_up, grace=GRACE
            )
        )

    async def _not_started(self, why: str) -> list[Rank]:
        """All or none: what may have started elsewhere is ended, and what has not will never start."""
        await self._end_everywhere()
        first, *others = self._ranks
        return [
            ended(first, exit_code=None, signal=None, lost=f"could not be started: {why}", by_us=False),
            *(
                ended(rank, exit_code=None, signal=None, lost="was not started", by_us=True)
                for rank in others
            ),
        ]

    async def _started(self) -> None:
        self._runs = True
        await self._around.started()

    async def _keep(self, position: int, offset: int, piece: bytes) -> None:
        """Append what the log store does not have yet: after a crash a start reads from the beginning."""
        rank = self._ranks[position].rank
        known = self._log.offsets[rank]
        if offset + len(piece) > known:
            await self._log.append(rank, piece[max(0, known - offset) :])
        if self._troubled:
            await self._well()

    async def _trouble(self, error: WhimError) -> None:
        self._troubled = True
        await self._around.trouble(error)

    async def _well(self) -> None:
        self._troubled = False
        await self._around.recovered()

    async def _given_up(self, position: int, error: InfraError) -> bool:
        if isinstance(error, Forbidden) and not self._runs:
            self._lost[position] = error.message  # it will not be allowed by waiting; nothing was started
            return True
        gone = await self._around.missing(self._ranks[position].node)
        if gone:
            self._lost[position] = gone
            return True
        await self._trouble(error)
        return False

    def _judged(self, end: GangEnd) -> list[Rank]:
        ranks = [
            self._rank_end(position, state, end.errors[position]) for position, state in enumerate(end.states)
        ]
        if end.first_failure is not None:
            culprit = ranks.pop(end.first_failure)
            if not self._stopping.is_set():
                culprit = replace(culprit, ended_by_us=False)
            ranks.insert(0, culprit)
        return ranks

    def _rank_end(self, position: int, state: State, error: Exception | None) -> Rank:
        lost = ""
        if state.exit_code is None:
            why = self._lost.get(position) or (error.message if isinstance(error, WhimError) else "")
            lost = f"was lost: {why or 'its processes are gone and left no exit code'}"
            if isinstance(error, Forbidden | InfraRefused):
                lost = f"could not be started: {error.message}"
        return ended(
            self._ranks[position],
            exit_code=state.exit_code,
            signal=state.signal,
            lost=lost,
            by_us=state.cancelled or (bool(lost) and self._stopping.is_set()),
        )

    async def _stop_when_told(self) -> None:
        await self._stopping.wait()
        await self._end_everywhere()

    async def _end_everywhere(self) -> None:
        """Ask each node until it answered, or is gone."""
        await asyncio.gather(*(self._end_on(position) for position in range(len(self._ranks))))

    async def _end_on(self, position: int) -> None:
        tries = 0
        while True:
            (answer,) = await cancel_gang([self._nodes[position]], self.job_id, grace=GRACE)
            if isinstance(answer, State):
                return
            gone = await self._around.missing(self._ranks[position].node)
            if gone or (isinstance(answer, Forbidden) and not self._runs):
                return
            await self._trouble(answer)
            tries = await self._rest(tries)

    @staticmethod
    async def _rest(tries: int) -> int:
        await asyncio.sleep(_PAUSES[tries])
        return min(tries + 1, len(_PAUSES) - 1)
