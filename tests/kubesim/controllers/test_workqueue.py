"""One look at a time for each key, and none forgotten."""

from __future__ import annotations

import asyncio

import pytest

from kubesim.controllers.workqueue import FIRST_RETRY, WorkQueue, work
from kubewire.errors import Conflict

pytestmark = pytest.mark.anyio

LIMIT = 10.0


async def test_a_key_that_is_added_often_is_looked_at_once() -> None:
    queue = WorkQueue()
    for _ in range(3):
        queue.add("a")
    queue.add("b")
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_that_is_added_while_a_worker_has_it_is_looked_at_again_afterwards() -> None:
    queue = WorkQueue()
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.idle


async def test_no_key_is_in_the_hands_of_two_workers() -> None:
    queue, held, overlaps, looks = WorkQueue(), set[str](), 0, 0
    finished = asyncio.Event()

    async def reconcile(key: str) -> None:
        nonlocal overlaps, looks
        overlaps += key in held
        held.add(key)
        await asyncio.sleep(0)
        if looks < 50:
            queue.add(key)
        await asyncio.sleep(0)
        held.discard(key)
        looks += 1
        if looks >= 50:
            finished.set()

    task = asyncio.create_task(work("test", queue, reconcile, workers=4))
    queue.add("a")
    queue.add("b")
    async with asyncio.timeout(LIMIT):
        await finished.wait()
    task.cancel()
    await asyncio.wait([task])
    assert overlaps == 0


async def test_a_look_that_fails_is_repeated_and_does_not_end_the_others() -> None:
    queue, failures, seen = WorkQueue(), 3, asyncio.Event()
    others: list[str] = []

    async def reconcile(key: str) -> None:
        nonlocal failures
        if key != "bad":
            others.append(key)
            return
        if failures:
            failures -= 1
            raise Conflict(409, "Conflict", "behind", {}, None)
        seen.set()

    task = asyncio.create_task(work("test", queue, reconcile))
    queue.add("bad")
    queue.add("good")
    async with asyncio.timeout(LIMIT):
        await seen.wait()
    task.cancel()
    await asyncio.wait([task])
    assert others == ["good"]


async def test_the_delay_of_a_failing_key_doubles_until_it_succeeds() -> None:
    queue = WorkQueue()
    assert [queue.retry("a") for _ in range(3)] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    queue.forget("a")
    assert queue.retry("a") == FIRST_RETRY
    queue.close()


async def test_of_two_delays_the_earlier_counts() -> None:
    queue = WorkQueue()
    queue.add_after("a", 3600)
    queue.add_after("a", 0.01)
    queue.add_after("a", 3600)
    async with asyncio.timeout(LIMIT):
        assert await queue.get() == "a"
    queue.done("a")
    assert queue.idle
