"""The engine as routes and operations see it, on a real store, in one process."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from whimbrel.model.errors import Conflict, InvalidTask, NotFound, OutOfCapacity
from whimbrel.model.status import RequestState
from whimbrel.requests import run as run_module
from whimbrel.requests.engine import WORKERS, Engine, Event, Run, Stop
from whimbrel.store import requests, steps, things
from whimbrel.store.engine import Store
from whimbrel.store.tables import requests as requests_table

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Engine]]


@dataclass(frozen=True)
class Thing:
    """What a step is about to create."""

    token: str
    kind: str = "Pod"
    name: str = "n"
    namespace: str = "default"
    labels: dict[str, str] = field(default_factory=dict)


async def ended(engine: Engine, id: str) -> requests.Request:
    return await asyncio.wait_for(engine.wait(id), 20)


async def nothing_runs(engine: Engine) -> None:
    await asyncio.wait_for(engine._idle.wait(), 20)


async def all_events(engine: Engine, id: str, after: int = 0) -> list[Event]:
    async with asyncio.timeout(20):
        return [event async for event in engine.events(id, after)]


async def test_a_request_runs_and_gives_its_output(make: Make) -> None:
    async def launch(run: Run) -> dict[str, Any]:
        return {"said": run.body["say"], "by": run.actor}

    engine = await make(launch=launch)
    accepted = await engine.submit("launch", "cluster:x", {"say": "hi"}, "me", str(uuid.uuid4()))
    assert accepted.state is RequestState.QUEUED
    done = await ended(engine, accepted.id)
    assert (done.state, done.output) == (RequestState.SUCCEEDED, {"said": "hi", "by": "me"})
    assert [event.kind for event in await all_events(engine, done.id)] == ["submitted", "claimed", "finished"]


async def test_the_same_key_is_the_same_request_and_another_content_a_conflict(make: Make) -> None:
    runs = []

    async def launch(run: Run) -> None:
        runs.append(run.id)

    engine = await make(launch=launch)
    key = str(uuid.uuid4())
    first = await asyncio.gather(*(engine.submit("launch", "s", {"a": 1}, "me", key) for _ in range(5)))
    assert {request.id for request in first} == {key}
    await ended(engine, key)
    again = await engine.submit("launch", "s", {"a": 1}, "me", key.upper())
    assert again.state is RequestState.SUCCEEDED
    assert runs == [key]
    for other in (
        ("down", "s", {"a": 1}, "me"),
        ("launch", "s", {"a": 2}, "me"),
        ("launch", "s", {"a": 1}, "you"),
    ):
        with pytest.raises(Conflict):
            await engine.submit(*other, key)
    with pytest.raises(InvalidTask, match="must be a UUID"):
        await engine.submit("launch", "s", {}, "me", "../../etc/passwd")


async def test_requests_of_one_subject_run_in_order_and_others_beside_them(make: Make) -> None:
    order, gates = [], {name: asyncio.Event() for name in ("x", "y")}

    async def launch(run: Run) -> None:
        subject = run.request.subject
        order.append((subject, run.body["n"]))
        await asyncio.wait_for(gates[subject].wait(), 20)

    engine = await make(launch=launch)
    x = [await engine.submit("launch", "x", {"n": n}, "me") for n in range(3)]
    y = await engine.submit("launch", "y", {"n": 0}, "me")
    while len(order) < 2:
        await asyncio.wait_for(engine.poll_events(y.id, 1), 10)
        await asyncio.sleep(0)
    assert sorted(order) == [("x", 0), ("y", 0)], "the second of x waits, y does not"
    gates["x"].set()
    gates["y"].set()
    for request in (*x, y):
        assert (await ended(engine, request.id)).state is RequestState.SUCCEEDED
    assert [n for subject, n in order if subject == "x"] == [0, 1, 2]


async def test_no_more_than_so_many_run_at_once(make: Make) -> None:
    running, most = set(), []

    async def launch(run: Run) -> None:
        running.add(run.id)
        most.append(len(running))
        await run.progress("working")
        running.discard(run.id)

    engine = await make(launch=launch, _workers=3)
    accepted = [await engine.submit("launch", f"s{n}", {}, "me") for n in range(12)]
    for request in accepted:
        await ended(engine, request.id)
    assert max(most) <= 3


async def test_hundreds_of_requests_that_wait_keep_nobody_else_waiting(make: Make) -> None:
    waiting, answer = asyncio.Event(), asyncio.Event()
    begun = 0

    async def launch(run: Run) -> None:
        nonlocal begun
        begun += 1
        if begun == 100:
            waiting.set()
        await answer.wait()

    async def exec_(run: Run) -> None:
        assert not answer.is_set()

    engine = await make(launch=launch, exec=exec_, _workers=WORKERS)
    stuck = [(await engine.submit("launch", f"s{n}", {}, "me")).id for n in range(100)]
    async with asyncio.timeout(30):
        await waiting.wait()
    other = await ended(engine, (await engine.submit("exec", "another", {}, "me")).id)
    assert other.state is RequestState.SUCCEEDED
    assert len(engine.running) == 100
    answer.set()
    for id in stuck:
        await ended(engine, id)


async def test_an_intent_and_its_ledger_rows_are_stored_before_the_action(make: Make, store: Store) -> None:
    token = "k8s/x/Pod/default/n/uid"
    seen: list[tuple[str, str]] = []

    async def launch(run: Run) -> dict[str, Any]:
        async def create() -> dict[str, Any]:
            step = await store.read(lambda c: steps.find(c, run.id, "create"))
            (entry,) = await store.read(things.left)
            assert step is not None
            seen.append((step.state, entry.state))
            return {"ip": "10.0.0.1"}

        return await run.step("create", create, deadline=5, things=[Thing(token)])

    engine = await make(launch=launch)
    done = await ended(engine, (await engine.submit("launch", "s", {}, "me")).id)
    assert seen == [("intended", "intended")]
    assert done.output == {"ip": "10.0.0.1"}
    (entry,) = await store.read(things.left)
    assert (entry.state, entry.request) == ("exists", done.id)


async def test_a_successor_reads_the_output_of_a_step_instead_of_doing_it_again(
    make: Make, store: Store
) -> None:
    done, reached, gate = [], asyncio.Event(), asyncio.Event()

    async def launch(run: Run) -> dict[str, Any]:
        async def create() -> dict[str, Any]:
            done.append("create")
            return {"n": len(done)}

        async def setup() -> dict[str, Any]:
            done.append("setup")
            reached.set()
            await asyncio.wait_for(gate.wait(), 20)
            return {}

        first = await run.step("create", create, deadline=5)
        await run.step("setup", setup, deadline=30)
        return first

    old = await make(launch=launch, _id="old")
    request = await old.submit("launch", "s", {}, "me")
    await asyncio.wait_for(reached.wait(), 20)
    await old.drain("deploy")
    handed = await old.get(request.id)
    assert (handed.state, handed.losses, handed.failures) == (RequestState.QUEUED, 0, 0), (
        "a deploy is not a failure"
    )
    gate.set()
    new = await make(launch=launch, _id="new")
    finished = await ended(new, request.id)
    assert finished.output == {"n": 1}
    assert done == ["create", "setup", "setup"]
    kinds = [(event.kind, event.actor) for event in await all_events(new, request.id)]
    assert ("requeued", "old") in kinds
    assert kinds[-1] == ("finished", "new")


async def test_short_work_may_finish_while_the_server_drains(make: Make) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    async def launch(run: Run) -> dict[str, Any]:
        started.set()
        await asyncio.wait_for(gate.wait(), 20)
        return {"done": True}

    engine = await make(launch=launch)
    request = await engine.submit("launch", "s", {}, "me")
    await asyncio.wait_for(started.wait(), 20)
    draining = asyncio.create_task(engine.drain(grace=15))
    await asyncio.wait_for(engine._draining.wait(), 20)
    gate.set()
    await asyncio.wait_for(draining, 20)
    assert (await engine.get(request.id)).state is RequestState.SUCCEEDED
    later = await engine.submit("launch", "s", {}, "me")
    assert (await engine.poll_events(later.id, 1, timeout=0.2)).request.state is RequestState.QUEUED, (
        "it claims no more"
    )


async def test_a_failure_that_a_user_can_read_is_final_and_said_as_it_is(make: Make) -> None:
    async def launch(run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(one())
            group.create_task(asyncio.sleep(30))

    async def one() -> None:
        raise OutOfCapacity("No node has 64 CPUs.", remedy="Ask for less.", details={"most": 4})

    engine = await make(launch=launch)
    done = await ended(engine, (await engine.submit("launch", "s", {}, "me")).id)
    assert done.state is RequestState.FAILED
    assert done.error == {
        "code": "OutOfCapacity",
        "message": "No node has 64 CPUs.",
        "remedy": "Ask for less.",
        "details": {"most": 4},
    }


async def test_a_bug_fails_the_request_and_not_the_server(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def launch(run: Run) -> None:
        raise ZeroDivisionError("oops")

    async def down(run: Run) -> dict[str, Any]:
        return {}

    engine = await make(launch=launch, down=down)
    with caplog.at_level(logging.ERROR):
        done = await ended(engine, (await engine.submit("launch", "s", {}, "me")).id)
    assert done.error is not None
    assert "(ZeroDivisionError)" in done.error["message"]
    assert "oops" not in done.error["message"], "the text of an error may hold what the user sent"
    assert "ZeroDivisionError: oops" in caplog.text
    after = await ended(engine, (await engine.submit("down", "s", {}, "me")).id)
    assert after.state is RequestState.SUCCEEDED


async def test_a_fault_of_the_database_puts_a_request_off_and_does_not_fail_it(make: Make) -> None:
    attempts = []

    async def launch(run: Run) -> None:
        attempts.append(run.request.failures)
        if len(attempts) == 1:
            raise OperationalError("INSERT", {}, Exception("database is locked"))

    engine = await make(launch=launch)
    done = await ended(engine, (await engine.submit("launch", "s", {}, "me")).id)
    assert (done.state, attempts, done.failures, done.losses) == (RequestState.SUCCEEDED, [0, 1], 1, 0)


async def test_a_step_that_takes_too_long_fails_with_its_name(make: Make) -> None:
    async def launch(run: Run) -> None:
        await run.step("wait for pods", lambda: asyncio.sleep(30), deadline=0.05)

    engine = await make(launch=launch)
    done = await ended(engine, (await engine.submit("launch", "s", {}, "me")).id)
    assert done.error is not None
    assert done.error["code"] == "DeadlineExceeded"
    assert done.error["message"] == "The step 'wait for pods' was not done within 0.05 s."


async def test_a_timeout_of_the_actions_own_is_not_taken_for_the_deadline(make: Make) -> None:
    async def launch(run: Run) -> None:
        async def action() -> None:
            raise TimeoutError("theirs")

        await run.step("call", action, deadline=5)

    engine = await make(launch=launch)
    done = await ended(engine, (await engine.submit("launch", "s", {}, "me")).id)
    assert done.error is not None
    assert "(TimeoutError)" in done.error["message"]


async def test_a_stuck_operation_loses_its_lease_in_bounded_time_and_another_server_takes_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5: the task below ignores cancellation, as a blocked thread does."""
    monkeypatch.setattr(run_module, "CLEANUP", 0.1)
    release, stuck, late = asyncio.Event(), asyncio.Event(), []

    async def hang(run: Run) -> None:
        async def action() -> None:
            while not release.is_set():
                stuck.set()
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        try:
            await run.step("call", action, deadline=0.1)
        finally:
            try:
                await run.log("late")
            except Exception as error:
                late.append(type(error).__name__)
                raise

    async def fine(run: Run) -> dict[str, Any]:
        return {"by": run.server_id}

    first = await make(launch=hang, _lease=0.6, _id="first")
    request = await first.submit("launch", "s", {}, "me")
    await asyncio.wait_for(stuck.wait(), 20)
    first._draining.set()  # it must not take it up again itself
    second = await make(launch=fine, _lease=0.6, _id="second")
    done = await ended(second, request.id)
    assert (done.output, done.losses) == ({"by": "second"}, 1)
    release.set()
    await nothing_runs(first)
    assert late == ["LostLease"]
    assert (await second.get(request.id)) == done
    assert [
        event.data.get("text") for event in await all_events(second, request.id) if event.kind == "log"
    ] == []


async def test_waiting_requests_are_cancelled_at_once(make: Make) -> None:
    gate, ran = asyncio.Event(), []

    async def launch(run: Run) -> None:
        ran.append(run.id)
        await asyncio.wait_for(gate.wait(), 20)

    engine = await make(launch=launch)
    first = await engine.submit("launch", "s", {}, "me")
    second = await engine.submit("launch", "s", {"secrets": {"T": "x"}}, "me")
    cancelled = await engine.cancel(second.id, actor="me", reason="changed my mind")
    assert (cancelled.state, cancelled.cancel_reason) == (RequestState.CANCELLED, "changed my mind")
    assert cancelled.body == {"secrets": {"T": "<redacted>"}}
    gate.set()
    await ended(engine, first.id)
    assert ran == [first.id]
    assert (await engine.cancel(first.id, actor="me")).state is RequestState.SUCCEEDED, "what is done is done"
    with pytest.raises(NotFound):
        await engine.cancel(str(uuid.uuid4()), actor="me")


async def test_a_running_request_is_cancelled_with_its_reason_and_may_clean_up(make: Make) -> None:
    started, seen = asyncio.Event(), []

    async def launch(run: Run) -> None:
        started.set()
        try:
            await run.step("wait", lambda: asyncio.sleep(30), deadline=60)
        except asyncio.CancelledError:
            seen.append((run.cancelled, run.cancel_reason))
            await run.log("cleaned up")
            raise

    engine = await make(launch=launch)
    request = await engine.submit("launch", "s", {}, "me")
    await asyncio.wait_for(started.wait(), 20)
    await engine.cancel(request.id, actor="me", reason="too slow")
    done = await ended(engine, request.id)
    assert seen == [(Stop.USER, "too slow")]
    assert done.state is RequestState.CANCELLED
    assert done.error == {"code": "Cancelled", "message": "The request was cancelled: too slow."}
    kinds = [event.kind for event in await all_events(engine, request.id)]
    assert kinds[-3:] == ["cancel_requested", "log", "finished"]


async def test_a_cancel_reaches_the_owner_from_another_server(make: Make) -> None:
    started = asyncio.Event()

    async def launch(run: Run) -> None:
        started.set()
        await run.step("wait", lambda: asyncio.sleep(30), deadline=60)

    owner = await make(launch=launch, _lease=0.3)
    other = await make(_lease=0.3)
    request = await owner.submit("launch", "s", {}, "me")
    await asyncio.wait_for(started.wait(), 20)
    await other.cancel(request.id, actor="me")
    assert (await ended(other, request.id)).state is RequestState.CANCELLED


async def test_a_lease_is_renewed_for_as_long_as_the_work_takes(make: Make) -> None:
    async def launch(run: Run) -> None:
        await run.step("long", lambda: asyncio.sleep(1.2), deadline=30)

    one = await make(launch=launch, _lease=0.4, _id="one")
    await make(launch=launch, _lease=0.4, _id="two")
    done = await ended(one, (await one.submit("launch", "s", {}, "me")).id)
    assert (done.state, done.losses, done.fence) == (RequestState.SUCCEEDED, 0, 1)


async def test_the_only_server_takes_over_at_once_what_a_dead_one_left(make: Make, store: Store) -> None:
    async def launch(run: Run) -> dict[str, Any]:
        return {"by": run.server_id}

    dead = Engine(store, {}, "dead")
    request = await dead.submit("launch", "s", {}, "me")

    def die_in_the_middle(connection: Any) -> None:
        connection.execute(
            update(requests_table).values(state="running", owner="dead", fence=1, lease_until=9e12)
        )

    await store.write(die_in_the_middle)
    engine = await make(launch=launch, _alone=True, _id="alive")
    done = await ended(engine, request.id)
    assert (done.output, done.losses, done.fence) == ({"by": "alive"}, 1, 2)


async def test_a_server_claims_only_kinds_that_it_knows(make: Make) -> None:
    async def launch(run: Run) -> None:
        return None

    old = await make(launch=launch)
    future = await old.submit("serve.up", "s", {}, "me")
    known = await old.submit("launch", "t", {}, "me")
    await ended(old, known.id)
    assert (await old.get(future.id)).state is RequestState.QUEUED
    new = await make(**{"serve.up": launch})
    assert (await ended(new, future.id)).state is RequestState.SUCCEEDED


async def test_events_can_be_followed_from_any_number_and_none_is_missed(make: Make) -> None:
    halfway, gate = asyncio.Event(), asyncio.Event()

    async def launch(run: Run) -> None:
        for n in range(20):
            run.report(f"report {n}", percent=n)
            if n == 10:
                halfway.set()
                await asyncio.wait_for(gate.wait(), 20)
        await run.log("x" * (run_module.LARGEST_TEXT + 1))
        await run.progress("last")

    engine = await make(launch=launch)
    request = await engine.submit("launch", "s", {}, "me")
    await asyncio.wait_for(halfway.wait(), 20)
    first: list[Event] = []
    while (
        len(first) < 13
    ):  # submitted, claimed, and the eleven reports: stored without any further call of the operation
        page = await engine.poll_events(request.id, first[-1].idx if first else 0, timeout=5)
        assert page.events, "a report is stored although the operation waits"
        assert not page.complete
        first += page.events
    gate.set()
    rest = await all_events(engine, request.id, after=first[-1].idx)
    everything = await all_events(engine, request.id)
    assert first + rest == everything
    assert [event.idx for event in everything] == list(range(1, len(everything) + 1))
    messages = [event.data["message"] for event in everything if event.kind == "progress"]
    assert messages == [f"report {n}" for n in range(20)] + ["last"]
    assert [len(event.data["text"]) for event in everything if event.kind == "log"] == [
        run_module.LARGEST_TEXT,
        1,
    ]


async def test_a_poll_without_news_comes_back_after_its_time(make: Make) -> None:
    engine = await make()
    request = await engine.submit("unknown", "s", {}, "me")
    page = await engine.poll_events(request.id, 1, timeout=0.05)
    assert (page.events, page.complete) == ([], False)
    with pytest.raises(NotFound):
        await engine.poll_events(str(uuid.uuid4()))


async def test_a_write_of_an_operation_is_fenced(make: Make, store: Store) -> None:
    taken = asyncio.Event()

    async def launch(run: Run) -> None:
        def steal(connection: Any) -> None:
            connection.execute(update(requests_table).where(requests_table.c.id == run.id).values(fence=99))

        assert await run.write(lambda c: requests.get(c, run.id).state) is RequestState.RUNNING
        await store.write(steal)
        taken.set()
        await run.write(
            lambda c: things.intend(c, [Thing("a/b/c/d/e")], subject="s", request=run.id, now=run.now())
        )

    engine = await make(launch=launch)
    request = await engine.submit("launch", "s", {}, "me")
    await asyncio.wait_for(taken.wait(), 20)
    await nothing_runs(engine)
    assert await store.read(things.left) == []
    assert (await engine.get(request.id)).state is RequestState.RUNNING, "the outcome was not written either"


async def test_an_engine_leaves_no_task_behind(make: Make) -> None:
    before = asyncio.all_tasks()

    async def launch(run: Run) -> None:
        await run.step("wait", lambda: asyncio.sleep(30), deadline=60)

    engine = await make(launch=launch)
    request = await engine.submit("launch", "s", {}, "me")
    page = await engine.poll_events(request.id, 2, timeout=10)
    assert page.events[0].kind == "step"
    await asyncio.wait_for(engine.stop(), 10)
    await engine.stop()
    assert asyncio.all_tasks() == before
    assert (await engine.get(request.id)).state is RequestState.QUEUED


async def test_an_engine_whose_loop_fails_says_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await make()

    def broken(connection: Any) -> None:
        raise RuntimeError("a bug in the claim")

    monkeypatch.setattr(engine, "_claim", broken)
    engine.wake()
    with pytest.raises(ExceptionGroup) as failed:
        await asyncio.wait_for(engine.join(), 10)
    assert isinstance(failed.value.exceptions[0], RuntimeError)
    with pytest.raises(ExceptionGroup):
        await engine.stop()
