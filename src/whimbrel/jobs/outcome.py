"""How a job ended, from how its ranks ended. Pure.

The first rank that failed decides, because the others were ended because of it. What cannot be known (a node
that is gone, a process that left no exit code) is said as such: `FAILED_DRIVER`, never a success and never a
guess.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from whimbrel.jobs.queue import Placement, Slot
from whimbrel.model.status import JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One rank of a job: where it runs and how it ended. Stored in the job's row as JSON."""

    rank: int
    node: int  # rank of the node in the cluster
    gpus: tuple[int, ...] = ()
    exit_code: int | None = None
    signal: int | None = None
    lost: str = ""  # why nobody knows how it ended, or that it could not start: "was lost: ..."
    ended_by_us: bool = False  # cancelled, by the user or because another rank had failed

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.exit_code is not None or bool(self.lost)

    @property
    def failed(self) -> bool:
        """Whether it ended by itself, and not well."""
        return not self.ended_by_us and (bool(self.lost) or bool(self.exit_code))

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return {
            "rank": self.rank,
            "node": self.node,
            "gpus": list(self.gpus),
            "exit_code": self.exit_code,
            "signal": self.signal,
            "lost": self.lost,
            "ended_by_us": self.ended_by_us,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Rank:
        """What `to_json` wrote."""
        return cls(
            rank=raw["rank"],
            node=raw["node"],
            gpus=tuple(raw.get("gpus", ())),
            exit_code=raw.get("exit_code"),
            signal=raw.get("signal"),
            lost=raw.get("lost") or "",
            ended_by_us=bool(raw.get("ended_by_us")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a job."""

    status: JobStatus
    reason: str = ""


def ranks_of(placement: Placement) -> list[Rank]:
    """The ranks of a job that has just been given its place."""
    return [Rank(rank=rank, node=slot.node, gpus=slot.gpus) for rank, slot in enumerate(placement.slots)]


def placement_of(job_id: int, ranks: Sequence[Rank]) -> Placement:
    """The place that a job has."""
    return Placement(job_id=job_id, slots=tuple(Slot(node=rank.node, gpus=rank.gpus) for rank in ranks))


def ended(rank: Rank, *, exit_code: int | None, signal: int | None, lost: str, by_us: bool) -> Rank:
    """The rank, as it ended."""
    return replace(rank, exit_code=exit_code, signal=signal, lost=lost, ended_by_us=by_us)


def judge(ranks: Sequence[Rank], *, cancelled: str = "") -> Outcome:
    """How the job ended.

    Args:
        ranks: all of them, in the order in which they ended.
        cancelled: why the job was ended, when somebody asked for it.
    """
    if all(rank.exit_code == 0 for rank in ranks):
        return Outcome(status=JobStatus.SUCCEEDED)
    if cancelled:
        return Outcome(status=JobStatus.CANCELLED, reason=cancelled)
    culprit = next((rank for rank in ranks if rank.failed), None)
    if culprit is None:
        return Outcome(status=JobStatus.CANCELLED, reason="it was ended from outside")
    where = f"rank {culprit.rank} " if len(ranks) > 1 else "it "
    if culprit.lost:
        return Outcome(status=JobStatus.FAILED_DRIVER, reason=where + culprit.lost)
    return Outcome(status=JobStatus.FAILED, reason=where + how(culprit.exit_code or 0, culprit.signal))


def how(exit_code: int, number: int | None) -> str:
    """An exit code in words."""
    if not number:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = " (out of memory, most likely, or killed from outside)" if number == signal.SIGKILL else ""
    return f"was ended by {name}{hint}, exit code {exit_code}"
