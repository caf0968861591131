"""A column of a table: its title, and what it shows of an object; and the ways of saying so in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubesim.apiserver.columns.values import Moment, age, at, boolean, name
from kubesim.errors import JsonObject

Cell = Callable[[JsonObject, Moment], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """Columns of priority 1 are shown by `-o wide`."""

    title: str
    cell: Cell
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""

    def definition(self) -> JsonObject:
        return {
            "name": self.title,
            "type": self.type,
            "format": self.format,
            "description": self.description or self.title,
            "priority": self.priority,
        }


def _created(obj: JsonObject, moment: Moment) -> str:
    return str(obj["metadata"].get("creationTimestamp") or "")


NAME = Column("Name", name, format="name")
AGE = Column("Age", age)
CREATED = Column("Created At", _created, type="date")


def text(*path: str, empty: str = "") -> Cell:
    """A cell that shows the value at a path."""
    return lambda obj, moment: str(at(obj, *path, default=empty) or empty)


def number(*path: str) -> Cell:
    return lambda obj, moment: int(at(obj, *path, default=0))


def size(*path: str) -> Cell:
    """A cell that counts what is at a path."""
    return lambda obj, moment: len(at(obj, *path, default=()))


def switch(*path: str) -> Cell:
    return lambda obj, moment: boolean(at(obj, *path, default=None))


def flag(*path: str) -> Cell:
    return lambda obj, moment: bool(at(obj, *path, default=False))


def wide(title: str, cell: Cell, kind: str = "string") -> Column:
    return Column(title, cell, type=kind, priority=1)


def integer(title: str, cell: Cell) -> Column:
    return Column(title, cell, type="integer")
