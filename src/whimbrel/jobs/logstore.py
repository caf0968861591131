"""What jobs printed, kept by the server (law 9): appended by the keeper of a cluster, read and followed by
anybody.

`logs/<cluster uid>/<job id>/` holds `rank-N.log`, the bytes of each rank as they came, and `run.log`, what
people read: the merged lines of all ranks, or, for a job on one node, the very same file under both names.
The length of `rank-N.log` is the offset at which following that rank goes on after a restart: nothing else
has to be recorded.

Files are read and written in threads of their own, so that a slow disk costs only logs. Who follows takes
`JobLog.next()`, reads, and waits for it. When a log is old enough to be forgotten is not decided here.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from whimbrel.jobs.merge import Merger, merged_so_far
from whimbrel.jobs.pulse import Pulses

T = TypeVar("T")

_Utf8 = codecs.getincrementaldecoder("utf-8")

PIECE = 64 * 1024
"""Bytes of one read."""


class LogStore:
    """All logs below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pulses = Pulses()
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="whimbrel-logs")

    def job(self, cluster_uid: str, job_id: int | str) -> JobLog:
        """The log of one job, or of a setup (by its id on the nodes). Nothing is opened."""
        return JobLog(self, self._root / cluster_uid / str(job_id), f"{cluster_uid}/{job_id}")

    async def forget(self, cluster_uid: str) -> None:
        """Delete all logs of a cluster."""
        await self.in_thread(lambda: shutil.rmtree(self._root / cluster_uid, ignore_errors=True))

    def close(self) -> None:
        """Let the threads end; what was handed to them is still written."""
        self._threads.shutdown(wait=False)

    async def in_thread(self, action: Callable[[], T]) -> T:
        """Run file work away from the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)

    @property
    def pulses(self) -> Pulses:
        """A topic per job whose log somebody waits for."""
        return self._pulses


class JobLog:
    """The log of one job, for readers; `writer` is for the one keeper of its cluster."""

    def __init__(self, store: LogStore, directory: Path, topic: str) -> None:
        self._store = store
        self.directory = directory
        self._topic = topic

    @property
    def run_log(self) -> Path:
        """What people read."""
        return self.directory / "run.log"

    def next(self) -> asyncio.Event:
        """Set when something was appended, or the log has ended, after this call."""
        return self._store.pulses.next(self._topic)

    def ring(self) -> None:
        """Wake who follows."""
        self._store.pulses.ring(self._topic)

    async def read(self, offset: int, limit: int = PIECE) -> bytes:
        """Bytes of the run log from an offset on: empty at its end, or where there is no log."""
        return await self._store.in_thread(lambda: _read(self.run_log, offset, limit))

    async def size(self) -> int:
        """Length of the run log."""
        return await self._store.in_thread(lambda: _size(self.run_log))

    async def tail_offset(self, lines: int) -> int:
        """Where the last so many lines begin."""
        return await self._store.in_thread(lambda: _tail_offset(self.run_log, lines))

    async def writer(self, ranks: int) -> LogWriter:
        """Open the log for appending; after a crash it first completes what was only half written."""
        return await self._store.in_thread(lambda: LogWriter(self, self._store, ranks))


class LogWriter:
    """The one writer of a job's log. Made in a thread, because it may have to read a whole log again."""

    def __init__(self, log: JobLog, store: LogStore, ranks: int) -> None:
        self._log = log
        self._store = store
        self._merger = Merger() if ranks > 1 else None
        log.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._run = _open_append(log.run_log)
        if self._merger is None:
            alias = log.directory / "rank-0.log"
            if not alias.is_symlink():
                alias.symlink_to("run.log")
            self._files = {0: self._run}
        else:
            self._files = {rank: _open_append(log.directory / f"rank-{rank}.log") for rank in range(ranks)}
            self._complete(self._merger)
        self._sizes = {rank: os.fstat(file).st_size for rank, file in self._files.items()}

    @property
    def offsets(self) -> Mapping[int, int]:
        """How much of each rank's output is kept."""
        return self._sizes

    async def append(self, rank: int, data: bytes) -> None:
        """Keep a piece of a rank's output, and wake who follows."""
        await self._store.in_thread(lambda: self._append(rank, data))
        self._log.ring()

    async def end(self, rank: int) -> None:
        """The rank will print no more: what is held of its last line is written."""
        if self._merger is not None:
            await self._store.in_thread(lambda: self._write_end(rank))
        self._log.ring()

    async def close(self) -> None:
        """Close the files."""
        await self._store.in_thread(self._close)
        self._log.ring()

    def _append(self, rank: int, data: bytes) -> None:
        _write_all(self._files[rank], data)
        self._sizes[rank] += len(data)
        if self._merger is not None:
            _write_all(self._run, self._merger.feed(rank, data))

    def _write_end(self, rank: int) -> None:
        if self._merger is not None:
            _write_all(self._run, self._merger.end(rank))

    def _close(self) -> None:
        for file in {self._run, *self._files.values()}:
            os.close(file)

    def _complete(self, merger: Merger) -> None:
        """After a crash: merge what is in the ranks' logs and not yet in the run log."""
        with open(self._log.run_log, "rb") as lines:
            consumed, whole = merged_so_far(lines)
        os.ftruncate(self._run, whole)
        for rank in self._files:
            with open(self._log.directory / f"rank-{rank}.log", "rb") as source:
                source.seek(min(consumed.get(rank, 0), os.fstat(source.fileno()).st_size))
                while piece := source.read(PIECE):
                    _write_all(self._run, merger.feed(rank, piece))


def text_of(data: bytes, *, final: bool) -> tuple[str, int]:
    """The text of a piece of a log, and how many of its bytes that is.

    A character that is cut off at the end of the piece is left for the next one, unless there is no next one.
    What is not UTF-8 is shown as U+FFFD.
    """
    decoder = _Utf8(errors="replace")
    text = decoder.decode(data, final)
    return text, len(data) - len(decoder.getstate()[0])


def _open_append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(path: Path, offset: int, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return b""


def _tail_offset(path: Path, lines: int) -> int:
    """Search backwards, a piece at a time."""
    end = _size(path)
    if lines <= 0 or end == 0:
        return end
    wanted = lines
    with open(path, "rb") as file:
        file.seek(end - 1)
        position = end - 1 if file.read(1) == b"\n" else end
        while position > 0:
            start = max(0, position - PIECE)
            file.seek(start)
            piece = file.read(position - start)
            for index in range(len(piece) - 1, -1, -1):
                if piece[index] == 0x0A:
                    wanted -= 1
                    if wanted == 0:
                        return start + index + 1
            position = start
    return 0
