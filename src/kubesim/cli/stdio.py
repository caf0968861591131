"""The three standard streams, as unreliable as anything else: closed, full, or with a reader that has left.

Python finds out when it flushes, mostly at exit, and says so with a traceback and code 120. Here every command
begins with three open streams and ends with its output delivered, or with the reason.
"""

from __future__ import annotations

import errno
import os
import sys


def reopen_closed() -> None:
    """Lead streams that were closed (`>&-`) nowhere, so that no file or socket of ours gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 - open until the process ends
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def undelivered() -> OSError | None:
    """Flush; the reason why something that was printed did not get out. It is then given up, and not tried again."""
    problem: OSError | None = None
    for number, stream in ((2, sys.stderr), (1, sys.stdout)):
        try:
            stream.flush()
        except OSError as error:
            problem = error
            give_up(number)
    return problem


def give_up(number: int) -> None:
    """Lead what is still in the buffers of a stream nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def words(problem: OSError) -> str:
    """What went wrong, for people. A write to a stream names no file; a file that cannot be opened is named."""
    if problem.filename:
        return f"{problem.filename}: {problem.strerror}"
    if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return f"The output could not be written: {problem.strerror}"
    return problem.strerror or str(problem)
