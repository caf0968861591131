"""The POSIX sh of the node runtime, as package data: `load("base", "job")` is the text of those files, in order.

Comments are for readers of the repository and do not travel.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load(*names: str) -> str:
    """The text of `NAME.sh` for each name, without comment lines and blank lines."""
    return "\n".join(_strip(files(__name__).joinpath(f"{name}.sh").read_text("utf-8")) for name in names)


def _strip(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
