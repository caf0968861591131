"""How the output of several ranks becomes one log, line by line, and how to tell after a crash what it holds.
Pure.

Each line of the merged log is `(rank N) ` and one line of that rank. Only whole lines are merged, so that two
ranks never share one; a line without an end is cut after `LONGEST` bytes. Because each merged line says whose
it is, the log itself tells how much of each rank is in it (`merged_so_far`): no second record can disagree
with it.
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 16 * 1024
"""Bytes of a rank's line that are held back while its end is not there."""


def prefix(rank: int) -> bytes:
    """What stands before each line of a rank."""
    return b"(rank %d) " % rank


class Merger:
    """Turns pieces of each rank's output into whole lines of the merged log."""

    def __init__(self) -> None:
        self._held: dict[int, bytes] = {}

    def feed(self, rank: int, data: bytes) -> bytes:
        """The lines of the merged log that this piece completes."""
        lines = (self._held.pop(rank, b"") + data).split(b"\n")
        self._held[rank] = b""
        merged = bytearray()
        for line in lines[:-1]:
            rest = self._cut(rank, line, merged)
            merged += prefix(rank) + rest + b"\n"
        self._held[rank] = self._cut(rank, lines[-1], merged)
        return bytes(merged)

    def end(self, rank: int) -> bytes:
        """What is still held of a rank that will print no more."""
        held = self._held.pop(rank, b"")
        return prefix(rank) + held + b"\n" if held else b""

    @staticmethod
    def _cut(rank: int, line: bytes, merged: bytearray) -> bytes:
        """Write pieces of `LONGEST` bytes, each as a line of its own; returns what is shorter."""
        while len(line) >= LONGEST:
            merged += prefix(rank) + line[:LONGEST] + b"\n"
            line = line[LONGEST:]
        return line


def merged_so_far(lines: Iterable[bytes]) -> tuple[dict[int, int], int]:
    """How many bytes of each rank the merged log holds, and the length of its whole lines.

    A piece of exactly `LONGEST` bytes was cut: its line end is ours. The last line of a rank that ended
    without a line end counts one byte too many: the caller caps it by the length of the rank's own log.
    """
    consumed: dict[int, int] = {}
    whole = 0
    for line in lines:
        if not line.endswith(b"\n"):
            break
        whole += len(line)
        head, found, content = line.partition(b") ")
        number = head.removeprefix(b"(rank ")
        if not found or not number.isdigit():
            continue
        length = len(content) - 1
        consumed[int(number)] = consumed.get(int(number), 0) + (length if length == LONGEST else length + 1)
    return consumed, whole
