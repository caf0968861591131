"""How a job ended, from how its ranks ended."""

from whimbrel.jobs.outcome import Rank, judge
from whimbrel.model.status import JobStatus


def rank(
    number: int, code: int | None = 0, *, signal: int | None = None, lost: str = "", by_us: bool = False
) -> Rank:
    return Rank(rank=number, node=number, exit_code=code, signal=signal, lost=lost, ended_by_us=by_us)


def test_all_ranks_with_zero_is_success_even_when_a_cancel_came_too_late() -> None:
    assert judge([rank(0), rank(1)]).status == JobStatus.SUCCEEDED
    assert judge([rank(0)], cancelled="the user cancelled it").status == JobStatus.SUCCEEDED


def test_the_rank_that_failed_by_itself_is_named_not_those_that_were_ended_because_of_it() -> None:
    outcome = judge([rank(1, 3), rank(0, 143, signal=15, by_us=True)])
    assert (outcome.status, outcome.reason) == (JobStatus.FAILED, "rank 1 ended with exit code 3")


def test_a_signal_is_named() -> None:
    assert judge([rank(0, 139, signal=11)]).reason == "it was ended by SIGSEGV, exit code 139"
    assert "out of memory" in judge([rank(0, 137, signal=9)]).reason


def test_what_cannot_be_known_is_not_guessed() -> None:
    outcome = judge([rank(0, None, lost="was lost: its node c1-0 is gone"), rank(1, 143, by_us=True)])
    assert outcome.status == JobStatus.FAILED_DRIVER
    assert outcome.reason == "rank 0 was lost: its node c1-0 is gone"


def test_cancelling_is_not_a_failure() -> None:
    outcome = judge([rank(0, 143, signal=15, by_us=True)], cancelled="cancelled by ana")
    assert (outcome.status, outcome.reason) == (JobStatus.CANCELLED, "cancelled by ana")


def test_a_rank_is_stored_and_read_back_whole() -> None:
    one = Rank(rank=1, node=2, gpus=(0, 3), exit_code=1, signal=None, lost="", ended_by_us=True)
    assert Rank.from_json(one.to_json()) == one
