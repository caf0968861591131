"""Logs: what is written, what of it is read, and how it is followed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.apiserver.nodes import LogOptions
from kubesim.kubelet import containerfiles, crilog, shims
from kubesim.kubelet.crilog import LONGEST_PIECE, cut
from kubesim.kubelet.logread import read_log

from .conftest import DEADLINE, Box

pytestmark = pytest.mark.anyio
START = 1_800_000_000


def write(directory: Path, *lines: tuple[str, str], every: int = 1) -> None:
    """A log with a line per second, each with its tag."""
    text = "".join(
        f"{crilog.timestamp((START + number * every) * 10**9)} stdout {tag} {content}\n"
        for number, (tag, content) in enumerate(lines)
    )
    (directory / containerfiles.LOG).write_text(text)


async def read(directory: Path, now: float = START, **options: object) -> str:
    pieces = [piece async for piece in read_log(directory, LogOptions(**options), now)]  # type: ignore[arg-type]
    return b"".join(pieces).decode()


@given(st.lists(st.binary(max_size=40), max_size=10), st.integers(1, 3))
def test_cut_loses_and_changes_nothing(chunks: list[bytes], repeat: int) -> None:
    rest, out = b"", b""
    for chunk in chunks * repeat:
        pieces, rest = cut(rest + chunk)
        out += b"".join(piece + (b"\n" if tag == b"F" else b"") for tag, piece in pieces)
        assert b"\n" not in rest
    assert out + rest == b"".join(chunks * repeat)


@pytest.mark.parametrize(
    "length", [LONGEST_PIECE - 1, LONGEST_PIECE, LONGEST_PIECE + 1, 3 * LONGEST_PIECE + 7]
)
def test_an_overlong_line_is_cut_into_pieces_of_bounded_length(length: int) -> None:
    pieces, rest = cut(b"x" * length + b"\n")
    assert rest == b""
    assert [tag for tag, _ in pieces][-1] == b"F"
    assert {tag for tag, _ in pieces[:-1]} <= {b"P"}
    assert all(len(piece) <= LONGEST_PIECE for _, piece in pieces)
    assert sum(len(piece) for _, piece in pieces) == length


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (0, ""),
        (1, "four\n"),
        (2, "twothree\nfour\n"),
        (3, "one\ntwothree\nfour\n"),
        (9, "one\ntwothree\nfour\n"),
    ],
)
async def test_the_tail_counts_whole_lines(tmp_path: Path, tail: int, expected: str) -> None:
    write(tmp_path, ("F", "one"), ("P", "two"), ("F", "three"), ("F", "four"))
    assert await read(tmp_path, tail_lines=tail) == expected


async def test_the_tail_of_a_long_log_is_exact(tmp_path: Path) -> None:
    write(tmp_path, *(("F", f"line {number}") for number in range(60_000)))
    lines = (await read(tmp_path, tail_lines=20_000)).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (20_000, "line 40000", "line 59999")


async def test_since_and_timestamps_and_limits(tmp_path: Path) -> None:
    write(tmp_path, ("F", "a"), ("P", "b"), ("F", "c"), ("F", "d"))
    assert await read(tmp_path, START + 10, since_seconds=7) == "d\n"
    assert await read(tmp_path, since_time=datetime.fromtimestamp(START + 3, UTC)) == "d\n"
    assert await read(tmp_path, timestamps=True, tail_lines=2) == (
        "2027-01-15T08:00:01.000000000Z bc\n2027-01-15T08:00:03.000000000Z d\n"
    )
    assert await read(tmp_path, limit_bytes=4) == "a\nbc"


async def test_following_gives_each_line_when_it_is_printed_and_ends_with_the_container(box: Box) -> None:
    directory = await box.start(
        "main", "sh", "-c", "echo first; read go; echo second; read go; printf third", stdin=True
    )
    stream = await shims.attach(directory, stdin=True, stdout=False, stderr=False, tty=False)
    seen = []
    async with asyncio.timeout(DEADLINE):
        async for piece in read_log(directory, LogOptions(follow=True), 0):
            seen.append(piece)
            if len(seen) < 3:
                await stream.write_stdin(b"go\n")
    assert seen == [b"first\n", b"second\n", b"third"]
    await stream.aclose()


async def test_following_a_container_that_has_ended_gives_its_log_and_ends(box: Box) -> None:
    directory = await box.start("main", "sh", "-c", "echo all")
    async with asyncio.timeout(DEADLINE):
        await shims.watch(directory)
        assert [piece async for piece in read_log(directory, LogOptions(follow=True), 0)] == [b"all\n"]


async def test_a_follower_misses_nothing_of_a_fast_container(box: Box) -> None:
    directory = await box.start("main", "seq", "50000")
    async with asyncio.timeout(DEADLINE):
        pieces = [piece async for piece in read_log(directory, LogOptions(follow=True), 0)]
    assert b"".join(pieces) == b"".join(b"%d\n" % number for number in range(1, 50_001))
