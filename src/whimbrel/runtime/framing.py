"""How a request is put on an exec stream, and how its end is known. Pure: bytes in, bytes out.

The argv of every exec is one fixed short bootstrap, because an argv lands in URLs and audit logs. The bootstrap
reads the number of lines of the script, then the script, from stdin with the shell's own `read`, which takes not
one byte more; what follows on stdin is data for the script. When the script has ended, a trailer with a nonce and
the exit code comes on stdout and on stderr. So the end of a request is told apart from the end of a stream: a
stream that breaks has no trailer, and one that never delivers its EOF has one.

What runs in the script is not known here (`spool`, `sync`, `copy`), nor who carries the bytes (`conversation`).
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping
from typing import Final

BOOTSTRAP: Final = (
    "IFS= read -r n&&{ s=\n"
    'while [ "$n" -gt 0 ]&&IFS= read -r l;do s="$s$l\n'
    '";n=$((n-1));done;[ "$n" = 0 ]&&eval "$s";}'
)
ARGV: Final = ("sh", "-c", BOOTSTRAP)
STDOUT: Final = 1
STDERR: Final = 2

_MARK = b"\x1e"
_END = re.compile(rb"(-?\d+)\x1e")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class NotText(ValueError):
    """A NUL byte cannot be in a script, an argument or a variable."""


def new_nonce() -> str:
    """What marks the end of one request; nothing that the script prints can contain it by accident."""
    return secrets.token_hex(12)


def compose(script: str, nonce: str, *, data_length: int | None) -> bytes:
    """What to send before the data: the script in its frame, preceded by its number of lines.

    `data_length` bytes of stdin belong to the script, whether or not the stream can say EOF (below Kubernetes
    1.30 it cannot); None leaves it the whole stdin.
    """
    if "\0" in script:
        raise NotText("a NUL byte cannot be in a script")
    if data_length is None:
        head, redirect = "(", ""
    elif data_length == 0:
        head, redirect = "(", " </dev/null"
    else:
        head, redirect = f"head -c {data_length} | (", ""
    trailer = rf"printf '\036%s %s\036' {nonce} \"$w_code\""
    framed = (
        f'{head}\n{script}\n){redirect}\nw_code=$?\nw_end="{trailer}"\neval "$w_end"\neval "$w_end" >&2\n'
    )
    return f"{framed.count(chr(10))}\n{framed}".encode("utf-8", "surrogateescape")


class ReplyParser:
    """Takes the pieces of one stream (stdout or stderr), gives back the payload, notices the trailer."""

    def __init__(self, nonce: str) -> None:
        self._start = _MARK + nonce.encode() + b" "
        self._held = b""
        self.exit_code: int | None = None

    def feed(self, piece: bytes) -> bytes:
        """The payload that is certain so far. Bytes that might begin the trailer are held back."""
        if self.exit_code is not None:
            return b""
        data = self._held + piece
        at = data.find(self._start)
        if at >= 0:
            found = _END.match(data, at + len(self._start))
            if found:
                self.exit_code, self._held = int(found[1]), b""
            else:
                self._held = data[at:]
            return data[:at]
        keep = self._possible_start(data)
        self._held = data[len(data) - keep :] if keep else b""
        return data[: len(data) - keep]

    def rest(self) -> bytes:
        """What was held back, when the stream has ended without a trailer."""
        held, self._held = self._held, b""
        return held

    def _possible_start(self, data: bytes) -> int:
        tail = data[-len(self._start) + 1 :]
        at = tail.find(_MARK)
        while at >= 0:
            if self._start.startswith(tail[at:]):
                return len(tail) - at
            at = tail.find(_MARK, at + 1)
        return 0


def quote(word: str) -> str:
    """`word` as one word of sh."""
    if "\0" in word:
        raise NotText("a NUL byte cannot be in an argument")
    return shlex.quote(word)


def exports(variables: Mapping[str, str]) -> str:
    """`export K='v'` lines, each ended by a newline. Names that sh could not export are refused."""
    for name in variables:
        if not _NAME.match(name):
            raise NotText(f"{name!r} is not a name for an environment variable")
    return "".join(f"export {name}={quote(value)}\n" for name, value in variables.items())
