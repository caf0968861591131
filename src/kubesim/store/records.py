"""The two things that a store keeps: the state of an object at a revision, and the change that led to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class ChangeType(IntEnum):
    ADDED = 0
    MODIFIED = 1
    DELETED = 2


@dataclass(slots=True, eq=False)
class Stored:
    """An object as it was written at one revision. Never changes, but for what readers remember about it."""

    resource: str
    """Which table it is in: `<group>/<plural>`, with an empty group for the core."""
    name: str
    """`<namespace>/<name>`, with an empty namespace for what has none: tables are sorted by it, as etcd's
    keys are."""
    revision: int
    created: int
    """The revision at which the object was created: two objects of one name are told apart by it."""
    data: bytes
    index: Any = None
    """What readers look up often (labels, selectable fields): derived from `data` when first asked for, never
    stored."""

    @property
    def size(self) -> int:
        return len(self.data)


@dataclass(slots=True, eq=False)
class Change:
    """One write. A deletion has the object's last state under the revision of the deletion."""

    type: ChangeType
    stored: Stored
    previous: Stored | None = field(default=None)

    @property
    def revision(self) -> int:
        return self.stored.revision

    @property
    def retained(self) -> int:
        """Bytes that only history keeps alive: they are freed when the change is forgotten."""
        size = self.previous.size if self.previous is not None else 0
        return size + self.stored.size if self.type is ChangeType.DELETED else size
