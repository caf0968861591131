"""A further command in a running container: streams, exit codes, terminals, and who is killed when the client goes."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from kubesim.kubelet import proc, shims
from kubesim.kubelet.shims import ShimError

from .conftest import Box, communicate, eventually, running_state

pytestmark = pytest.mark.anyio


@pytest.fixture
async def container(box: Box) -> Path:
    return await box.start("main", "sleep", "1000")


async def test_streams_are_kept_apart_and_the_exit_code_is_the_commands(box: Box, container: Path) -> None:
    assert await box.run(container, "sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")


async def test_binary_data_passes_unchanged_in_both_directions(box: Box, container: Path) -> None:
    data = bytes(range(256)) * 8192 + os.urandom(100_001)
    assert await box.run(container, "cat", data=data) == (0, data, b"")


async def test_the_end_of_stdin_reaches_the_command_while_its_output_goes_on(
    box: Box, container: Path
) -> None:
    assert await box.run(container, "sh", "-c", "wc -c; echo after", data=b"12345") == (0, b"5\nafter\n", b"")


async def test_a_command_without_stdin_reads_the_end_at_once(box: Box, container: Path) -> None:
    assert await box.run(container, "sh", "-c", "cat; echo done") == (0, b"done\n", b"")


@pytest.mark.parametrize(("number", "code"), [(9, 137), (15, 143), (2, 130)])
async def test_death_by_a_signal_is_128_plus_its_number(
    box: Box, container: Path, number: int, code: int
) -> None:
    assert await box.run(container, "sh", "-c", f"echo before; kill -{number} $$") == (code, b"before\n", b"")


async def test_output_is_complete_before_the_exit_code(box: Box, container: Path) -> None:
    size = 3_000_000
    code, out, _ = await box.run(container, "sh", "-c", f"head -c {size} /dev/zero; exit 5")
    assert (code, len(out)) == (5, size)


async def test_a_slow_reader_gets_everything_and_holds_the_command_back(box: Box, container: Path) -> None:
    stream = await box.execute(container, "sh", "-c", "head -c 6000000 /dev/zero; echo end >&2")
    received = 0
    ended = False
    async with asyncio.timeout(20):
        async for number, piece in stream.output():
            if number == 1:
                received += len(piece)
                if received < 2_000_000:
                    assert not ended
                    await asyncio.sleep(0)
            else:
                ended = True
    assert (received, await stream.exit_code()) == (6_000_000, 0)
    await stream.aclose()


async def test_commands_ignore_no_signal_that_the_daemon_ignores(box: Box, container: Path) -> None:
    code, out, _ = await box.run(container, "sh", "-c", "grep SigIgn /proc/self/status")
    assert code == 0
    assert int(out.split()[1], 16) & 0x7FFFFFFF == 0  # 1 to 31; 32 and 33 are the C library's own


async def test_commands_inherit_no_descriptor(box: Box, container: Path) -> None:
    code, out, _ = await box.run(container, "sh", "-c", "ls /proc/$$/fd")
    assert code == 0
    assert set(out.split()) <= {b"0", b"1", b"2"}


async def test_an_unknown_command_is_refused_in_the_words_of_a_runtime(box: Box, container: Path) -> None:
    with pytest.raises(ShimError, match=r'exec: "nonesuch": executable file not found in \$PATH') as refusal:
        await box.execute(container, "nonesuch")
    assert refusal.value.exit_code == 127


async def test_a_file_that_may_not_be_executed_is_refused(box: Box, container: Path) -> None:
    (box.root / "plain").write_text("text")
    with pytest.raises(ShimError, match=r'exec: "\./plain": permission denied') as refusal:
        await box.execute(container, "./plain")
    assert refusal.value.exit_code == 126


async def test_exec_into_an_ended_container_is_refused(box: Box) -> None:
    directory = await box.start("short", "true")
    await shims.watch(directory)
    with pytest.raises(ShimError, match="not running"):
        await box.execute(directory, "true")


async def test_a_terminal_has_the_size_of_the_clients_window_and_tells_of_changes(
    box: Box, container: Path
) -> None:
    script = "trap 'stty size; exit 0' WINCH; stty size; echo ready; while :; do sleep 0.05; done"
    stream = await box.execute(container, "sh", "-c", script, stdin=True, tty=True)
    seen = b""
    async with asyncio.timeout(20):
        async for _, piece in stream.output():
            seen += piece
            if b"ready" in piece:
                await stream.resize(100, 40)
    assert seen.replace(b"\r", b"").endswith(b"ready\n40 100\n")
    assert await stream.exit_code() == 0
    await stream.aclose()


async def test_a_terminal_is_the_controlling_one_and_carries_ctrl_c(box: Box, container: Path) -> None:
    # "ready" comes from the program that is to be interrupted, not from the shell before it starts one: dash 0.5.12
    # loses a SIGINT that reaches its child between vfork and exec, on any terminal.
    script = "tty; sh -c 'echo ready; exec sleep 100'; echo not interrupted"
    stream = await box.execute(container, "sh", "-c", script, stdin=True, tty=True)
    seen = b""
    try:
        async with asyncio.timeout(20):
            async for _, piece in stream.output():
                asked = b"ready" in seen
                seen += piece
                if b"ready" in seen and not asked:
                    await stream.write_stdin(b"\x03")
            assert await stream.exit_code() == 130
        assert b"/dev/pts/" in seen
        assert b"not interrupted" not in seen
    finally:
        await stream.aclose()


async def test_the_end_of_stdin_on_a_terminal_is_ctrl_d(box: Box, container: Path) -> None:
    code, out, _ = await box.run(container, "cat", data=b"line\n", tty=True)
    assert (code, out.replace(b"\r", b"")) == (0, b"line\nline\n")


async def test_a_client_that_goes_takes_the_commands_session_with_it(box: Box, container: Path) -> None:
    script = "echo $$; sh -c 'echo $$; exec sleep 1000' & wait"
    stream = await box.execute(container, "sh", "-c", script)
    pids = await _first_lines(stream, 2)
    await stream.aclose()
    await eventually(lambda: not any(map(proc.identify, pids)), "the session of the command is gone")


async def test_letting_a_command_go_is_complete_even_when_it_is_cancelled(box: Box, container: Path) -> None:
    stream = await box.execute(container, "sh", "-c", "echo $$; exec sleep 1000", stdin=True)
    (pid,) = await _first_lines(stream, 1)
    closing = asyncio.create_task(stream.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    await eventually(lambda: proc.identify(pid) is None, "the command is gone")


async def test_a_client_that_goes_also_ends_a_command_that_ignores_term(box: Box, container: Path) -> None:
    stream = await box.execute(
        container, "sh", "-c", "trap '' TERM; trap : HUP; echo $$; while :; do sleep 1; done"
    )
    pids = await _first_lines(stream, 1)
    await stream.aclose()
    await eventually(lambda: not any(map(proc.identify, pids)), "the stubborn command is gone")


@pytest.mark.parametrize("prefix", ["setsid", "nohup"])
async def test_what_has_left_the_session_lives_on_when_the_client_goes(
    box: Box, container: Path, prefix: str
) -> None:
    script = f"{prefix} sh -c 'echo $$; exec sleep 1000' 2>/dev/null & sleep 1000"
    stream = await box.execute(container, "sh", "-c", script)
    (pid,) = await _first_lines(stream, 1)
    survivor = proc.identify(pid)
    assert survivor is not None
    await stream.aclose()
    shim = running_state(container).shim.pid
    await eventually(
        lambda: (
            not [one for one in proc.descendants(shim) if one != pid and _is_sleep(one, exclude=container)]
        ),
        "the rest of the command is gone",
    )
    assert survivor.is_alive()
    await shims.stop(container, 0)
    await shims.watch(container)
    assert not survivor.is_alive()


async def test_a_command_is_done_when_only_processes_of_other_sessions_hold_its_output(
    box: Box, container: Path
) -> None:
    began = time.monotonic()
    code, out, _ = await box.run(container, "sh", "-c", "setsid sleep 1000 & echo started")
    assert (code, out) == (0, b"started\n")
    assert time.monotonic() - began < 5


async def test_a_command_is_not_done_while_its_background_jobs_write(box: Box, container: Path) -> None:
    code, out, _ = await box.run(container, "sh", "-c", "(sleep 0.2; echo late) & echo early")
    assert (code, out) == (0, b"early\nlate\n")


async def test_background_jobs_with_their_own_output_outlive_a_finished_command(
    box: Box, container: Path
) -> None:
    _, out, _ = await box.run(container, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
    job = proc.identify(int(out))
    assert job is not None
    assert await box.run(container, "true") == (0, b"", b"")
    assert job.is_alive()


async def test_a_command_ends_with_137_when_the_container_is_killed(box: Box, container: Path) -> None:
    stream = await box.execute(container, "sh", "-c", "echo on; exec sleep 1000")
    await _first_lines(stream, 0)
    await shims.stop(container, 0)
    assert (await communicate(stream))[0] == 137
    await stream.aclose()


async def test_many_commands_run_side_by_side(box: Box, container: Path) -> None:
    async def one(number: int) -> tuple[int, bytes, bytes]:
        return await box.run(container, "sh", "-c", f"cat; exit {number}", data=str(number).encode())

    results = await asyncio.gather(*(one(number) for number in range(20)))
    assert results == [(number, str(number).encode(), b"") for number in range(20)]


async def _first_lines(stream: object, count: int) -> list[int]:
    """The numbers that a command prints in its first lines; the stream is not taken to its end."""
    seen = b""
    async with asyncio.timeout(20):
        async for _, piece in stream.output():  # type: ignore[attr-defined]
            seen += piece
            if seen.count(b"\n") >= max(count, 1):
                break
    return [int(line) for line in seen.split()[:count]]


def _is_sleep(pid: int, *, exclude: Path) -> bool:
    main = running_state(exclude).main
    return pid != (main.pid if main else 0) and proc.identify(pid) is not None
