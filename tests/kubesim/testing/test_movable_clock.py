"""A clock that is moved stops wherever somebody wanted to be woken."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from kubesim import clock
from kubesim.testing import MovableClock

pytestmark = pytest.mark.anyio
START = datetime(2030, 1, 1, tzinfo=UTC)


async def a_few_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_hour_has_sixty_minutes_for_whoever_sleeps_one_at_a_time() -> None:
    moving, woken = MovableClock(START), []

    async def look_each_minute() -> None:
        while True:
            await clock.sleep(60)
            woken.append(clock.now())

    with clock.use(moving):
        looking = asyncio.create_task(look_each_minute())
        await moving.advance(3600.5, a_few_turns)
        looking.cancel()
        moving.close()
    assert len(woken) == 60
    assert timedelta(0) <= woken[0] - (START + timedelta(minutes=1)) < timedelta(seconds=30)


async def test_timers_ring_in_the_order_of_their_times_and_cancelled_ones_never() -> None:
    moving, rung = MovableClock(), []
    for seconds in (30, 10, 20):
        moving.call_later(seconds, rung.append, seconds)
    moving.call_later(15, rung.append, "never").cancel()
    await moving.advance(25, a_few_turns)
    assert rung == [10, 20]
    moving.close()


async def test_real_time_goes_on_as_well() -> None:
    moving, event = MovableClock(), asyncio.Event()
    moving.call_later(0.01, event.set)
    async with asyncio.timeout(10):
        await event.wait()
    moving.close()


async def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="does not go back"):
        await MovableClock().advance(-1, a_few_turns)


async def test_a_wait_ends_with_its_event_or_with_its_time() -> None:
    moving, event = MovableClock(), asyncio.Event()
    with clock.use(moving):
        waiting = asyncio.create_task(clock.wait(event, 100))
        await moving.advance(101, a_few_turns)
        assert await waiting is False
        event.set()
        assert await clock.wait(event, 100) is True
        moving.close()


async def test_each_cluster_of_a_process_has_its_own_time() -> None:
    past, future = MovableClock(START), MovableClock(START + timedelta(days=365))
    with clock.use(past):
        in_the_past = asyncio.create_task(_year())
    with clock.use(future):
        in_the_future = asyncio.create_task(_year())
    assert (await in_the_past, await in_the_future) == (2030, 2031)


async def _year() -> int:
    return clock.now().year
