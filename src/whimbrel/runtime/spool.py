"""Jobs on one node: prepare, start and follow, read, cancel; each is one exec.

A job is a directory in the spool of the node (`$HOME/.whimbrel/jobs/ID`): script, environment, log, who runs it,
exit code. Its script starts at most once, whatever is asked how often, so that every request here may simply be
repeated when a stream breaks in the middle. The processes of a job do not depend on any stream.

Which job runs when and where is decided by `whimbrel.jobs`; several nodes at once are `gang`'s.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from whimbrel.infra.base import Node
from whimbrel.model.errors import InfraRefused, InvalidTask, JobNotFound, NodeLost, Unreachable
from whimbrel.runtime import framing
from whimbrel.runtime.conversation import Result, converse, run
from whimbrel.runtime.shell import load

__all__ = [
    "JobFiles", "LogReader", "Result", "State", "cancel_job", "follow_job", "prepare_job", "read_log", "run",
]  # fmt: skip

FOLLOW_IDLE = 20.0  # the node gives a sign of life every 5 s
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}\Z")
_FIELDS = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFiles:
    """What a node needs to run a job."""

    id: str  # "7", "setup-<request>"
    script: str  # for bash (sh where there is none)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the node says of a job."""

    job_id: str
    prepared: bool = False
    started: bool = False  # its script was started, or never will be (then `cancelled` with an exit code)
    running: bool = False
    exit_code: int | None = None
    lost: bool = False  # it was started, is not running and has left no exit code: how it ended is not known
    cancelled: bool = False  # cancelling was asked for
    started_at: float | None = None  # by the node's clock
    ended_at: float | None = None
    log_bytes: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.exit_code is not None or self.lost

    @property
    def signal(self) -> int | None:
        """The signal that ended it, as far as a shell can tell (128 + signal)."""
        code = self.exit_code or 0
        return code - 128 if 128 < code <= 192 else None


def parse_states(text: str) -> Iterator[State]:
    """The states in the lines that state.sh prints; other lines are not ours."""
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) != _FIELDS or fields[0] != "state":
            continue
        _, job_id, prepared, started, running, code, lost, cancelled, begun, ended, size = fields
        yield State(
            job_id=job_id,
            prepared=prepared == "1",
            started=started == "1",
            running=running == "1",
            exit_code=None if code == "-" else int(code),
            lost=lost == "1",
            cancelled=cancelled == "1",
            started_at=_number(begun),
            ended_at=_number(ended),
            log_bytes=int(size),
        )


def _number(text: str) -> float | None:
    return float(text) if text.isdecimal() else None


async def prepare_job(node: Node, job: JobFiles, *, timeout: float = 8.0) -> None:
    """Put the job's files on the node. Nothing starts. A job that has been started is left as it is."""
    script, data = _preparation(job)
    (await run(node, f"{_shell('job')}\n{script}", data=data, timeout=timeout)).check("preparing a job", node)


async def cancel_job(node: Node, job_id: str, *, grace: float = 10.0, timeout: float | None = None) -> State:
    """TERM to all processes of the job, KILL after `grace` seconds; a job that was not started never will be."""
    body = f"{_shell('state', 'cancel')}\nw_cancel {_id(job_id)} {max(0, round(grace))}"
    result = await run(node, body, timeout=grace + 15.0 if timeout is None else timeout)
    return _only_state(result.check(f"cancelling job {job_id}", node), node)


class LogReader:
    """`async for offset, data in reader`: the pieces of a log, each with the offset of its first byte.

    `offset` is always where to go on: iterating again, after an error, does so. `state` is what the node said
    last (after a follow has ended: how the job ended).
    """

    def __init__(
        self,
        node: Node,
        job: str | JobFiles,
        *,
        offset: int,
        limit: int | None = None,
        follow: bool = False,
        start: bool = False,
        idle: float = FOLLOW_IDLE,
        patience: float = 0.0,
    ) -> None:
        self.node = node
        self.offset = offset
        self.state: State | None = None
        self.started = asyncio.Event()  # set when the node has said that the job was started
        self._job = job
        self._limit = limit
        self._follow = follow
        self._start = start
        self._idle = idle
        self._patience = patience

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        return self.pieces()

    async def pieces(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """Goes on by itself after a broken stream, until nothing has been heard for `patience` seconds."""
        heard = time.monotonic()
        pause = 0.05
        while True:
            try:
                async with aclosing(self._once()) as pieces:
                    async for piece in pieces:
                        heard, pause = time.monotonic(), 0.05
                        if piece:
                            self.offset += len(piece)
                            yield self.offset - len(piece), piece
                if self._complete():
                    return
            except (NodeLost, Unreachable):
                if time.monotonic() + pause - heard >= self._patience:
                    raise
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)

    def _complete(self) -> bool:
        state = self.state
        if state is None:
            raise NodeLost(f"node {self.node.name} did not say how job {_id(self._job)} is")
        if not self._follow or self._limit is not None or not state.prepared:
            return True
        return (state.ended or not state.started) and self.offset >= state.log_bytes

    async def _once(self) -> AsyncGenerator[bytes, None]:
        """The pieces of one stream; an empty one is a sign of life."""
        script, data = self._request()
        said = b""
        async with (
            converse(self.node, script, data=data, idle=self._idle) as talk,
            aclosing(talk.pieces()) as pieces,
        ):
            async for kind, piece in pieces:
                if kind == framing.STDOUT:
                    yield piece
                    continue
                said += piece
                if b"started\n" in said:
                    self.started.set()
                yield b""
        for state in parse_states(said.decode("utf-8", "replace")):
            self.state = state
        if talk.exit_code == 44:
            raise JobNotFound(f"job {_id(self._job)} has not been prepared on node {self.node.name}")
        if talk.exit_code != 0:
            reason = said.decode("utf-8", "replace").strip()
            raise InfraRefused(f"job {_id(self._job)} on node {self.node.name}: {reason or talk.exit_code}")

    def _request(self) -> tuple[str, bytes]:
        job_id, data = _id(self._job), b""
        if not self._follow:
            verb = f"w_read {job_id} {self.offset} {'-' if self._limit is None else self._limit}"
            return f"{_shell('state', 'log')}\n{verb}", data
        verb = f"w_follow {job_id} {self.offset}"
        if not self._start or self.started.is_set():
            return f"{_shell('state', 'log')}\n{verb}", data
        begin, data = _starting(self._job)
        return f"{_shell('job', 'state', 'log')}\n{begin} || exit\necho started >&2\n{verb}", data


def read_log(
    node: Node,
    job_id: str,
    *,
    offset: int = 0,
    limit: int | None = None,
    follow: bool = False,
    idle: float = FOLLOW_IDLE,
    patience: float = 0.0,
) -> LogReader:
    """The log from `offset` on: what there is (at most `limit` bytes), or, with `follow`, until the job has ended
    and everything was read."""
    return LogReader(node, job_id, offset=offset, limit=limit, follow=follow, idle=idle, patience=patience)


def follow_job(
    node: Node, job: str | JobFiles, *, idle: float = FOLLOW_IDLE, patience: float = 0.0
) -> LogReader:
    """Start a job (a prepared one by its id; by its files, prepare it too) and follow its log from the beginning:
    all in one exec. `started` is set when it runs."""
    return LogReader(node, job, offset=0, follow=True, start=True, idle=idle, patience=patience)


def _shell(*names: str) -> str:
    return load("base", *names)


def _id(job: str | JobFiles) -> str:
    job_id = job.id if isinstance(job, JobFiles) else job
    if not _ID.match(job_id):
        raise InvalidTask(f"{job_id!r} cannot be the id of a job on a node")
    return job_id


def _preparation(job: JobFiles) -> tuple[str, bytes]:
    try:
        env = framing.exports(job.env)
    except framing.NotText as error:
        raise InvalidTask(f"the environment of job {job.id}: {error}") from None
    if "\0" in job.script:
        raise InvalidTask(f"the script of job {job.id} contains a NUL byte")
    script = job.script.encode("utf-8", "surrogateescape")
    data = env.encode("utf-8", "surrogateescape") + script
    return f"w_prepare {_id(job)} {env.count(chr(10))} {len(script)}", data


def _starting(job: str | JobFiles) -> tuple[str, bytes]:
    runner = load("runner")
    runner_id = hashlib.sha256(runner.encode()).hexdigest()[:8]
    begin = f"w_runner_id={runner_id}\nw_runner={framing.quote(runner)}\n"
    if isinstance(job, JobFiles):
        prepare, data = _preparation(job)
        return f"{begin}{prepare} && w_start {_id(job)}", data
    return f"{begin}w_start {_id(job)}", b""


def _only_state(result: Result, node: Node) -> State:
    for state in parse_states(result.stdout.decode("utf-8", "replace")):
        return state
    raise NodeLost(f"node {node.name} did not say how the job is")
