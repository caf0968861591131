"""What one request does wrong, or what the machine does to time, must not cost the other requests anything."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from whimbrel.model.status import RequestState
from whimbrel.requests.engine import Engine, Run
from whimbrel.store import requests
from whimbrel.store.engine import Store
from whimbrel.store.requests import Request
from whimbrel.store.tables import requests as requests_table

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[Engine]]


async def ended(engine: Engine, id: str) -> Request:
    return await asyncio.wait_for(engine.wait(id), 20)


async def test_an_output_that_cannot_be_stored_fails_its_request_and_not_the_server(make: Make) -> None:
    async def odd(run: Run) -> dict[str, Any]:
        run.report("a name that is no text: \udc80")
        return {"left": object()}

    async def even(run: Run) -> None:
        return

    engine = await make(odd=odd, even=even)
    request = await engine.submit("odd", "a", {}, "me")
    failed = await ended(engine, request.id)
    assert failed.state is RequestState.FAILED
    assert failed.error is not None
    assert "api logs" in failed.error["remedy"]
    other = await engine.submit("even", "b", {}, "me")
    assert (await ended(engine, other.id)).state is RequestState.SUCCEEDED


async def test_progress_that_the_database_refused_once_is_told_later(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = asyncio.Event()
    write = store.write

    async def full(fn: Any) -> Any:
        if "Run.flush" in getattr(fn, "__qualname__", "") and not refused.is_set():
            refused.set()
            raise OperationalError("INSERT", None, Exception("database or disk is full"))
        return await write(fn)

    async def launch(run: Run) -> None:
        run.report("the first")
        await refused.wait()
        await run.progress("the second")

    engine = await make(launch=launch)
    monkeypatch.setattr(store, "write", full)
    request = await engine.submit("launch", "s", {}, "me")
    await ended(engine, request.id)
    page = await engine.poll_events(request.id)
    told = [event.data["message"] for event in page.events if event.kind == "progress"]
    assert told == ["the first", "the second"]


async def test_the_last_words_of_a_request_are_stored(make: Make) -> None:
    async def launch(run: Run) -> None:
        run.report("the last words")

    engine = await make(launch=launch)
    for number in range(50):
        request = await engine.submit("launch", f"s{number}", {}, "me")
        await ended(engine, request.id)
        page = await engine.poll_events(request.id)
        assert [event.kind for event in page.events] == ["submitted", "claimed", "progress", "finished"]


async def test_a_machine_that_slept_does_not_take_its_own_work_away_from_itself(
    make: Make, store: Store
) -> None:
    runs: list[int] = []
    go = asyncio.Event()

    async def launch(run: Run) -> None:
        runs.append(run.fence)
        await go.wait()

    engine = await make(launch=launch)
    request = await engine.submit("launch", "s", {}, "me")
    while not runs:
        await engine.poll_events(request.id, 1)
    await store.write(  # what the database's clock says after a night with the lid closed
        lambda connection: (
            connection.execute(
                update(requests_table).values(lease_until=requests_table.c.lease_until - 30_000.0)
            ).rowcount
        )
    )
    await engine._look_for_lost()
    go.set()
    done = await ended(engine, request.id)
    assert (done.state, done.losses, runs) == (RequestState.SUCCEEDED, 0, [1])
    assert await store.read(requests.live) == []
