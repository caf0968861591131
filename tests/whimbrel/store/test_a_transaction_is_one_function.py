"""The writer thread: group commit, isolation of failures, durability, and what it refuses."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, func, insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from whimbrel.model.errors import StoreUnusable
from whimbrel.store import audit, clock
from whimbrel.store.engine import Store
from whimbrel.store.tables import audit as audit_table
from whimbrel.store.tables import servers

pytestmark = pytest.mark.anyio


def add(connection: Connection, subject: str) -> str:
    audit.write(connection, actor="a", action="test", subject=subject, now=1.0)
    return subject


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(audit_table)).scalar_one()


async def test_what_was_answered_is_on_the_disk(store: Store) -> None:
    await store.write(lambda connection: add(connection, "x"))
    with sqlite3.connect(store.path) as other:
        assert other.execute("SELECT subject FROM audit").fetchall() == [("x",)]
    other.close()


async def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from whimbrel.store import audit\n"
        "from whimbrel.store.engine import Store\n"
        "async def main():\n"
        "    store = Store.open(sys.argv[1])\n"
        "    await store.write(lambda c: audit.write(c, actor='a', action='b', subject='c', now=1.0))\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path / "state.db"))
    assert await asyncio.wait_for(process.wait(), 60) == -9
    with Store.open(tmp_path / "state.db") as store:
        assert await store.read(count) == 1


async def test_many_writers_share_commits(store: Store) -> None:
    gate, commits = threading.Event(), []
    event.listen(store._writing, "commit", commits.append)
    first = asyncio.create_task(store.write(lambda _: gate.wait(30)))
    writes = [asyncio.create_task(store.write(lambda c, n=n: add(c, str(n)))) for n in range(50)]
    await asyncio.sleep(0)
    gate.set()
    assert await first
    assert await asyncio.gather(*writes) == [str(n) for n in range(50)]
    assert await store.read(count) == 50
    assert len(commits) <= 3, "fifty callers that wait together cost one or two commits"


async def test_one_failure_rolls_back_itself_and_nothing_of_its_group(store: Store) -> None:
    gate = threading.Event()

    def half(connection: Connection) -> None:
        add(connection, "half")
        raise KeyError("mine")

    first = asyncio.create_task(store.write(lambda _: gate.wait(30)))
    group = [
        asyncio.create_task(store.write(lambda c: add(c, "before"))),
        asyncio.create_task(store.write(half)),
        asyncio.create_task(store.write(lambda c: add(c, "after"))),
    ]
    await asyncio.sleep(0)
    gate.set()
    await first
    results = await asyncio.gather(*group, return_exceptions=True)
    assert results[0] == "before"
    assert isinstance(results[1], KeyError)
    assert results[2] == "after"
    subjects = await store.read(lambda c: sorted(line.subject for line in audit.newest(c)))
    assert subjects == ["after", "before"]


async def test_a_constraint_refuses_and_the_store_goes_on(store: Store) -> None:
    row = {"id": "s", "version": "1", "pid": 1, "started_at": 1.0, "seen_at": 1.0}

    def register(connection: Connection) -> None:
        connection.execute(insert(servers).values(**row))

    await store.write(register)
    with pytest.raises(IntegrityError):
        await store.write(register)
    assert await store.write(lambda c: add(c, "x")) == "x"


async def test_an_error_of_the_database_never_shows_the_values_of_a_row(store: Store) -> None:
    def twice(connection: Connection) -> None:
        for _ in range(2):
            connection.execute(
                insert(servers).values(id="hunter2", version="hunter2", pid=1, started_at=1.0, seen_at=1.0)
            )

    with pytest.raises(IntegrityError) as refused:
        await store.write(twice)
    assert "servers.id" in str(refused.value)
    assert "hunter2" not in str(refused.value)


async def test_when_sqlite_drops_the_transaction_the_whole_group_fails_and_the_store_goes_on(
    store: Store,
) -> None:
    gate = threading.Event()
    first = asyncio.create_task(store.write(lambda _: gate.wait(30)))

    def lost(connection: Connection) -> None:
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute("ROLLBACK")  # what SQLite does by itself when the disk is full
        raise OSError("disk full")

    group = [
        asyncio.create_task(store.write(lambda c: add(c, "before"))),
        asyncio.create_task(store.write(lost)),
        asyncio.create_task(store.write(lambda c: add(c, "after"))),
    ]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, return_exceptions=True)
    results = await asyncio.gather(*group, return_exceptions=True)
    assert all(isinstance(result, OSError) for result in results)
    assert await store.read(count) == 0, "nobody was told that it was stored, and nothing was"
    assert await store.write(lambda c: add(c, "x")) == "x"


async def test_a_wait_that_is_cancelled_before_the_transaction_began_leaves_it_out(store: Store) -> None:
    gate = threading.Event()
    first = asyncio.create_task(store.write(lambda _: gate.wait(30)))
    await asyncio.sleep(0)
    second = asyncio.create_task(store.write(lambda c: add(c, "never")))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await first
    assert await store.read(count) == 0


async def test_nothing_can_be_awaited_inside_a_transaction(store: Store) -> None:
    async def wrong(connection: Connection) -> None:
        await asyncio.sleep(0)

    with pytest.raises(TypeError, match="nothing may be awaited"):
        await store.write(wrong)
    with pytest.raises(TypeError, match="nothing may be awaited"):
        await store.read(wrong)


async def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(OperationalError, match="readonly"):
        await store.read(lambda c: add(c, "x"))
    assert await store.read(count) == 0


async def test_readers_go_on_while_a_transaction_runs(store: Store) -> None:
    gate = threading.Event()
    writing = asyncio.create_task(store.write(lambda c: (add(c, "x"), gate.wait(30))))
    assert await asyncio.wait_for(store.read(count), 10) == 0
    gate.set()
    await writing
    assert await store.read(count) == 1


async def test_the_clock_is_the_databases(store: Store) -> None:
    first = await store.read(lambda c: c.execute(select(clock.now())).scalar_one())
    system = await store.read(lambda c: c.execute(text("SELECT unixepoch('now', 'subsec') * 1.0")).scalar())
    assert system is None or abs(first - system) < 5
    assert isinstance(first, float)


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state.db")
    waiting = [asyncio.create_task(store.write(lambda c, n=n: add(c, str(n)))) for n in range(5)]
    await asyncio.sleep(0)
    store.close()
    store.close()
    assert len(await asyncio.gather(*waiting)) == 5, "what was handed in before is stored"
    with pytest.raises(StoreUnusable, match="closed"):
        await store.write(count)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("whimbrel")]


def test_only_its_user_can_open_the_database(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with Store.open(tmp_path / "home" / "state.db") as store:
            assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
            for beside in store.path.parent.glob("state.db-*"):
                assert stat.S_IMODE(beside.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_the_store_is_cheap_to_open(tmp_path: Path) -> None:
    """Neither the ORM, nor Alembic, nor pydantic belong to the start of the server's database."""
    program = (
        "import sys; from whimbrel.store.engine import Store; Store.open(sys.argv[1]).close();"
        "print([m for m in sys.modules if m in ('alembic', 'sqlalchemy.orm', 'pydantic', 'mako')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "state.db")],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.strip() == b"[]"
