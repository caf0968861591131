"""Regular expressions that come with requests: `pattern` of a schema, `matches` of CEL.

Their engine is RE2, which Go's is a port of: the same syntax and the same answers, and time that grows with the text
and not with what can be tried. Python's own would let any user who may create a definition hang the server. Loaded when
the first pattern is asked for; patterns of this program itself stay with `re`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol, cast

_MEMORY = 8 * 1024 * 1024
"""What RE2 itself allows one expression by default."""


_IN_GO = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "bad repetition operator": "invalid nested repetition operator",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
    "trailing \\": "trailing backslash at end of expression",
}
"""Where Go says it in other words."""


class InvalidExpression(ValueError):
    """No regular expression; the message begins as Go's does."""


class Found(Protocol):
    """One place where an expression matches."""

    def __getitem__(self, group: int, /) -> str: ...

    def end(self, group: int = 0, /) -> int: ...


class Expression(Protocol):
    """What is used of a compiled expression."""

    def search(self, text: str, /) -> Found | None: ...

    def finditer(self, text: str, /) -> Iterator[Found]: ...


@lru_cache(maxsize=512)
def expression(pattern: str) -> Expression:
    """Raises InvalidExpression."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return cast(Expression, re2.compile(pattern, options))
    except re2.error as wrong:
        why = wrong.args[0] if wrong.args else ""
        said = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        what, _, which = said.partition(": ")
        what = _IN_GO.get(what, what)
        raise InvalidExpression(f"error parsing regexp: {what}" + (f": `{which}`" if which else "")) from None


def matches(pattern: str, text: str) -> bool:
    """Whether the expression matches anywhere in the text. Raises InvalidExpression."""
    return expression(pattern).search(text) is not None
