"""A column of a table: its title, and what it shows of an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubesim.apiserver.columns.values import Moment, age, name
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
