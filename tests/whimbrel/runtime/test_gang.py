"""One job on several nodes: all or none, and one failure ends the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from whimbrel.model.errors import InfraError, InfraRefused, NodeLost
from whimbrel.runtime.gang import GangEnd, cancel_gang, follow_gang, run_gang
from whimbrel.runtime.spool import JobFiles

from .driving import job_states
from .local_node import LocalNode, make_path

pytestmark = pytest.mark.anyio


class Log:
    """What came of each rank."""

    def __init__(self) -> None:
        self.text: dict[int, bytes] = {}
        self.came = asyncio.Event()

    async def take(self, rank: int, offset: int, piece: bytes) -> None:
        """An `OnOutput`."""
        assert offset == len(self.text.get(rank, b""))
        self.text[rank] = self.text.get(rank, b"") + piece
        self.came.set()

    async def until(self, rank: int, wanted: bytes) -> None:
        """Wait, with a bound."""
        async with asyncio.timeout(20):
            while wanted not in self.text.get(rank, b""):
                self.came.clear()
                await self.came.wait()


async def never(rank: int, error: InfraError) -> bool:
    """No node is ever given up."""
    return False


async def always(rank: int, error: InfraError) -> bool:
    """Every node is given up at its first failure."""
    return True


@pytest.fixture
def nodes(scratch: Path) -> list[LocalNode]:
    """Two nodes."""
    path = make_path(scratch / "bin", "dash")
    made = []
    for rank in range(2):
        home = scratch / f"n{rank}"
        home.mkdir()
        made.append(LocalNode(home, path, f"node-{rank}"))
    return made


def files(*scripts: str) -> list[JobFiles]:
    """One job with a script per rank."""
    return [JobFiles(id="1", script=script) for script in scripts]


async def test_all_ranks_run_and_end(nodes: list[LocalNode]) -> None:
    log, started = Log(), asyncio.Event()

    async def on_started() -> None:
        started.set()

    end = await run_gang(
        nodes, files("echo a\n", "echo b\n"), log.take, given_up=never, on_started=on_started
    )
    assert end.succeeded
    assert end.first_failure is None
    assert log.text == {0: b"a\n", 1: b"b\n"}
    assert started.is_set()
    assert [node.execs for node in nodes] == [2, 2]  # prepare on all, then start and follow


async def test_a_single_node_needs_one_exec(nodes: list[LocalNode]) -> None:
    log = Log()
    end = await run_gang(nodes[:1], files("echo a\n"), log.take, given_up=never)
    assert end.succeeded
    assert nodes[0].execs == 1


async def test_one_failure_ends_the_others(nodes: list[LocalNode]) -> None:
    log = Log()
    async with asyncio.timeout(30):
        end = await run_gang(
            nodes, files("sleep 100\n", "sleep 0.2; exit 9\n"), log.take, given_up=never, grace=5
        )
    assert end.first_failure == 1
    assert [state.exit_code for state in end.states] == [143, 9]
    assert not end.succeeded


async def test_nothing_starts_when_one_node_cannot_be_prepared(nodes: list[LocalNode]) -> None:
    nodes[1].break_after = [0] * 100
    with pytest.raises(NodeLost):
        await run_gang(nodes, files("echo x >>$HOME/ran\n", "true\n"), Log().take, given_up=never)
    assert not (nodes[0].home / "ran").exists()
    assert not (await job_states(nodes[0]))["1"].started


async def test_a_rank_that_cannot_start_ends_the_others_and_never_starts_later(
    nodes: list[LocalNode],
) -> None:
    log = Log()

    class Refusing(LocalNode):
        """Refuses its second exec: the start."""

        def exec(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            if self.execs == 1:
                self.execs += 1
                raise InfraRefused("the disk is full")
            return super().exec(*args, **kwargs)  # type: ignore[arg-type]

    bad = Refusing(nodes[1].home, nodes[1].path, "node-1")
    async with asyncio.timeout(30):
        end = await run_gang(
            [nodes[0], bad], files("sleep 100\n", "echo x >>$HOME/ran\n"), log.take, given_up=never, grace=5
        )
    assert end.first_failure == 1
    assert isinstance(end.errors[1], InfraRefused)
    assert [state.exit_code for state in end.states] == [143, 143]
    assert not (bad.home / "ran").exists()


async def test_a_broken_stream_is_taken_up_again_without_a_gap(nodes: list[LocalNode]) -> None:
    log = Log()
    nodes[0].break_after = [100, 0, 200]
    end = await run_gang(nodes[:1], files("seq 1 500\n"), log.take, given_up=never)
    assert end.succeeded
    assert log.text[0] == "".join(f"{i}\n" for i in range(1, 501)).encode()


async def test_a_node_that_is_given_up_ends_the_others(nodes: list[LocalNode]) -> None:
    log = Log()
    lost = asyncio.Event()

    async def given_up(rank: int, error: InfraError) -> bool:
        lost.set()
        return True

    running = asyncio.create_task(
        run_gang(
            nodes, files("echo up\nsleep 100\n", "echo up\nsleep 100\n"), log.take, given_up=given_up, grace=5
        )
    )
    await log.until(0, b"up")
    await log.until(1, b"up")
    nodes[1].break_after = [0] * 1000
    for stream in nodes[1].streams:
        stream.snap()
    async with asyncio.timeout(30):
        end = await running
    assert lost.is_set()
    assert end.first_failure == 1
    assert end.states[0].exit_code == 143
    assert end.states[1].lost
    assert isinstance(end.errors[1], NodeLost)
    nodes[1].break_after = []
    await cancel_gang([nodes[1]], "1", grace=2)


async def test_a_node_that_is_only_out_of_reach_does_not_end_the_job(nodes: list[LocalNode]) -> None:
    log = Log()
    go = nodes[0].home / "go"
    asked = asyncio.Event()

    async def given_up(rank: int, error: InfraError) -> bool:
        asked.set()
        return False

    running = asyncio.create_task(
        run_gang(
            nodes[:1],
            files(f"echo up\nuntil [ -e {go} ]; do sleep 0.05; done\necho end\n"),
            log.take,
            given_up=given_up,
        )
    )
    await log.until(0, b"up")
    nodes[0].break_after = [0, 0, 0]
    for stream in nodes[0].streams:
        stream.snap()
    async with asyncio.timeout(20):
        await asked.wait()
    go.touch()
    async with asyncio.timeout(20):
        end = await running
    assert end.succeeded
    assert log.text[0] == b"up\nend\n"


async def test_a_restarted_server_follows_from_its_offsets(nodes: list[LocalNode]) -> None:
    log = Log()
    script = "echo one\nuntil [ -e $HOME/go ]; do sleep 0.05; done\necho two\n"
    first = asyncio.create_task(run_gang(nodes, files(script, script), log.take, given_up=never))
    await log.until(0, b"one")
    await log.until(1, b"one")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    offsets = [len(log.text[0]), len(log.text[1])]
    second = asyncio.create_task(follow_gang(nodes, "1", offsets, log.take, given_up=never))
    for node in nodes:
        (node.home / "go").touch()
    async with asyncio.timeout(20):
        end = await second
    assert end.succeeded
    assert log.text == {0: b"one\ntwo\n", 1: b"one\ntwo\n"}


async def test_cancel_ends_all_ranks_and_the_follower_sees_it(nodes: list[LocalNode]) -> None:
    log = Log()
    running = asyncio.create_task(
        run_gang(
            nodes, files("echo up\nsleep 100\n", "echo up\nsleep 100\n"), log.take, given_up=never, grace=5
        )
    )
    await log.until(0, b"up")
    await log.until(1, b"up")
    answers = await cancel_gang(nodes, "1", grace=5)
    async with asyncio.timeout(20):
        end: GangEnd = await running
    assert [getattr(answer, "exit_code", None) for answer in answers] == [143, 143]
    assert all(state.cancelled for state in end.states)


async def test_ending_the_others_is_tried_until_it_works(nodes: list[LocalNode]) -> None:
    log = Log()
    nodes[0].break_after = [None, None, 0, 0]  # prepare, follow, then two attempts to cancel
    async with asyncio.timeout(30):
        end = await run_gang(nodes, files("sleep 100\n", "exit 1\n"), log.take, given_up=never, grace=5)
    assert end.states[0].exit_code == 143
    assert nodes[0].execs == 5
