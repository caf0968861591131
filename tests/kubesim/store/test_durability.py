"""What a durable store promises beyond a store: acknowledged is on disk, and damage is found when it is
opened."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kubesim.store import (
    ChangeType,
    Compacted,
    CorruptStore,
    HistoryLimits,
    StorageFailed,
    StoreInUse,
    open_store,
    verify,
)
from kubesim.store.database import DATABASE, MARKER

pytestmark = pytest.mark.anyio

PODS = "/pods"


def body(revision: int) -> bytes:
    return b"rev %d" % revision


async def write_something(directory: Path) -> None:
    store = open_store("durable", directory)
    for name in "abc":
        await store.create(PODS, f"ns/{name}", body)
    await store.update(PODS, "ns/a", 1, body)
    await store.delete(PODS, "ns/b", 2, body)
    await store.close()


async def test_a_store_that_is_opened_again_is_as_it_was(tmp_path: Path) -> None:
    await write_something(tmp_path)
    store = open_store("durable", tmp_path)
    assert store.revision == 5
    assert [(s.name, s.data, s.created) for s in store.table(PODS).all()] == [
        ("ns/a", b"rev 4", 1),
        ("ns/c", b"rev 3", 3),
    ]
    assert (await store.create(PODS, "ns/d", body)).revision == 6
    await store.close()


async def test_watches_resume_over_a_restart(tmp_path: Path) -> None:
    await write_something(tmp_path)
    store = open_store("durable", tmp_path)
    changes = store.table(PODS).changes(2)
    assert [(c.type, c.stored.name) for c in changes] == [
        (ChangeType.ADDED, "ns/c"),
        (ChangeType.MODIFIED, "ns/a"),
        (ChangeType.DELETED, "ns/b"),
    ]
    assert changes[2].previous is not None
    await store.close()


async def test_revisions_go_on_even_when_the_last_write_was_a_deletion_that_is_compacted(
    tmp_path: Path,
) -> None:
    store = open_store("durable", tmp_path, limits=HistoryLimits(changes=1))
    for number in range(1200):
        created = await store.create(PODS, f"ns/{number}", body)
        await store.delete(PODS, f"ns/{number}", created.revision, body)
    revision = store.revision
    await store.close()
    store = open_store("durable", tmp_path)
    assert store.revision == revision
    assert list(store.table(PODS).all()) == []
    await store.close()


async def test_compaction_leaves_the_objects_and_says_which_history_is_gone(tmp_path: Path) -> None:
    store = open_store("durable", tmp_path, limits=HistoryLimits(changes=10))
    current = await store.create(PODS, "ns/a", body)
    await store.create(PODS, "ns/old", body)
    for _ in range(1500):
        current = await store.update(PODS, "ns/a", current.revision, body)
    await store.close()
    rows = sqlite3.connect(tmp_path / DATABASE)
    assert rows.execute("SELECT count(*) FROM log").fetchone()[0] < 600
    rows.close()

    store = open_store("durable", tmp_path)
    assert {s.name: s.revision for s in store.table(PODS).all()} == {"ns/a": 1502, "ns/old": 2}
    with pytest.raises(Compacted):
        store.table(PODS).changes(2)
    assert store.table(PODS).changes(store.revision - 3)[0].revision == store.revision - 2
    await store.close()


_WRITER = """
import asyncio, sys
from pathlib import Path
from kubesim.store import open_store

async def main():
    store = open_store("durable", Path(sys.argv[1]))
    async def writer(w):
        n = 0
        while True:
            stored = await store.create("/pods", f"ns/{sys.argv[2]}-{w}-{n}", lambda r: b"%d" % r)
            print(f"{stored.name} {stored.revision}", flush=True)
            n += 1
    await asyncio.gather(*(writer(w) for w in range(8)))

asyncio.run(main())
"""


async def test_after_kill_9_nothing_that_was_acknowledged_is_missing(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    newest = 0
    for life in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WRITER, str(tmp_path), str(life), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        acknowledged.clear()
        async with asyncio.timeout(60):
            for _ in range(300):
                name, revision = (await process.stdout.readline()).decode().split()
                acknowledged[name] = int(revision)
            process.send_signal(signal.SIGKILL)
            for line in (await process.stdout.read()).decode().splitlines():
                if len(parts := line.split()) == 2:
                    acknowledged[parts[0]] = int(parts[1])
            await process.wait()
        store = open_store("durable", tmp_path)
        found = {s.name: s.revision for s in store.table(PODS).all()}
        assert acknowledged.items() <= found.items()
        assert min(acknowledged.values()) > newest
        newest = max(acknowledged.values())
        assert store.revision >= newest
        newest = (await store.create(PODS, f"ns/next-{life}", body)).revision
        assert newest > max(acknowledged.values())
        await store.close()


async def test_two_processes_cannot_open_one_store(tmp_path: Path) -> None:
    store = open_store("durable", tmp_path)
    with pytest.raises(StoreInUse):
        open_store("durable", tmp_path)
    await store.close()
    await open_store("durable", tmp_path).close()


def _empty(directory: Path) -> None:
    (directory / DATABASE).write_bytes(b"")


def _garbage(directory: Path) -> None:
    (directory / DATABASE).write_bytes(os.urandom(8192))


def _missing(directory: Path) -> None:
    (directory / DATABASE).unlink()


def _truncated(directory: Path) -> None:
    data = (directory / DATABASE).read_bytes()
    (directory / DATABASE).write_bytes(data[: len(data) - 4096])


def _flipped(directory: Path) -> None:
    data = bytearray((directory / DATABASE).read_bytes())
    position = data.index(b"rev 4")
    data[position + 4] ^= 1
    (directory / DATABASE).write_bytes(data)


def _other_format(directory: Path) -> None:
    (directory / MARKER).write_text("kubesim-store 99\n")


def _without_table(directory: Path) -> None:
    connection = sqlite3.connect(directory / DATABASE)
    connection.execute("DROP TABLE log")
    connection.close()


def _without_meta(directory: Path) -> None:
    connection = sqlite3.connect(directory / DATABASE, isolation_level=None)
    connection.execute("DELETE FROM meta")
    connection.close()


def _revision_lost(directory: Path) -> None:
    connection = sqlite3.connect(directory / DATABASE, isolation_level=None)
    connection.execute("UPDATE meta SET value = 1 WHERE name = 'revision'")
    connection.close()


DAMAGES = [
    _empty,
    _garbage,
    _missing,
    _truncated,
    _flipped,
    _other_format,
    _without_table,
    _without_meta,
    _revision_lost,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__.strip("_"))
async def test_damage_is_found_when_the_store_is_opened(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    await write_something(tmp_path)
    assert verify(tmp_path) is None
    damage(tmp_path)
    with pytest.raises(CorruptStore) as caught:
        open_store("durable", tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "--force" in (caught.value.remedy or "")
    why = verify(tmp_path)
    assert why is not None
    assert "damaged" in why


def test_a_directory_without_a_store_is_said_to_have_none(tmp_path: Path) -> None:
    assert "no store" in (verify(tmp_path) or "")
    assert list(tmp_path.iterdir()) == []


async def test_a_full_disk_fails_the_writes_and_takes_nothing_back(tmp_path: Path) -> None:
    store = open_store("durable", tmp_path)
    kept = await store.create(PODS, "ns/kept", body)
    journal = store._journal
    assert journal is not None
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")

    def big(revision: int) -> bytes:
        return b"x" * 100_000

    results = await asyncio.gather(
        store.update(PODS, "ns/kept", kept.revision, big),
        store.create(PODS, "ns/big", big),
        return_exceptions=True,
    )
    assert all(isinstance(result, StorageFailed) for result in results)
    assert store.head(PODS, "ns/kept") is kept
    assert store.get(PODS, "ns/big") is None
    assert store.revision == kept.revision

    journal._connection.execute("PRAGMA max_page_count = 1000000")
    updated = await store.update(PODS, "ns/kept", kept.revision, body)
    assert updated.revision > kept.revision
    await store.close()
    store = open_store("durable", tmp_path)
    assert [s.name for s in store.table(PODS).all()] == ["ns/kept"]
    assert store.revision == updated.revision
    await store.close()


async def test_nothing_is_visible_before_it_is_on_disk(tmp_path: Path) -> None:
    store = open_store("durable", tmp_path)
    writing = asyncio.ensure_future(store.create(PODS, "ns/a", body))
    await asyncio.sleep(0)
    assert store.get(PODS, "ns/a") is None
    assert store.head(PODS, "ns/a") is not None
    await writing
    assert store.get(PODS, "ns/a") is not None
    await store.close()
