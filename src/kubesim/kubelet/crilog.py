"""A container's log file in the format of the Kubernetes container runtimes.

    2026-01-02T03:04:05.000000006Z stdout F a whole line
    2026-01-02T03:04:05.000000007Z stderr P a piece of a line that goes on

The shim writes it; the daemon reads it (`logread.py`), also when no shim is left. A line without its end is held back
until the rest has come, it is too long (16 KiB), or the stream ends, as containerd does it.
"""

from __future__ import annotations

import os
import time

LONGEST_PIECE = 16 << 10
STDOUT = b"stdout"
STDERR = b"stderr"


class LogWriter:
    """Appends the output of a container to its log. A full disk loses output, never the container."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._rest = {STDOUT: b"", STDERR: b""}
        self.size = os.fstat(self._file).st_size
        self.lost = 0  # bytes that could not be written

    def feed(self, stream: bytes, data: bytes) -> None:
        """Take what the container has just printed."""
        pieces, self._rest[stream] = cut(self._rest[stream] + data)
        self._append(stream, pieces)

    def close(self) -> None:
        """Write what is held back, and close."""
        for stream, rest in self._rest.items():
            if rest:
                self._append(stream, [(b"P", rest)])
        os.close(self._file)

    def _append(self, stream: bytes, pieces: list[tuple[bytes, bytes]]) -> None:
        if not pieces:
            return
        head = timestamp(time.time_ns()).encode() + b" " + stream + b" "
        data = b"".join(head + tag + b" " + piece + b"\n" for tag, piece in pieces)
        while data:
            try:
                written = os.write(self._file, data)
            except OSError:
                self.lost += len(data)
                return
            self.size += written
            data = data[written:]


def cut(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Cut output into lines (tag F) and pieces of overlong ones (tag P), and what remains without an end."""
    pieces: list[tuple[bytes, bytes]] = []
    *lines, rest = data.split(b"\n")
    for line in lines:
        start = 0
        while len(line) - start > LONGEST_PIECE:
            pieces.append((b"P", line[start : start + LONGEST_PIECE]))
            start += LONGEST_PIECE
        pieces.append((b"F", line[start:]))
    while len(rest) >= LONGEST_PIECE:
        pieces.append((b"P", rest[:LONGEST_PIECE]))
        rest = rest[LONGEST_PIECE:]
    return pieces, rest


def timestamp(nanoseconds: int) -> str:
    """A moment as RFC 3339 with nanoseconds, in UTC; it sorts as text."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"
