"""One request on one exec stream, for real, under each shell."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from whimbrel.model.errors import InfraRefused, NodeLost
from whimbrel.runtime.conversation import run

from .local_node import LocalNode

pytestmark = pytest.mark.anyio


async def test_output_error_output_and_exit_code_come_back(node: LocalNode) -> None:
    result = await run(node, "echo out; echo err >&2; exit 3", timeout=10)
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


async def test_binary_data_goes_through_unchanged_both_ways(node: LocalNode) -> None:
    data = bytes(range(256)) * 2000
    assert (await run(node, "cat", data=data, timeout=10)).stdout == data


async def test_data_of_known_length_needs_no_end_of_stdin(node: LocalNode) -> None:
    result = await run(node, "cat; echo end", data=b"abc", timeout=10)
    assert result.stdout == b"abcend\n"


async def test_data_of_unknown_length_ends_with_stdin(node: LocalNode) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    assert (await run(node, "wc -c", data=pieces(), timeout=10)).stdout.strip() == b"1000000"


async def test_a_failing_source_of_data_ends_the_request_with_that_failure(node: LocalNode) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        raise InfraRefused("the blob is gone")

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await run(node, "cat", data=broken(), timeout=10)
    with pytest.raises(InfraRefused, match="the blob is gone"):
        await run(node, "cat", data=pieces(), timeout=10)


async def test_a_script_that_does_not_read_its_data_is_no_error(node: LocalNode) -> None:
    assert (await run(node, "echo done", data=b"x" * 3_000_000, timeout=10)).stdout == b"done\n"


async def test_a_script_without_data_has_an_empty_stdin(node: LocalNode) -> None:
    assert (await run(node, "cat; echo end", timeout=10)).stdout == b"end\n"


async def test_lines_with_backslashes_quotes_and_spaces_arrive_as_they_are(node: LocalNode) -> None:
    result = await run(node, "printf '%s|' ' a\\nb' \"it's\" '\t\\'", timeout=10)
    assert result.stdout == b" a\\nb|it's|\t\\|"


async def test_the_request_is_done_at_its_trailer_even_when_the_stream_never_ends(node: LocalNode) -> None:
    started = time.monotonic()
    # the sleep holds stdout and stderr open: no EOF comes
    result = await run(node, "echo hi; sleep 30 & exit 4", timeout=20)
    assert (result.exit_code, result.stdout) == (4, b"hi\n")
    assert time.monotonic() - started < 10


async def test_a_stream_that_ends_early_is_not_taken_for_an_answer(node: LocalNode) -> None:
    node.break_after = [3]
    with pytest.raises(NodeLost):
        await run(node, "echo a long answer", timeout=10)


async def test_a_shell_that_is_killed_is_not_taken_for_an_answer(node: LocalNode) -> None:
    with pytest.raises(NodeLost, match="node-0"):
        await run(node, "echo half; kill -KILL $$", timeout=10)


async def test_a_silent_node_costs_the_deadline_and_no_more(node: LocalNode) -> None:
    started = time.monotonic()
    with pytest.raises(NodeLost, match=r"did not answer within 0\.3 s"):
        await run(node, "exec sleep 20", timeout=0.3)
    assert time.monotonic() - started < 5


async def test_silence_is_told_apart_from_slowness(node: LocalNode) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    with pytest.raises(NodeLost, match=r"silent for 0\.3 s"):
        await run(node, "cat; sleep 20", data=pieces(), timeout=None, idle=0.3)


async def test_an_image_without_a_shell_is_named(scratch: Path, node: LocalNode) -> None:
    broken = scratch / "noshell"
    broken.mkdir()
    (broken / "sh").write_text("#!/bin/sh\necho 'sh: not found' >&2\nexit 127\n")
    (broken / "sh").chmod(0o755)
    node.path = str(broken)
    with pytest.raises(InfraRefused, match="cannot run a shell") as caught:
        await run(node, "echo", timeout=10)
    assert caught.value.remedy


async def test_an_endless_answer_is_refused(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whimbrel.runtime.conversation.COLLECT_LIMIT", 100_000)
    with pytest.raises(InfraRefused, match="answered with more than"):
        await run(node, "while :; do echo yes yes yes yes yes yes; done", timeout=20)
