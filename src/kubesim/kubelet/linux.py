"""The three prctl calls that a shim needs and Python does not offer.

Process pods are a Linux feature: nothing else has a subreaper, by which a container's orphans stay with their shim.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    value: ctypes.c_ulong | ctypes.c_char_p
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    zero = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), value, zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_subreaper() -> None:
    """Have the orphans among this process's descendants given to this process, not to init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signum: int) -> None:
    """Have this signal sent to the calling process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def set_name(name: str) -> None:
    """The name that `ps -o comm` and `top` show for this process (15 bytes)."""
    _prctl(_PR_SET_NAME, name.encode()[:15])
