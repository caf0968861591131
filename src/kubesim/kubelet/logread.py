"""Reading a container's log as `kubectl logs` asks for it: the end of it, since a time, followed, with timestamps.

Works on the file alone, so that the log of a container is there whether its shim lives or not; only following asks the
shim, which answers when the log has grown, so that nobody polls. File access happens in threads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from datetime import UTC
from pathlib import Path

from kubesim.apiserver.nodes import LogOptions
from kubesim.kubelet import containerfiles, crilog
from kubesim.kubelet.link import Link

PIECE = 256 << 10
MESSAGE_LINES = 80
MESSAGE_BYTES = 2048
_TIMESTAMP_LENGTH = len("2026-01-02T03:04:05.000000000Z")


class LogFile:
    """A position in a log file."""

    def __init__(self, path: Path, *, timestamps: bool, since: bytes) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._timestamps = timestamps
        self._since = since
        self._rest = b""
        self._at_line_start = True
        self.offset = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def seek_tail(self, lines: int) -> None:
        """Go to where the last `lines` lines begin."""
        end = os.fstat(self._file).st_size
        position, found, block, step = end, 0, b"", PIECE
        while position > 0 and found <= lines:
            start = max(0, position - step)
            step *= 2
            block = os.pread(self._file, position - start, start) + block
            position = start
            whole = block.split(b"\n")[1 if position else 0 : -1]  # the first one may be cut
            found = sum(1 for line in whole if _tag(line) == b"F")
            found += bool(whole) and _tag(whole[-1]) == b"P"  # a last line that has no end
        self.offset = position + _start_of_tail(block, lines) if lines > 0 else end

    def read(self) -> bytes | None:
        """The next piece of output, empty when nothing of what was read is wanted, None at the end of the file."""
        data = os.pread(self._file, PIECE, self.offset)
        if not data:
            return None
        self.offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        out = bytearray()
        for line in lines:
            self._take(line, out)
        return bytes(out)

    def _take(self, line: bytes, out: bytearray) -> None:
        if len(line) < _TIMESTAMP_LENGTH or line[:_TIMESTAMP_LENGTH] < self._since:
            return
        stamp, _, rest = line.partition(b" ")
        _, _, rest = rest.partition(b" ")
        tag, _, content = rest.partition(b" ")
        if self._timestamps and self._at_line_start:
            out += stamp + b" "
        out += content
        self._at_line_start = tag == b"F"
        if self._at_line_start:
            out += b"\n"


async def read_log(directory: Path, options: LogOptions, now: float) -> AsyncGenerator[bytes, None]:
    """What the container of a folder printed."""
    log = LogFile(directory / containerfiles.LOG, timestamps=options.timestamps, since=_since(options, now))
    left = options.limit_bytes
    try:
        if options.tail_lines is not None:
            await asyncio.to_thread(log.seek_tail, options.tail_lines)
        async for piece in _pieces(log, directory, follow=options.follow):
            if left is not None:
                piece = piece[:left]
                left -= len(piece)
            if piece:
                yield piece
            if left == 0:
                return
    finally:
        log.close()


def last_output(directory: Path) -> str:
    """The last lines that a container printed, as far as a termination message has room; of no log, nothing."""
    try:
        log = LogFile(directory / containerfiles.LOG, timestamps=False, since=b"")
    except OSError:
        return ""
    try:
        log.seek_tail(MESSAGE_LINES)
        tail = b""
        while (piece := log.read()) is not None:
            tail = (tail + piece)[-MESSAGE_BYTES:]
    finally:
        log.close()
    return tail.decode("utf-8", "replace")


async def _pieces(log: LogFile, directory: Path, *, follow: bool) -> AsyncGenerator[bytes, None]:
    complete = not follow
    link: Link | None = None
    try:
        while True:
            while (piece := await asyncio.to_thread(log.read)) is not None:
                yield piece
            if complete:
                return
            try:
                if link is None:
                    link = await Link.open(directory, containerfiles.SOCKET)
                link.send({"op": "log", "size": log.offset})
                message, descriptors = await link.receive()
                for descriptor in descriptors:
                    os.close(descriptor)
                complete = message is None or bool(message.get("complete"))
            except (OSError, TimeoutError):
                complete = True  # no shim: nothing more will be written
    finally:
        if link is not None:
            link.close()


def _since(options: LogOptions, now: float) -> bytes:
    if options.since_time is not None:
        moment = options.since_time
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    elif options.since_seconds is not None:
        seconds = now - options.since_seconds
    else:
        return b""
    return crilog.timestamp(int(seconds * 1_000_000_000)).encode()


def _tag(line: bytes) -> bytes:
    """F or P."""
    fields = line.split(b" ", 3)
    return fields[2] if len(fields) > 2 else b""


def _start_of_tail(block: bytes, lines: int) -> int:
    """Where in a block of whole log lines the last `lines` lines begin; 0 when there are fewer."""
    position = len(block)
    remaining = lines
    first = True
    for line in reversed(block.split(b"\n")[:-1]):
        if _tag(line) == b"F" or first:
            if remaining == 0:
                return position
            remaining -= 1
        first = False
        position -= len(line) + 1
    return 0
