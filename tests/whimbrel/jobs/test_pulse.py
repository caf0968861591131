"""A change between looking and waiting is never missed."""

import asyncio
import gc

import pytest

from whimbrel.jobs.pulse import Pulse, Pulses, wait_any

pytestmark = pytest.mark.anyio


async def test_what_was_taken_before_a_change_is_set_by_it_and_what_is_taken_after_waits_for_the_next() -> (
    None
):
    pulse = Pulse()
    before = pulse.next()
    pulse.ring()
    assert before.is_set()
    assert not pulse.next().is_set()


async def test_topics_do_not_wake_each_other() -> None:
    pulses = Pulses()
    one, two = pulses.next("one"), pulses.next("two")
    assert pulses.next("one") is one
    pulses.ring("one")
    pulses.ring("nobody waits for this")
    assert (one.is_set(), two.is_set()) == (True, False)
    assert not pulses.next("one").is_set()


async def test_nothing_is_kept_of_topics_that_nobody_waits_for() -> None:
    pulses = Pulses()
    waiting = pulses.next("somebody")
    for number in range(100):
        pulses.next(f"a look at log {number}")
        pulses.ring(f"log {number}")
    gc.collect()
    assert len(pulses) == 1
    assert not waiting.is_set()


async def test_waiting_ends_with_the_first_event_or_with_the_time() -> None:
    never, soon = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().call_soon(soon.set)
    assert await wait_any(10, never, soon)
    assert not await wait_any(0.001, never)
    assert await wait_any(10, soon)
