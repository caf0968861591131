"""History is kept for a time and within bounds; what is older is gone from memory and from the disk, and said to be."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Literal

import pytest

from kubesim.store import Compacted, HistoryLimits, Store, open_store
from kubesim.store.database import DATABASE

pytestmark = pytest.mark.anyio

PODS = "/pods"
SHORT = HistoryLimits(age=0.2)


def body(revision: int) -> bytes:
    return b"rev %d" % revision


def forgotten(store: Store, revision: int) -> bool:
    try:
        store.kept(revision)
    except Compacted:
        return True
    return False


@pytest.mark.parametrize("mode", ["memory", "durable"])
async def test_history_that_is_too_old_is_forgotten_also_when_nothing_is_written(
    mode: Literal["memory", "durable"], tmp_path: Path
) -> None:
    store = open_store(mode, tmp_path / "store", limits=SHORT)
    first = await store.create(PODS, "ns/a", body)
    await store.update(PODS, "ns/a", first.revision, body)
    await store.create(PODS, "ns/b", body)
    assert len(store.table(PODS).changes(0)) == 3

    async with asyncio.timeout(20):
        while store.compacted != 3:  # noqa: ASYNC110 - the store tells nobody that it forgets
            await asyncio.sleep(0.01)

    with pytest.raises(Compacted) as caught:
        store.table(PODS).changes(1)
    assert (caught.value.requested, caught.value.oldest) == (1, 3)
    assert forgotten(store, 2)
    assert not forgotten(store, 3)
    assert [s.data for s in store.table(PODS).all()] == [b"rev 2", b"rev 3"]
    await store.close()


async def test_young_history_is_kept_while_old_history_goes() -> None:
    store = open_store("memory", limits=SHORT)
    loop, position = asyncio.get_running_loop(), 0
    revisions: list[tuple[float, int]] = []
    while store.compacted < 5:
        position += 1
        await store.create(PODS, f"ns/{position}", body)
        revisions.append((loop.time(), position))
        await asyncio.sleep(0.01)
    forgotten_at = loop.time()
    for when, revision in revisions:
        if revision <= store.compacted:
            assert forgotten_at - when >= SHORT.age * 0.99
    await store.close()


async def test_what_is_forgotten_leaves_the_disk_while_writes_go_on(tmp_path: Path) -> None:
    store = open_store("durable", tmp_path, limits=SHORT)
    current = await store.create(PODS, "ns/a", body)
    await store.create(PODS, "ns/kept", body)
    doomed = await store.create(PODS, "ns/doomed", body)
    await store.delete(PODS, "ns/doomed", doomed.revision, body)
    async with asyncio.timeout(20):
        while store.compacted < 20:
            current = await store.update(PODS, "ns/a", current.revision, body)
            await asyncio.sleep(0.005)
    revision = store.revision
    await store.close()

    rows = sqlite3.connect(tmp_path / DATABASE)
    kept = rows.execute("SELECT revision FROM log WHERE name <> 'ns/a'").fetchall()
    (states,) = rows.execute("SELECT count(*) FROM log WHERE name = 'ns/a'").fetchone()
    rows.close()
    assert kept == [(2,)]
    assert states < revision - 15

    store = open_store("durable", tmp_path, limits=SHORT)
    assert {s.name: s.revision for s in store.table(PODS).all()} == {"ns/a": revision, "ns/kept": 2}
    assert store.revision == revision
    with pytest.raises(Compacted):
        store.table(PODS).changes(3)
    await store.close()


async def test_an_update_of_what_is_deleted_and_made_again_before_the_disk_knows_is_checked(
    tmp_path: Path,
) -> None:
    """The newest state counts, whatever part of the way to it is on disk already."""
    store = open_store("durable", tmp_path)
    created = await store.create(PODS, "ns/a", body)
    deleting = asyncio.ensure_future(store.delete(PODS, "ns/a", created.revision, body))
    await asyncio.sleep(0)
    again = asyncio.ensure_future(store.create(PODS, "ns/a", body))
    await asyncio.sleep(0)
    gone = asyncio.ensure_future(store.delete(PODS, "ns/a", 3, body))
    await deleting
    assert store.head(PODS, "ns/a") is None
    await asyncio.gather(again, gone)
    assert store.get(PODS, "ns/a") is None
    await store.close()
