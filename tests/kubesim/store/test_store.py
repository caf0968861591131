"""What every store promises, in memory and on disk alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubesim.store import (
    ChangeType,
    Compacted,
    HistoryLimits,
    KeyExists,
    KeyMissing,
    RevisionMismatch,
    RevisionTooLarge,
    Store,
    StoreClosed,
    open_store,
)

pytestmark = pytest.mark.anyio

PODS = "/pods"


def body(revision: int) -> bytes:
    return b"rev %d" % revision


@pytest.fixture(params=["memory", "durable"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(request.param, tmp_path / "store" if request.param == "durable" else None)
    yield opened
    await opened.close()


async def fill(store: Store, names: str, resource: str = PODS) -> None:
    for name in names:
        await store.create(resource, f"ns/{name}", body)


async def test_each_write_gets_the_next_revision_and_its_bytes_know_it(store: Store) -> None:
    first = await store.create(PODS, "ns/a", body)
    second = await store.create("apps/deployments", "ns/a", body)
    third = await store.update(PODS, "ns/a", first.revision, body)
    assert [first.revision, second.revision, third.revision] == [1, 2, 3]
    assert third.data == b"rev 3"
    assert third.created == 1
    assert store.revision == 3
    assert store.get(PODS, "ns/a") is third


async def test_a_name_can_be_taken_only_once(store: Store) -> None:
    await store.create(PODS, "ns/a", body)
    with pytest.raises(KeyExists):
        await store.create(PODS, "ns/a", body)
    assert store.revision == 1


async def test_an_update_of_what_has_changed_is_refused(store: Store) -> None:
    created = await store.create(PODS, "ns/a", body)
    await store.update(PODS, "ns/a", created.revision, body)
    with pytest.raises(RevisionMismatch):
        await store.update(PODS, "ns/a", created.revision, body)
    with pytest.raises(RevisionMismatch):
        await store.delete(PODS, "ns/a", created.revision, body)
    with pytest.raises(KeyMissing):
        await store.update(PODS, "ns/none", 1, body)


async def test_of_two_writers_that_saw_the_same_state_one_loses(store: Store) -> None:
    created = await store.create(PODS, "ns/a", body)
    results = await asyncio.gather(
        *(store.update(PODS, "ns/a", created.revision, body) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, RevisionMismatch) for result in results) == 4


async def test_a_failing_encoder_changes_nothing(store: Store) -> None:
    def broken(revision: int) -> bytes:
        raise ValueError("cannot be encoded")

    with pytest.raises(ValueError, match="cannot be encoded"):
        await store.create(PODS, "ns/a", broken)
    assert (await store.create(PODS, "ns/a", body)).revision == 1


async def test_lists_are_in_the_order_of_namespace_and_name(store: Store) -> None:
    for name in ("b/x", "a-b/x", "a/z", "a/b", "/cluster"):
        await store.create(PODS, name, body)
    assert [s.name for s in store.table(PODS).all()] == ["/cluster", "a-b/x", "a/b", "a/z", "b/x"]
    assert [s.name for s in store.table(PODS).all("a")] == ["a/b", "a/z"]


async def test_pages_come_from_one_revision_whatever_happens_in_between(store: Store) -> None:
    await fill(store, "abcde")
    table, at = store.table(PODS), store.revision
    first = table.page(namespace="ns", limit=2, at=at)
    assert [s.name for s in first.items] == ["ns/a", "ns/b"]
    assert (first.last, first.remaining) == ("ns/b", 3)

    await store.create(PODS, "ns/bb", body)
    await store.delete(PODS, "ns/c", 3, body)
    await store.update(PODS, "ns/d", 4, body)
    await store.create(PODS, "zz/z", body)

    second = table.page(namespace="ns", after="ns/b", limit=2, at=at)
    assert [(s.name, s.data) for s in second.items] == [("ns/c", b"rev 3"), ("ns/d", b"rev 4")]
    assert second.remaining == 1
    last = table.page(namespace="ns", after="ns/d", limit=2, at=at)
    assert [s.name for s in last.items] == ["ns/e"]
    assert last.last is None
    assert [s.name for s in table.page(namespace="ns").items] == ["ns/a", "ns/b", "ns/bb", "ns/d", "ns/e"]


async def test_a_page_can_be_filtered_and_knows_when_nothing_is_left(store: Store) -> None:
    await fill(store, "abcd")
    page = store.table(PODS).page(limit=2, accept=lambda s: s.name != "ns/b")
    assert [s.name for s in page.items] == ["ns/a", "ns/c"]
    assert page.last == "ns/c"
    assert store.table(PODS).page(limit=4).last is None


async def test_changes_after_a_revision_are_what_happened_since(store: Store) -> None:
    await fill(store, "ab")
    await store.create("/secrets", "ns/s", body)
    await store.update(PODS, "ns/a", 1, body)
    await store.delete(PODS, "ns/b", 2, body)
    changes = store.table(PODS).changes(2)
    assert [(c.type, c.stored.name, c.revision) for c in changes] == [
        (ChangeType.MODIFIED, "ns/a", 4),
        (ChangeType.DELETED, "ns/b", 5),
    ]
    assert changes[0].previous is not None
    assert changes[0].previous.data == b"rev 1"
    assert changes[1].stored.data == b"rev 5"
    assert store.table(PODS).changes(5) == []


async def test_who_waits_for_a_change_is_woken_by_it(store: Store) -> None:
    waiter = store.table(PODS).changed()
    await store.create("/secrets", "ns/s", body)
    assert not waiter.done()
    await store.create(PODS, "ns/a", body)
    async with asyncio.timeout(5):
        await waiter


async def test_a_revision_from_the_future_is_waited_for_or_refused(store: Store) -> None:
    with pytest.raises(RevisionTooLarge):
        await store.reach(1, timeout=0.01)
    waiting = asyncio.ensure_future(store.reach(2, timeout=5))
    await fill(store, "ab")
    await waiting


async def test_a_closed_store_refuses_writes(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreClosed):
        await store.create(PODS, "ns/a", body)


async def test_writes_that_are_under_way_when_the_store_is_closed_are_done(tmp_path: Path) -> None:
    store = open_store("durable", tmp_path)
    writes = [asyncio.ensure_future(store.create(PODS, f"ns/{n}", body)) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert [w.revision for w in await asyncio.gather(*writes)] == list(range(1, 51))


@pytest.mark.parametrize("mode", ["memory", "durable"])
async def test_history_is_bounded_and_what_is_forgotten_is_said(mode: str, tmp_path: Path) -> None:
    limits = HistoryLimits(changes=4)
    store = open_store("durable" if mode == "durable" else "memory", tmp_path, limits=limits)
    table = store.table(PODS)
    await fill(store, "abcdef")
    with pytest.raises(Compacted):
        table.changes(1)
    with pytest.raises(Compacted):
        table.page(at=1)
    assert [c.revision for c in table.changes(2)] == [3, 4, 5, 6]
    await store.close()


async def test_the_bytes_that_only_history_keeps_are_bounded() -> None:
    store = open_store("memory", limits=HistoryLimits(retained=1000))
    current = await store.create(PODS, "ns/a", lambda r: b"x" * 100)
    for _ in range(50):
        current = await store.update(PODS, "ns/a", current.revision, lambda r: b"x" * 100)
    assert sum(c.retained for c in store.table(PODS).changes(store.table(PODS).forgotten)) <= 1000


async def test_a_table_that_begins_later_has_no_history_before(store: Store) -> None:
    await fill(store, "ab")
    store.table("example.com/things").begin(store.revision)
    with pytest.raises(Compacted):
        store.table("example.com/things").changes(1)
    assert store.table("example.com/things").changes(2) == []
