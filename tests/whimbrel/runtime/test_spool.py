"""Jobs on a node: started at most once, independent of every stream, followed to the end, ended when asked."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from whimbrel.model.errors import InvalidTask, JobNotFound, NodeLost
from whimbrel.runtime.spool import (
    JobFiles,
    LogReader,
    State,
    cancel_job,
    follow_job,
    prepare_job,
    read_log,
)

from .driving import job_states, start_job
from .local_node import LocalNode, eventually, make_path, processes_of

pytestmark = pytest.mark.anyio


async def collect(reader: LogReader) -> bytes:
    """Everything that a reader gives, which must be gapless."""
    got = b""
    at = reader.offset
    async for offset, piece in reader:
        assert offset == at
        at += len(piece)
        got += piece
    return got


async def until(node: LocalNode, job_id: str, wanted: str) -> State:
    """Wait, with a bound, until the job's log holds a text."""
    async with asyncio.timeout(20):
        while True:
            log = node.home / ".whimbrel/jobs" / job_id / "log"
            if log.exists() and wanted in log.read_text():
                return (await job_states(node, [job_id]))[job_id]
            await asyncio.sleep(0.02)


async def test_one_exec_prepares_starts_and_follows_to_the_end(node: LocalNode) -> None:
    reader = follow_job(
        node, JobFiles(id="1", script="echo hello $A\nsleep 0.2\necho bye\nexit 7\n", env={"A": "it's"})
    )
    log = await collect(reader)
    assert log.endswith(b"hello it's\nbye\n")
    assert node.execs == 1
    state = reader.state
    assert state
    assert (state.exit_code, state.running, state.lost, state.ended) == (7, False, False, True)
    assert reader.started.is_set()
    assert state.started_at is not None
    assert state.ended_at is not None
    assert state.log_bytes == len(log)


async def test_output_is_delivered_while_the_job_runs(node: LocalNode) -> None:
    go = node.home / "go"
    script = f"echo first\nuntil [ -e {go} ]; do sleep 0.05; done\necho second\n"
    got = b""
    async with asyncio.timeout(20):
        async for _, piece in follow_job(node, JobFiles(id="1", script=script)):
            got += piece
            if b"first\n" in got and not go.exists():
                assert b"second" not in got
                go.touch()
    assert got.endswith(b"first\nsecond\n")


async def test_a_job_does_not_depend_on_the_stream_that_started_it(node: LocalNode) -> None:
    go = node.home / "go"
    script = f"echo up\nuntil [ -e {go} ]; do sleep 0.05; done\necho done\n"
    state = await start_job(node, JobFiles(id="1", script=script))
    assert state.started
    await until(node, "1", "up")
    for stream in node.streams:  # whatever was on the other end of them is gone
        assert stream.process.returncode is not None
    go.touch()
    log = await collect(read_log(node, "1", follow=True))
    assert log.endswith(b"up\ndone\n")


async def test_starting_again_does_not_run_the_script_again(node: LocalNode) -> None:
    job = JobFiles(id="1", script="echo x >>$HOME/runs\n")
    await asyncio.gather(*(start_job(node, job) for _ in range(5)))
    await collect(read_log(node, "1", follow=True))
    await start_job(node, JobFiles(id="1", script="echo other >>$HOME/runs\n"))
    assert (node.home / "runs").read_text() == "x\n"


async def test_a_stream_that_breaks_in_the_middle_of_start_is_asked_again(node: LocalNode) -> None:
    node.break_after = [0, 5]
    state = await start_job(node, JobFiles(id="1", script="echo x >>$HOME/runs\n"), timeout=20)
    assert state.started
    assert node.execs == 3
    await collect(read_log(node, "1", follow=True))
    assert (node.home / "runs").read_text() == "x\n"


async def test_half_a_script_is_never_run(node: LocalNode) -> None:
    await prepare_job(node, JobFiles(id="0", script="true\n"))
    whole = JobFiles(id="1", script="echo whole\n" * 100)
    from whimbrel.runtime.shell import load
    from whimbrel.runtime.spool import run

    result = await run(
        node, f"{load('base', 'job')}\nw_prepare 1 0 {len(whole.script)}", data=b"echo half\n", timeout=10
    )
    assert result.exit_code == 3
    with pytest.raises(JobNotFound):
        await start_job(node, "1")


async def test_preparing_starts_nothing(node: LocalNode) -> None:
    await prepare_job(node, JobFiles(id="1", script="echo x >>$HOME/runs\n", env={"S": "secret"}))
    state = (await job_states(node))["1"]
    assert (state.prepared, state.started, state.ended) == (True, False, False)
    assert not (node.home / "runs").exists()
    assert (node.home / ".whimbrel/jobs/1/env").stat().st_mode & 0o777 == 0o600


async def test_the_environment_reaches_the_job_and_does_not_stay_on_the_node(node: LocalNode) -> None:
    value = "two\nlines 'quoted' \"double\" $HOME `x` \\ ü"
    reader = follow_job(node, JobFiles(id="1", script='printf "<%s>" "$V"\nexit 0', env={"V": value}))
    assert f"<{value}>".encode() in await collect(reader)
    assert (node.home / ".whimbrel/jobs/1/env").read_text() == ""


async def test_a_job_runs_in_the_working_directory_even_when_it_changes_home(node: LocalNode) -> None:
    reader = follow_job(node, JobFiles(id="1", script="pwd\n", env={"HOME": "/nowhere"}))
    assert (await collect(reader)).decode().splitlines()[-1] == str(node.home / "whimbrel_workdir")
    assert os.readlink(node.home / "sky_workdir") == "whimbrel_workdir"


async def test_a_job_can_be_interrupted_from_within(node: LocalNode) -> None:
    # a process that was started with & would have SIGINT ignored; needs env --default-signal where there is none
    reader = follow_job(node, JobFiles(id="1", script='sh -c "kill -INT \\$\\$; sleep 0.1; echo survived"\n'))
    assert b"survived" not in await collect(reader)


async def test_the_script_runs_under_bash_where_there_is_one_else_under_sh_with_a_word(
    node: LocalNode, shell: str
) -> None:
    log = await collect(follow_job(node, JobFiles(id="1", script='echo "bash: ${BASH_VERSION:-none}"\n')))
    if shell == "busybox":
        assert log == b"whimbrel: this node has no bash; the script runs under sh.\nbash: none\n"
    else:
        assert b"no bash" not in log
        assert b"none" not in log


async def test_a_death_by_signal_is_told(node: LocalNode) -> None:
    reader = follow_job(node, JobFiles(id="1", script="kill -SEGV $$\n"))
    await collect(reader)
    assert reader.state
    assert (reader.state.exit_code, reader.state.signal) == (139, signal.SIGSEGV)


async def test_cancel_sends_term_and_waits_for_an_orderly_end(node: LocalNode) -> None:
    script = "trap 'echo saved; exit 5' TERM\necho up\nwhile :; do sleep 0.05; done\n"
    await start_job(node, JobFiles(id="1", script=script))
    await until(node, "1", "up")
    state = await cancel_job(node, "1", grace=10)
    assert (state.exit_code, state.cancelled, state.running) == (5, True, False)
    assert b"saved\n" in await collect(read_log(node, "1"))


async def test_cancel_kills_what_ignores_term_with_all_its_descendants(node: LocalNode) -> None:
    script = (
        "trap '' TERM\n(setsid sh -c 'trap \"\" TERM; echo daemon; while :; do sleep 0.1; done' &)\n"
        "sleep 100 &\necho up\nwhile :; do sleep 0.1; done\n"
    )
    await start_job(node, JobFiles(id="1", script=script))
    await until(node, "1", "up")
    await until(node, "1", "daemon")
    state = await cancel_job(node, "1", grace=1)
    assert (state.exit_code, state.cancelled) == (137, True)
    assert [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(node.home / ".whimbrel")] == []


async def test_cancel_does_not_touch_another_job_whose_id_begins_the_same(node: LocalNode) -> None:
    for job_id in ("1", "11"):
        await start_job(node, JobFiles(id=job_id, script="echo up\nsleep 100\n"))
        await until(node, job_id, "up")
    await cancel_job(node, "1", grace=5)
    states = await job_states(node, ["1", "11"])
    assert states["1"].ended
    assert states["11"].running
    await cancel_job(node, "11", grace=5)


async def test_a_job_that_was_cancelled_before_its_start_never_starts(node: LocalNode) -> None:
    job = JobFiles(id="1", script="echo x >>$HOME/runs\n")
    assert (await cancel_job(node, "1")).cancelled
    state = await start_job(node, job)
    assert (state.exit_code, state.cancelled, state.ended) == (143, True, True)
    assert not (node.home / "runs").exists()


async def test_cancelling_twice_changes_nothing(node: LocalNode) -> None:
    await start_job(node, JobFiles(id="1", script="echo up\nsleep 100\n"))
    await until(node, "1", "up")
    first = await cancel_job(node, "1", grace=5)
    again = await cancel_job(node, "1", grace=5)
    assert first.exit_code == again.exit_code == 143


async def test_a_job_that_has_ended_by_itself_is_not_called_cancelled(node: LocalNode) -> None:
    await collect(follow_job(node, JobFiles(id="1", script="exit 0\n")))
    state = await cancel_job(node, "1")
    assert (state.exit_code, state.cancelled) == (0, False)


async def test_a_runner_that_was_killed_is_reported_as_lost_and_not_run_again(node: LocalNode) -> None:
    script = "echo x >>$HOME/runs\necho up\nsleep 100\n"
    await start_job(node, JobFiles(id="1", script=script))
    await until(node, "1", "up")
    pid = int((node.home / ".whimbrel/jobs/1/pid").read_text().split()[0])
    leader = int((node.home / ".whimbrel/jobs/1/leader").read_text())
    reader = read_log(node, "1", follow=True)
    following = asyncio.create_task(collect(reader))
    os.kill(pid, signal.SIGKILL)
    os.killpg(leader, signal.SIGKILL)
    async with asyncio.timeout(20):
        await following
    assert reader.state
    assert (reader.state.lost, reader.state.ended, reader.state.exit_code) == (True, True, None)
    await start_job(node, "1")
    assert (node.home / "runs").read_text() == "x\n"


async def test_a_pid_that_now_belongs_to_another_process_is_not_taken_for_the_job(node: LocalNode) -> None:
    await collect(follow_job(node, JobFiles(id="1", script="true\n")))
    spool = node.home / ".whimbrel/jobs/1"
    _, started, boot, when = (spool / "pid").read_text().split()
    (spool / "pid").write_text(f"{os.getpid()} {started} {boot} {when}\n")
    (spool / "exit").unlink()
    assert (await job_states(node, ["1"]))["1"].lost


async def test_following_goes_on_at_its_offset_when_streams_break(node: LocalNode) -> None:
    script = "for i in $(seq 1 300); do echo line $i; done\n"
    node.break_after = [200, 0, 150, 1000]
    reader = follow_job(node, JobFiles(id="1", script=script), patience=20)
    log = await collect(reader)
    assert log.decode().splitlines()[-300:] == [f"line {i}" for i in range(1, 301)]
    assert node.execs == 5


async def test_without_patience_the_reader_can_be_iterated_again(node: LocalNode) -> None:
    await collect(follow_job(node, JobFiles(id="1", script="seq 1 100\n")))
    node.break_after = [50]
    reader = read_log(node, "1", follow=True)
    got = b""

    async def part() -> None:
        nonlocal got
        async for _, piece in reader:
            got += piece

    with pytest.raises(NodeLost):
        await part()
    assert len(got) == 50
    got += await collect(reader)
    assert got.endswith(b"99\n100\n")


async def test_a_log_can_be_read_in_parts(node: LocalNode) -> None:
    await collect(follow_job(node, JobFiles(id="1", script="printf 0123456789\n")))
    size = (await job_states(node, ["1"]))["1"].log_bytes
    assert await collect(read_log(node, "1", offset=size - 7, limit=4)) == b"3456"
    assert await collect(read_log(node, "1", offset=size - 2)) == b"89"
    assert await collect(read_log(node, "1", offset=size)) == b""


async def test_a_large_binary_log_arrives_whole(node: LocalNode) -> None:
    reader = follow_job(node, JobFiles(id="1", script="head -c 3000000 /dev/urandom | tee $HOME/copy\n"))
    log = await collect(reader)
    assert log[-3_000_000:] == (node.home / "copy").read_bytes()


async def test_the_follower_ends_when_its_reader_has_gone(node: LocalNode) -> None:
    await start_job(node, JobFiles(id="1", script="while :; do sleep 0.05; echo tick; done\n"))
    reader = read_log(node, "1", follow=True)
    async for _ in reader:
        break
    del reader
    await eventually(lambda: not any(b"tail" in command_of(pid) for pid in processes_of(node.home)))
    await cancel_job(node, "1", grace=2)


def command_of(pid: int) -> bytes:
    """The command line of a process that may be gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_one_exec_tells_the_states_of_all_jobs(node: LocalNode) -> None:
    for job_id in ("1", "2", "setup-abc"):
        await prepare_job(node, JobFiles(id=job_id, script="exit 4\n"))
    await collect(follow_job(node, "2"))
    before = node.execs
    states = await job_states(node)
    assert node.execs == before + 1
    assert set(states) == {"1", "2", "setup-abc"}
    assert states["2"].exit_code == 4
    assert await job_states(node, []) == {}
    assert (await job_states(node, ["9"]))["9"] == State(job_id="9")


async def test_following_a_job_that_is_not_there_says_so(node: LocalNode) -> None:
    with pytest.raises(JobNotFound):
        await collect(follow_job(node, "9"))
    reader = read_log(node, "9", follow=True)
    assert await collect(reader) == b""
    assert reader.state == State(job_id="9")


@pytest.mark.parametrize("job_id", ["", "../x", "a b", ".hidden", "a/b", "x" * 200, "a;b"])
async def test_an_id_that_is_no_file_name_is_refused(tmp_path: Path, job_id: str) -> None:
    node = LocalNode(tmp_path, "/bin")
    with pytest.raises(InvalidTask):
        await prepare_job(node, JobFiles(id=job_id, script=""))
    assert node.execs == 0


@pytest.mark.parametrize("missing", [["setsid"], ["mkfifo"], ["setsid", "mkfifo"]])
async def test_a_node_without_some_tool_has_another_way(scratch: Path, missing: list[str]) -> None:
    home = scratch / "bare"
    home.mkdir()
    node = LocalNode(home, make_path(scratch / "barebin", "dash", without=missing))
    job = JobFiles(id="1", script="echo hello\nsleep 0.1\necho bye\nexit 3\n")
    reader = follow_job(node, job)
    assert (await collect(reader)).endswith(b"hello\nbye\n")
    assert reader.state
    assert reader.state.exit_code == 3
    await start_job(node, JobFiles(id="2", script="trap '' TERM\necho up\nwhile :; do sleep 0.1; done\n"))
    await until(node, "2", "up")
    state = await cancel_job(node, "2", grace=1)
    assert state.exit_code == 137
    assert processes_of(home / ".whimbrel") == []
