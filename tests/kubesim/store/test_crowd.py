"""A crowd of watchers is told of changes together, and of every change; a few are told of each at once."""

from __future__ import annotations

import asyncio

import pytest

from kubesim.store.records import Change, ChangeType, Stored
from kubesim.store.table import Table

pytestmark = pytest.mark.anyio


def creation(revision: int) -> Change:
    stored = Stored("secrets", f"default/s{revision}", revision, revision, b"{}")
    return Change(ChangeType.ADDED, stored, None)


async def test_changes_gather_until_a_crowd_is_told() -> None:
    table = Table("secrets")
    crowd = [table.changed() for _ in range(500)]
    for revision in range(1, 21):
        table.apply(creation(revision))
    assert not any(waiter.done() for waiter in crowd)
    async with asyncio.timeout(10):
        await asyncio.gather(*crowd)
    assert [change.revision for change in table.changes(0)] == list(range(1, 21))


async def test_a_few_watchers_are_told_at_once() -> None:
    table = Table("secrets")
    few = [table.changed() for _ in range(3)]
    table.apply(creation(1))
    assert all(waiter.done() for waiter in few)
