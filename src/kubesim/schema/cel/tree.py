"""What an expression is made of: one class per form, each with its place in the source.

Positions are those that cel-go reports: of an operator for operators and calls, of the dot for a selection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class CelSyntax(Exception):
    """An expression that cannot be right; the text has the place, as kubectl shows it."""


def complaint(source: str, at: int, why: str) -> str:
    """`ERROR: <input>:1:5: why`, with the line and a mark below the place."""
    start = source.rfind("\n", 0, at) + 1
    number = source.count("\n", 0, at) + 1
    line = source[start:].partition("\n")[0]
    column = at - start
    return f"ERROR: <input>:{number}:{column + 1}: {why}\n | {line}\n | {'.' * column}^"


@dataclass(frozen=True, slots=True)
class Node:
    at: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    value: Any
    unsigned: bool = False


@dataclass(frozen=True, slots=True)
class Name(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Select(Node):
    of: Node
    field: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Has(Node):
    of: Node
    field: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    of: Node
    key: Node
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function, or (with `of`) a method; operators are functions such as `_+_`."""

    name: str
    args: tuple[Node, ...]
    of: Node | None = None


@dataclass(frozen=True, slots=True)
class Both(Node):
    """`a && b`: false beats an error."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Either(Node):
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Choice(Node):
    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    items: tuple[tuple[Node, bool], ...]


@dataclass(frozen=True, slots=True)
class MapOf(Node):
    items: tuple[tuple[Node, Node, bool], ...]


@dataclass(frozen=True, slots=True)
class Made(Node):
    """`Object.spec{replicas: 1}`."""

    type: str
    fields: tuple[tuple[str, Node, bool], ...]


@dataclass(frozen=True, slots=True)
class Loop(Node):
    """A macro over the members of a list or map: all, exists, exists_one, map, filter, transform..."""

    macro: str
    over: Node
    names: tuple[str, ...]
    body: Node
    only: Node | None = None


@dataclass(frozen=True, slots=True)
class Bind(Node):
    """cel.bind, optMap, optFlatMap."""

    macro: str
    name: str
    value: Node
    body: Node


def dotted(node: Node) -> str:
    """`a.b.c` for a plain chain of names, else empty."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Select) and not node.optional:
        head = dotted(node.of)
        return f"{head}.{node.field}" if head else ""
    return ""
