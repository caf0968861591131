"""A crash at any moment: the files of the store are cut, torn or flipped at every boundary of a random history, and
what is opened again has to be exactly the state at one revision, no older than what had been acknowledged."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubesim.store import HistoryLimits, Store, open_store
from kubesim.store import store as store_module
from kubesim.store.database import DATABASE, MARKER

PODS = "/pods"
WAL = f"{DATABASE}-wal"
WAL_HEADER, FRAME = 32, 24 + 4096

Objects = dict[str, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Op:
    """One write: whether it creates, updates or deletes follows from what is there."""

    name: str
    size: int
    delete: bool


ops = st.builds(Op, name=st.sampled_from("abcdef"), size=st.integers(0, 9000), delete=st.booleans())
histories = st.lists(st.lists(ops, min_size=1, max_size=4), min_size=3, max_size=12)
"""Groups of writes that are under way together."""


@dataclass(slots=True)
class Recorded:
    """What was written, in order, and how long the log was when it had been acknowledged."""

    states: list[Objects] = field(default_factory=lambda: [{}])
    """By revision."""
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    """(length of the log, revision)"""
    database: bytes = b""
    log: bytes = b""
    marker: bytes = b""

    def promised(self, length: int) -> int:
        """The revision that must not be lost when so much of the log is left."""
        return max((revision for at, revision in self.acknowledged if at <= length), default=0)


async def record(history: list[list[Op]], directory: Path, limits: HistoryLimits) -> Recorded:
    """Play a history on a real store and take its files as a crash would leave them: nothing is closed before."""
    recorded = Recorded()
    store = open_store("durable", directory, limits=limits)
    written: dict[int, tuple[str, bytes | None]] = {}
    for group in history:
        busy: set[str] = set()
        writes = []
        for op in group:
            if op.name not in busy:  # two writers of one object are the business of test_store
                busy.add(op.name)
                writes.append(_write(store, op, written))
        await asyncio.gather(*writes)
        recorded.acknowledged.append(((directory / WAL).stat().st_size, store.revision))
    for revision in range(1, store.revision + 1):
        name, data = written[revision]
        state = dict(recorded.states[-1])
        if data is None:
            del state[name]
        else:
            state[name] = (revision, data)
        recorded.states.append(state)
    recorded.database = (directory / DATABASE).read_bytes()
    recorded.log = (directory / WAL).read_bytes()
    recorded.marker = (directory / MARKER).read_bytes()
    await store.close()
    return recorded


async def _write(store: Store, op: Op, written: dict[int, tuple[str, bytes | None]]) -> None:
    head = store.head(PODS, op.name)

    def encode(revision: int) -> bytes:
        return b"%d:" % revision + b"x" * op.size

    if head is None:
        stored = await store.create(PODS, op.name, encode)
    elif op.delete:
        stored = await store.delete(PODS, op.name, head.revision, encode)
    else:
        stored = await store.update(PODS, op.name, head.revision, encode)
    written[stored.revision] = (op.name, None if head is not None and op.delete else stored.data)


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def recover(recorded: Recorded, database: bytes, log: bytes, promised: int) -> int:
    """Open what a crash left; the revision that it came back with."""

    async def check(directory: Path) -> int:
        store = open_store("durable", directory)
        revision = store.revision
        assert promised <= revision < len(recorded.states)
        objects = {s.name: (s.revision, s.data) for s in store.table(PODS).all()}
        assert objects == recorded.states[revision]
        changes = store.table(PODS).changes(store.table(PODS).forgotten)
        assert [change.revision for change in changes] == list(range(store.compacted + 1, revision + 1))
        state = dict(recorded.states[store.compacted])
        for change in changes:
            before = change.previous and (change.previous.revision, change.previous.data)
            assert before == state.get(change.stored.name)
            state = recorded.states[change.revision]
        again = await store.create(PODS, "after", lambda r: b"after")
        assert again.revision == revision + 1
        await store.close()
        return revision

    with folder() as directory:
        (directory / DATABASE).write_bytes(database)
        (directory / WAL).write_bytes(log)
        (directory / MARKER).write_bytes(recorded.marker)
        return asyncio.run(check(directory))


def cuts(log: bytes) -> Iterator[int]:
    """The ends of all writes to the log, and places within each: in a frame's head, in its page, one byte too few."""
    yield 0
    for start in range(WAL_HEADER, len(log), FRAME):
        yield from (start, start + 7, start + 24, start + 24 + random.Random(start).randrange(1, 4096))
        yield start + FRAME - 1
    yield len(log)


quick = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=[False, True], ids=["whole history", "compacted history"])
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> HistoryLimits:
    """With compaction the rows of forgotten states leave the log in the transactions of the writes that follow."""
    if not request.param:
        return HistoryLimits()
    monkeypatch.setattr(store_module, "COMPACT_BATCH", 2)
    return HistoryLimits(changes=3)


@quick
@given(history=histories)
def test_a_log_that_ends_anywhere_gives_a_state_no_older_than_what_was_acknowledged(
    history: list[list[Op]], limits: HistoryLimits
) -> None:
    with folder() as directory:
        recorded = asyncio.run(record(history, directory, limits))
    newest = 0
    for length in cuts(recorded.log):
        promised = recorded.promised(length)
        revision = recover(recorded, recorded.database, recorded.log[:length], promised)
        assert revision >= newest, "a longer log never gives an older state"
        newest = revision
    assert newest == len(recorded.states) - 1


@quick
@given(history=histories, seed=st.integers(0, 1000))
def test_a_flipped_byte_in_the_tail_costs_nothing_that_was_acknowledged_before_it(
    history: list[list[Op]], seed: int, limits: HistoryLimits
) -> None:
    chance = random.Random(seed)
    with folder() as directory:
        recorded = asyncio.run(record(history, directory, limits))
    for start in range(
        WAL_HEADER, len(recorded.log) - FRAME + 1, FRAME
    ):  # the last frame may be half written
        torn = bytearray(recorded.log)
        torn[start + chance.randrange(FRAME)] ^= 1 << chance.randrange(8)
        recover(recorded, recorded.database, bytes(torn), recorded.promised(start))


@quick
@given(history=histories)
def test_a_crash_while_the_log_is_written_back_changes_nothing(
    history: list[list[Op]], limits: HistoryLimits
) -> None:
    with folder() as directory:
        recorded = asyncio.run(record(history, directory, limits))
    after = _written_back(recorded)
    before, page = recorded.database, 4096
    for position in range(0, len(after), page):
        for reached in (position, position + page // 2):
            torn = after[:reached] + before[reached:]
            revision = recover(recorded, torn, recorded.log, len(recorded.states) - 1)
            assert revision == len(recorded.states) - 1


def _written_back(recorded: Recorded) -> bytes:
    """The database after SQLite has copied the log's pages into it."""
    with folder() as directory:
        (directory / DATABASE).write_bytes(recorded.database)
        (directory / WAL).write_bytes(recorded.log)
        connection = sqlite3.connect(directory / DATABASE)
        connection.execute("PRAGMA wal_checkpoint(FULL)")
        after = (directory / DATABASE).read_bytes()
        connection.close()
        return after
