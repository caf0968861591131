"""The life of one container: start, log, exit code, stop, and everything that may be killed around it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from kubesim.kubelet import aftermath, containerfiles, proc, shims, teardown, zygote
from kubesim.kubelet.containerfiles import Exit
from kubesim.kubelet.link import Link

from .conftest import DEADLINE, Box, communicate, eventually, log_text, running_state

pytestmark = pytest.mark.anyio


async def ended(directory: Path) -> Exit:
    """The end of a container, within a bound."""
    async with asyncio.timeout(DEADLINE):
        return await shims.watch(directory)


TREE = "setsid sh -c 'echo $$; exec sleep 1000' & (sh -c 'echo $$; exec sleep 1001' &) ; echo $$; wait; sleep 1000"


async def start_tree(box: Box) -> tuple[Path, list[proc.Identity]]:
    """A container with a main process, an orphan, and one that has left its session."""
    directory = await box.start("main", "sh", "-c", TREE)
    await eventually(lambda: log_text(directory).count("\n") == 3, "three processes run")
    found = [proc.identify(int(pid)) for pid in log_text(directory).split()]
    assert all(found)
    return directory, [process for process in found if process is not None]


async def test_the_exit_code_and_all_output_are_there_when_the_end_is_told(box: Box) -> None:
    directory = await box.start("main", "sh", "-c", "seq 20000; printf unfinished >&2; exit 3")
    end = await ended(directory)
    assert (end.exit_code, end.reason, end.message) == (3, "", "")
    assert log_text(directory) == "".join(f"{number}\n" for number in range(1, 20001)) + "unfinished"


async def test_the_log_has_the_format_of_the_container_runtimes(box: Box) -> None:
    directory = await box.start("main", "sh", "-c", "echo out; echo err >&2")
    await ended(directory)
    for line in (directory / "log").read_text().splitlines():
        stamp, stream, tag, text = line.split(" ")
        assert stamp.endswith("Z")
        assert len(stamp) == 30
        assert (stream, tag, text) in {("stdout", "F", "out"), ("stderr", "F", "err")}


async def test_the_end_of_the_main_process_ends_everything(box: Box) -> None:
    directory, processes = await start_tree(box)
    running_state(directory).main.send(signal.SIGKILL)  # type: ignore[union-attr]
    end = await ended(directory)
    assert end.exit_code == 137
    assert not any(process.is_alive() for process in processes)


async def test_stop_sends_term_and_kills_everything_after_the_grace(box: Box) -> None:
    script = "trap 'echo asked' TERM; setsid sleep 1000 & echo ready; while :; do sleep 0.05; done"
    directory = await box.start("main", "sh", "-c", script)
    await eventually(lambda: "ready" in log_text(directory), "the trap is set")
    await shims.stop(directory, 0.3)
    end = await ended(directory)
    assert end.exit_code == 137
    assert log_text(directory) == "ready\nasked\n"


async def test_a_container_that_ends_on_term_keeps_its_own_exit_code(box: Box) -> None:
    directory = await box.start(
        "main", "sh", "-c", "trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    )
    await eventually(lambda: "ready" in log_text(directory), "the trap is set")
    await shims.stop(directory, 30)
    assert (await ended(directory)).exit_code == 4


async def test_a_second_stop_can_only_shorten_the_grace(box: Box) -> None:
    directory = await box.start("main", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    await eventually(lambda: "ready" in log_text(directory), "the trap is set")
    await shims.stop(directory, 1000)
    await shims.stop(directory, 0)
    async with asyncio.timeout(10):
        assert (await ended(directory)).exit_code == 137


async def test_a_command_that_cannot_be_started_ends_the_container_with_the_reason(box: Box) -> None:
    directory = await box.start("main", "nonesuch")
    end = await ended(directory)
    assert (end.exit_code, end.reason) == (128, "StartError")
    assert end.message == 'exec: "nonesuch": executable file not found in $PATH'


async def test_a_second_start_of_an_attempt_starts_nothing(box: Box) -> None:
    directory = await box.start("main", "sh", "-c", "echo once; sleep 1000")
    assert await box.zygote.start(directory) is None
    await eventually(lambda: log_text(directory), "it has printed")
    assert await box.zygote.start(directory) is None
    assert log_text(directory) == "once\n"
    await shims.stop(directory, 0)
    await ended(directory)
    assert await box.zygote.start(directory) is None
    assert log_text(directory) == "once\n"


async def test_killing_the_shim_ends_the_container_and_says_why(box: Box) -> None:
    directory, processes = await start_tree(box)
    watching = asyncio.ensure_future(ended(directory))
    shim = running_state(directory).shim
    shim.send(signal.SIGKILL)
    end = await watching
    assert (end.exit_code, end.reason) == (137, "ContainerStatusUnknown")
    assert f"shim, pid {shim.pid}) was killed" in end.message
    assert not any(process.is_alive() for process in processes)
    assert proc.marked(str(directory)) == []


async def test_a_shim_that_was_killed_while_nobody_watched_is_found_out(box: Box) -> None:
    directory, processes = await start_tree(box)
    running_state(directory).shim.send(signal.SIGKILL)
    await eventually(lambda: not containerfiles.has_shim(str(directory)), "the shim is gone")
    assert (await ended(directory)).reason == "ContainerStatusUnknown"
    assert not any(process.is_alive() for process in processes)


async def test_an_exec_stream_breaks_without_an_exit_code_when_the_shim_is_killed(box: Box) -> None:
    directory = await box.start("main", "sleep", "1000")
    stream = await box.execute(directory, "sleep", "1000")
    running_state(directory).shim.send(signal.SIGKILL)
    with pytest.raises(ConnectionError, match="before the command's exit code was known"):
        await communicate(stream)
    await stream.aclose()
    await ended(directory)


async def test_killing_the_zygote_touches_no_container_and_the_next_start_has_another_one(box: Box) -> None:
    directory, processes = await start_tree(box)
    old = proc.Identity.from_json(containerfiles.read_json(str(box.root / zygote.FOLDER / zygote.IDENTITY)))
    assert old is not None
    old.send(signal.SIGKILL)
    await eventually(lambda: not old.is_alive(), "the zygote is gone")
    second = await box.start("second", "true")
    assert (await ended(second)).exit_code == 0
    assert all(process.is_alive() for process in processes)
    assert await box.run(directory, "echo", "still here") == (0, b"still here\n", b"")


async def test_the_end_is_known_later_when_nobody_watched(box: Box) -> None:
    directory = await box.start("main", "sh", "-c", "echo last words; exit 9")
    box.close()
    await eventually(lambda: containerfiles.read_exit(str(directory)), "the end is written down")
    assert (await ended(directory)).exit_code == 9
    assert log_text(directory) == "last words\n"


async def test_a_container_whose_folder_is_removed_ends(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, processes = await start_tree(box)
    aftermath_folder = box.root / "moved"
    directory.rename(aftermath_folder)
    await eventually(lambda: not any(process.is_alive() for process in processes), "the container has ended")


async def test_a_shim_that_does_not_answer_is_ended_by_force(box: Box) -> None:
    directory, processes = await start_tree(box)
    shim = running_state(directory).shim
    shim.send(signal.SIGSTOP)
    end = await asyncio.to_thread(aftermath.end_by_force, str(directory))
    assert end.reason == "ContainerStatusUnknown"
    assert not any(process.is_alive() for process in [*processes, shim])


async def test_a_shim_survives_requests_that_it_does_not_understand(box: Box) -> None:
    directory = await box.start("main", "sleep", "1000")
    with await Link.open(directory, containerfiles.SOCKET) as link:
        for message in (
            {"op": "from the future"},
            {"op": "log"},
            {"op": "exec"},
            {"op": "stop", "grace": "soon"},
        ):
            assert "error" in await link.ask(message, 5)
    assert await box.run(directory, "echo", "alive") == (0, b"alive\n", b"")


async def test_a_shim_that_is_asked_to_end_ends_its_container_first(box: Box) -> None:
    directory = await box.start(
        "main", "sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    )
    await eventually(lambda: "ready" in log_text(directory), "the trap is set")
    running_state(directory).shim.send(signal.SIGTERM)
    assert (await ended(directory)).exit_code == 0
    assert log_text(directory) == "ready\nbye\n"


async def test_teardown_ends_zygote_shims_and_containers_with_their_grace(box: Box) -> None:
    polite = await box.start(
        "polite", "sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    )
    await eventually(lambda: "ready" in log_text(polite), "the trap is set")
    _, processes = await start_tree(box)
    assert await asyncio.to_thread(teardown.stop_all, box.root, grace=0.5) == []
    assert log_text(polite) == "ready\nbye\n"
    assert not any(process.is_alive() for process in processes)
    assert proc.with_arguments("kubesim.kubelet.zygote", str(box.root)) == []
    assert teardown.stop_all(box.root) == []


async def test_teardown_finds_what_was_left_when_everything_else_was_killed_and_damaged(box: Box) -> None:
    directory, processes = await start_tree(box)
    for process in proc.with_arguments("kubesim.kubelet.zygote", str(box.root)):
        process.send(signal.SIGKILL)
    for name in (containerfiles.SPEC, containerfiles.STATE):
        (directory / name).write_bytes(b"\x00garbage")
    os.unlink(box.root / zygote.FOLDER / zygote.IDENTITY)
    assert any(process.is_alive() for process in processes)
    assert teardown.stop_all(box.root, grace=0.2) == []
    assert not any(process.is_alive() for process in processes)


def test_teardown_of_nothing_is_nothing(tmp_path: Path) -> None:
    assert teardown.stop_all(tmp_path / "none") == []


async def test_an_attached_client_sees_output_from_now_on_and_feeds_stdin(box: Box) -> None:
    directory = await box.start(
        "main",
        "sh",
        "-c",
        "while read line; do echo got $line; done; echo end >&2",
        stdin=True,
        stdin_once=True,
    )
    stream = await shims.attach(directory, stdin=True, stdout=True, stderr=True, tty=False)
    assert await communicate(stream, b"one\ntwo\n") == (0, b"got one\ngot two\n", b"end\n")
    await stream.aclose()
    assert (await ended(directory)).exit_code == 0


async def test_a_container_with_a_terminal_can_be_attached_to_and_resized(box: Box) -> None:
    directory = await box.start("main", "sh", "-c", "read line; stty size; echo $line", stdin=True, tty=True)
    stream = await shims.attach(directory, stdin=True, stdout=True, stderr=False, tty=True)
    await stream.resize(77, 33)
    await stream.write_stdin(b"hello\n")
    seen = b"".join([piece async for _, piece in stream.output()])
    assert seen.replace(b"\r", b"").endswith(b"33 77\nhello\n")
    await stream.aclose()
    assert (await ended(directory)).exit_code == 0


async def test_an_attached_client_that_does_not_read_holds_nobody_up(box: Box) -> None:
    directory = await box.start(
        "main", "sh", "-c", "read go; head -c 8000000 /dev/zero | tr '\\0' x; echo", stdin=True
    )
    idle = await Link.open(directory, containerfiles.SOCKET)
    read_end, write_end = os.pipe()
    idle.send({"op": "attach"}, [write_end, write_end])
    _, (way_in,) = await idle.answer(5)
    os.write(way_in, b"go\n")
    assert (await ended(directory)).exit_code == 0
    assert len(log_text(directory)) == 8_000_001
    idle.close()
    for descriptor in (read_end, write_end, way_in):
        os.close(descriptor)
