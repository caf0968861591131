"""The guard: a dead infrastructure costs those who name it, and costs them little."""

from __future__ import annotations

import asyncio
import random

import pytest

from whimbrel.infra.guard import Guard, GuardSettings
from whimbrel.model.errors import Forbidden, InfraError, InfraRefused, Unauthorized, Unreachable

pytestmark = pytest.mark.anyio


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def translated(what: str, error: Exception) -> InfraError:
    """A `Translate`."""
    return Unreachable(f"{what}: {error}", remedy="look at the VPN")


def make(clock: Clock | None = None, **settings: float) -> Guard:
    """A guard without chance."""
    chosen = GuardSettings(jitter=0.0, **settings)  # type: ignore[arg-type] # numbers
    return Guard("k8s/x", translated, chosen, clock=clock or Clock(), chance=random.Random(1))


async def fine() -> str:
    """An answer."""
    return "answer"


async def dead() -> str:
    """No answer."""
    raise OSError("refused")


async def test_an_answer_comes_through() -> None:
    assert await make().call("x", fine, timeout=1) == "answer"


async def test_what_the_client_raises_becomes_ours() -> None:
    with pytest.raises(Unreachable, match="x: refused"):
        await make().call("x", dead, timeout=1)


async def test_a_silent_infrastructure_costs_the_deadline() -> None:
    guard = make()
    with pytest.raises(Unreachable, match=r"did not answer within 0\.05 s \(listing\)"):
        await guard.call("listing", asyncio.Event().wait, timeout=0.05)
    assert guard.view.state == "open"


async def test_the_second_caller_learns_at_once_and_is_told_what_to_do() -> None:
    clock = Clock()
    guard = make(clock)
    called = []

    async def count() -> None:
        called.append(1)
        clock.now += 3
        raise OSError("refused")

    with pytest.raises(Unreachable):
        await guard.call("x", count, timeout=5)
    clock.now += 1
    with pytest.raises(Unreachable) as caught:
        await guard.call("y", count, timeout=5)
    assert called == [1]
    assert "seen 1 s ago" in caught.value.message
    assert "will be tried again in 2 s" in caught.value.message
    assert caught.value.remedy == "look at the VPN"
    assert caught.value.details["breaker"] == "open"


async def test_it_stays_open_as_long_as_the_call_took_and_twice_as_long_each_time() -> None:
    clock = Clock()
    guard = make(clock, longest_break=20)

    async def slow() -> None:
        clock.now += 3
        raise OSError("timeout")

    breaks = []
    for _ in range(4):
        with pytest.raises(Unreachable):
            await guard.call("x", slow, timeout=5)
        wait = guard.view.retry_in
        assert wait is not None
        breaks.append(wait)
        clock.now += wait
    assert breaks == [3, 6, 12, 20]


async def half_open(guard: Guard, clock: Clock) -> None:
    """A guard that has failed once and would let one call through."""
    with pytest.raises(Unreachable):
        await guard.call("x", dead, timeout=5)
    clock.now += 1
    assert guard.view.state == "half-open"


async def test_after_the_break_one_caller_tries_and_the_others_go_on_when_it_was_answered() -> None:
    clock = Clock()
    guard = make(clock)
    await half_open(guard, clock)
    release, called = asyncio.Event(), []

    async def probe() -> str:
        called.append(1)
        await release.wait()
        return "alive"

    calls = [asyncio.create_task(guard.call("side by side", probe, timeout=5)) for _ in range(5)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert called == [1], "one call tries again, the others wait for what it learns"
    release.set()
    assert await asyncio.gather(*calls) == ["alive"] * 5
    assert guard.view.state == "closed"


async def test_while_one_tries_again_in_vain_the_others_wait_a_moment_and_no_longer() -> None:
    clock = Clock()
    guard = make(clock, follow=0.05)
    await half_open(guard, clock)
    probing = asyncio.create_task(guard.call("probe", asyncio.Event().wait, timeout=5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(Unreachable, match="is being tried again now"):
        await guard.call("x", fine, timeout=5)
    assert guard.view.spared == 1
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)


async def test_an_open_breaker_is_told_before_a_slot_is_waited_for() -> None:
    guard = make(calls=1)
    stuck = asyncio.create_task(guard.call("hangs", asyncio.Event().wait, timeout=5))
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        with pytest.raises(Unreachable):
            async with guard.opening("exec"):
                raise OSError("refused")
        with pytest.raises(Unreachable, match="seen 0 s ago"):
            await guard.call("x", fine, timeout=5)
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)


async def test_what_was_on_its_way_over_the_old_way_counts_no_more_after_a_reset() -> None:
    clock = Clock()
    guard = make(clock)
    release = asyncio.Event()

    async def old() -> str:
        await release.wait()
        return "from the old cluster"

    async def new() -> str:
        return "from the new cluster"

    first = asyncio.create_task(guard.cached("k", "x", old, timeout=5, fresh=10, stale=100))
    failing = asyncio.create_task(guard.call("x", lambda: _after(release), timeout=5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.now += 1
    guard.reset()
    second = await guard.cached("k", "x", new, timeout=5, fresh=10, stale=100)
    release.set()
    await asyncio.gather(first, failing, return_exceptions=True)
    third = await guard.cached("k", "x", new, timeout=5, fresh=10, stale=100)
    assert (second.value, third.value) == ("from the new cluster", "from the new cluster")
    assert guard.view.state == "closed"


async def _after(event: asyncio.Event) -> None:
    await event.wait()
    raise OSError("reset")


async def test_a_probe_that_is_cancelled_lets_the_next_one_try() -> None:
    clock = Clock()
    guard = make(clock)
    with pytest.raises(Unreachable):
        await guard.call("x", dead, timeout=5)
    clock.now += 1
    probing = asyncio.create_task(guard.call("probe", asyncio.Event().wait, timeout=5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    assert await guard.call("x", fine, timeout=5) == "answer"


async def test_calls_that_failed_together_count_once() -> None:
    clock = Clock()
    guard = make(clock)
    release = asyncio.Event()

    async def die() -> None:
        await release.wait()
        raise OSError("reset")

    calls = [asyncio.create_task(guard.call("x", die, timeout=5)) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.now += 2
    release.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert guard.view.retry_in == 2


@pytest.mark.parametrize("error", [Forbidden(), InfraRefused(), Unauthorized()])
async def test_an_answer_that_refuses_does_not_open_it(error: InfraError) -> None:
    guard = make()

    async def refuse() -> None:
        raise error

    with pytest.raises(type(error)):
        await guard.call("x", refuse, timeout=1)
    assert guard.view.state == "closed"


async def test_a_credential_plugin_that_hangs_opens_it() -> None:
    clock = Clock()
    guard = make(clock)

    async def hang() -> None:
        clock.now += 10
        raise Unauthorized("the plugin did not end")

    with pytest.raises(Unauthorized):
        await guard.call("x", hang, timeout=20)
    assert guard.view.state == "open"
    with pytest.raises(Unauthorized):
        await guard.call("x", fine, timeout=20)


async def test_waiting_for_a_slot_is_inside_the_deadline_and_proves_nothing() -> None:
    guard = make(calls=1)
    release = asyncio.Event()
    first = asyncio.create_task(guard.call("slow", release.wait, timeout=10))
    await asyncio.sleep(0)
    with pytest.raises(Unreachable, match="is busy"):
        await guard.call("x", fine, timeout=0.05)
    assert guard.view.state == "closed"
    release.set()
    await first


async def test_two_guards_share_nothing() -> None:
    one, other = make(calls=1), make(calls=1)
    blocked = asyncio.create_task(one.call("x", asyncio.Event().wait, timeout=0.2))
    await asyncio.sleep(0)
    assert await other.call("x", fine, timeout=0.1) == "answer"
    await asyncio.gather(blocked, return_exceptions=True)
    assert other.view.state == "closed"


async def test_a_fresh_answer_is_served_from_the_cache() -> None:
    clock = Clock()
    guard = make(clock)
    asked = []

    async def count() -> int:
        asked.append(1)
        return len(asked)

    first = await guard.cached("k", "x", count, timeout=1, fresh=10, stale=100)
    clock.now += 5
    second = await guard.cached("k", "x", count, timeout=1, fresh=10, stale=100)
    assert (first.value, first.age, second.value, second.age) == (1, 0, 1, 5)


async def test_an_old_answer_is_served_with_its_age_while_it_is_asked_for_anew() -> None:
    clock = Clock()
    guard = make(clock)
    asked = []

    async def count() -> int:
        asked.append(1)
        return len(asked)

    await guard.cached("k", "x", count, timeout=1, fresh=10, stale=100)
    clock.now += 50
    old = await guard.cached("k", "x", count, timeout=1, fresh=10, stale=100)
    assert (old.value, old.age) == (1, 50)
    for _ in range(5):
        await asyncio.sleep(0)
    new = await guard.cached("k", "x", count, timeout=1, fresh=10, stale=100)
    assert (new.value, new.age) == (2, 0)


async def test_many_who_ask_for_the_same_cost_one_call() -> None:
    guard = make()
    asked = []

    async def count() -> int:
        asked.append(1)
        await asyncio.sleep(0)
        return len(asked)

    answers = await asyncio.gather(
        *(guard.cached("k", "x", count, timeout=1, fresh=10, stale=100) for _ in range(20))
    )
    assert [answer.value for answer in answers] == [1] * 20


async def test_a_failed_question_fails_those_who_have_no_older_answer() -> None:
    guard = make()
    with pytest.raises(Unreachable):
        await guard.cached("k", "x", dead, timeout=1, fresh=1, stale=10)
    await guard.aclose()


async def test_streams_have_a_limit_of_their_own() -> None:
    guard = make(streams=1, calls=1)
    async with guard.stream("a"):
        assert await guard.call("x", fine, timeout=1) == "answer"
        with pytest.raises(Unreachable, match="open streams already"):
            async with guard.stream("b"):
                raise AssertionError


async def test_opening_a_stream_counts_for_the_breaker() -> None:
    guard = make()
    with pytest.raises(Unreachable):
        async with guard.opening("exec"):
            raise OSError("refused")
    with pytest.raises(Unreachable, match="seen 0 s ago"):
        async with guard.opening("exec"):
            raise AssertionError


async def test_who_has_patience_gets_an_older_answer_with_the_reason_why_it_is_no_newer_one() -> None:
    clock = Clock()
    guard = make(clock)
    await guard.cached("k", "x", fine, timeout=1, fresh=1, stale=10)
    clock.now += 5000
    old = await guard.cached("k", "x", dead, timeout=1, fresh=1, stale=10, patience=1)
    assert (old.value, old.age) == ("answer", 5000)
    assert old.error
    assert "refused" in old.error.message


async def test_patience_ends_and_the_question_goes_on_behind_it() -> None:
    guard = make(Clock())
    release = asyncio.Event()

    async def slow() -> str:
        await release.wait()
        return "late"

    with pytest.raises(Unreachable, match=r"within 0\.02 s"):
        await guard.cached("k", "x", slow, timeout=5, fresh=1, stale=10, patience=0.02)
    release.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (await guard.cached("k", "x", dead, timeout=5, fresh=1, stale=10)).value == "late"


async def test_the_view_counts_what_was_asked_answered_missed_and_spared() -> None:
    guard = make(Clock())
    await guard.call("x", fine, timeout=1)
    for _ in range(3):
        with pytest.raises(Unreachable):
            await guard.call("x", dead, timeout=1)
    view = guard.view
    assert (view.calls, view.answered, view.failed, view.spared) == (0, 1, 1, 2)
    wire = view.to_wire()
    assert wire["breaker"] == "open"
    assert "refused" in wire["reason"]


async def test_a_watch_that_goes_on_is_not_what_others_wait_for() -> None:
    clock = Clock()
    guard = make(clock)
    await half_open(guard, clock)
    async with guard.following("watch"):
        assert await guard.call("x", fine, timeout=1) == "answer"
    with pytest.raises(Unreachable):
        async with guard.following("watch"):
            raise OSError("reset")
    assert guard.view.state == "open"
