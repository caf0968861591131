"""Whoever asks for much waits for others, not they for him."""

from __future__ import annotations

import asyncio
import time

import pytest

from kubesim.apiserver.turns import STARTS, Turns

pytestmark = pytest.mark.anyio


def busy(item: int) -> int:
    """Longer than a turn for eight of them."""
    end = time.perf_counter() + 0.0005
    while time.perf_counter() < end:
        pass
    return item * 2


async def test_long_work_gives_the_loop_back_after_each_turn_however_many_do_it() -> None:
    turns = Turns()
    marks: list[str] = []
    ended = False

    async def others() -> None:
        while not ended:
            marks.append("round")
            await asyncio.sleep(0)

    def work(item: int) -> int:
        marks.append("work")
        return busy(item)

    ticking = asyncio.ensure_future(others())
    results = await asyncio.gather(*(turns.each(range(64), work) for _ in range(5)))
    ended = True
    await ticking
    assert results == [[item * 2 for item in range(64)]] * 5
    pieces = " ".join(marks).split("round")
    assert max(piece.count("work") for piece in pieces) <= 8


async def test_a_request_of_one_client_begins_before_the_hundreds_of_another() -> None:
    turns = Turns()
    begun: list[str] = []

    async def request(who: str) -> None:
        await turns.begin(who)
        begun.append(who)

    async with asyncio.TaskGroup() as group:
        for _ in range(300):
            group.create_task(request("many"))
        await asyncio.sleep(0)
        group.create_task(request("few"))
    assert len(begun) == 301
    assert begun.index("few") <= 3 * STARTS


async def test_who_gives_up_waiting_for_a_turn_takes_none() -> None:
    turns = Turns()
    waiting = [asyncio.ensure_future(turns.begin("one")) for _ in range(5 * STARTS)]
    await asyncio.sleep(0)
    for one in waiting[STARTS:-1]:
        one.cancel()
    async with asyncio.timeout(5):
        await waiting[-1]
        await turns.begin("another")
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_judgements_that_are_known_before_are_those_that_would_be_made_now() -> None:
    turns = Turns()
    judged = await turns.judged(lambda item: item % 3 == 0, range(5000), enough=10)
    assert [item for item in range(6000) if judged(item)] == list(range(0, 6000, 3))
