"""What is wrong with a task, item by item, and how all of it is told at once.

    task.yaml:7:3: unknown field 'resource'; did you mean 'resources'?

A reader collects problems and goes on, so that a file with five mistakes is mended in one round.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from whimbrel.model.errors import InvalidTask, WhimError

E = TypeVar("E", bound=WhimError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake: where it stands, what it is, what would mend it."""

    message: str
    hint: str = ""
    file: str = ""  # as the user named it; an option ("--cpus") where no file is to blame
    line: int = 0
    column: int = 0
    field: str = ""  # "resources.cpus"
    excerpt: str = ""  # the line of the file with a mark under it

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        text = f"{place}: {self.message}" if place else self.message
        if self.hint:
            text += f"; {self.hint}"
        return f"{text}\n{self.excerpt}" if self.excerpt else text

    def to_wire(self) -> dict[str, Any]:
        """For `details` of the error."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "field": self.field,
            "message": self.message,
            "hint": self.hint,
        }


def refuse(problems: Iterable[Problem]) -> InvalidTask:
    """The error that tells all problems of a task."""
    return tell(InvalidTask, problems)


def tell(kind: type[E], problems: Iterable[Problem]) -> E:
    """The error that tells all of them, in the order of the file."""
    ordered = sorted(problems, key=lambda problem: (problem.line == 0, problem.line, problem.column))
    text = "\n".join(str(problem) for problem in ordered)
    if len(ordered) > 1:
        text = f"{len(ordered)} problems:\n{text}"
    return kind(text, details={"errors": [problem.to_wire() for problem in ordered]})
