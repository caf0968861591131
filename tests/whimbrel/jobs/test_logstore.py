"""What jobs printed is kept by the server, and can be followed from any byte."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from whimbrel.jobs.logstore import LogStore, text_of


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    store = LogStore(tmp_path / "logs")
    yield store
    store.close()


@pytest.mark.anyio
async def test_a_job_on_one_node_has_one_file_under_both_names(store: LogStore) -> None:
    log = store.job("uid", 1)
    writer = await log.writer(1)
    await writer.append(0, b"hello ")
    await writer.append(0, b"world\n")
    await writer.close()
    assert await log.read(0) == b"hello world\n"
    assert (log.directory / "rank-0.log").read_bytes() == b"hello world\n"
    assert (await log.writer(1)).offsets == {0: 12}


@pytest.mark.anyio
async def test_ranks_are_kept_apart_and_merged_by_line(store: LogStore) -> None:
    log = store.job("uid", 1)
    writer = await log.writer(2)
    await writer.append(0, b"one\ntw")
    await writer.append(1, b"eins\n")
    await writer.append(0, b"o")
    await writer.end(0)
    await writer.end(1)
    await writer.close()
    assert await log.read(0) == b"(rank 0) one\n(rank 1) eins\n(rank 0) two\n"
    assert (log.directory / "rank-0.log").read_bytes() == b"one\ntwo"


@pytest.mark.anyio
async def test_after_a_crash_the_run_log_is_completed_from_the_ranks_logs(store: LogStore) -> None:
    log = store.job("uid", 1)
    writer = await log.writer(2)
    await writer.append(0, b"a\nb\n")
    await writer.append(1, b"c\n")
    await writer.close()
    os.truncate(log.run_log, len(b"(rank 0) a\n(rank"))
    resumed = await log.writer(2)
    assert resumed.offsets == {0: 4, 1: 2}
    await resumed.append(1, b"d\n")
    await resumed.close()
    assert await log.read(0) == b"(rank 0) a\n(rank 0) b\n(rank 1) c\n(rank 1) d\n"


@pytest.mark.anyio
async def test_a_follower_is_woken_by_each_append(store: LogStore) -> None:
    log = store.job("uid", 1)
    writer = await log.writer(1)
    woken = log.next()
    assert await log.read(0) == b""
    await writer.append(0, b"line\n")
    async with asyncio.timeout(5):
        await woken.wait()
    assert await log.read(0) == b"line\n"
    await writer.close()


@pytest.mark.anyio
async def test_the_tail_begins_at_a_line(store: LogStore) -> None:
    log = store.job("uid", 1)
    writer = await log.writer(1)
    await writer.append(0, b"".join(b"line %d\n" % number for number in range(20_000)))
    await writer.close()
    assert await log.read(await log.tail_offset(2)) == b"line 19998\nline 19999\n"
    assert await log.tail_offset(50_000) == 0
    assert await log.tail_offset(0) == await log.size()
    assert await store.job("uid", 9).tail_offset(5) == 0


def test_a_character_that_is_cut_off_waits_for_its_rest() -> None:
    whole = "grüße €".encode()
    assert text_of(whole[:3], final=False) == ("gr", 2)
    assert text_of(whole[:-1], final=False) == ("grüße ", len(whole) - 3)
    assert text_of(whole, final=False) == ("grüße €", len(whole))
    assert text_of(whole[:3], final=True) == ("gr�", 3)
    assert text_of(b"\xff\xfeok", final=False) == ("��ok", 4)
