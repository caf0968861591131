"""YAML text as a tree that remembers where everything stood; plain JSON in the same form.

Scalars are read by the core rules of YAML 1.2, so that `no` is a word, `12:30` is text and `0755` is 755; the text as
written is kept beside the value. Duplicate keys are refused, aliases and merge keys (`<<`) work, tags do not. A syntax
error says where, shows the line, and what is usually meant. What the fields mean is `yamltask`'s business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from whimbrel.model.problems import Problem

DEEPEST = 16
"""No task is nested deeper; whatever is, is refused before it is walked."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the file, counted from 1; 0 where there is no file."""

    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar: its value, and its text as it was written."""

    value: str | int | float | bool | None
    text: str
    spot: Spot = Spot()


@dataclass(frozen=True, slots=True)
class Branch:
    """A list."""

    items: tuple[Tree, ...]
    spot: Spot = Spot()


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping, in the order of the file; keys are unique."""

    items: tuple[tuple[Leaf, Tree], ...]
    spot: Spot = Spot()


Tree: TypeAlias = Leaf | Branch | Fields


class Unreadable(Exception):
    """The text cannot be walked at all."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


_PREFIX = "tag:yaml.org,2002:"
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _CoreLoader(_Base):  # type: ignore[misc]  # the C loader where PyYAML has it
    """PyYAML's safe loader with the scalar rules of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own way to say it


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _CoreLoader.add_implicit_resolver(_PREFIX + _tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))


def parse(text: str, file: str) -> tuple[list[Tree], list[Problem]]:
    """Every document that is not empty, and what is wrong below the level of fields (duplicate keys, tags).

    Raises `Unreadable` for a syntax error.
    """
    try:
        nodes = list(yaml.compose_all(text, Loader=_CoreLoader))
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_syntax(error, text, file)) from None
    except yaml.reader.ReaderError as error:
        raise Unreadable(_character(error, text, file)) from None
    walk = _Walk(file)
    trees = [walk.tree(node, 0) for node in nodes]
    return [tree for tree in trees if not (isinstance(tree, Leaf) and tree.value is None)], walk.problems


def of_json(value: object, depth: int = 0) -> Tree:
    """JSON data in the same form, without places. Raises `Unreadable` when it is nested too deep."""
    if depth > DEEPEST:
        raise Unreadable(Problem(message=f"it is nested deeper than {DEEPEST} levels"))
    if isinstance(value, Mapping):
        return Fields(
            tuple((Leaf(str(key), str(key)), of_json(item, depth + 1)) for key, item in value.items())
        )
    if isinstance(value, Sequence) and not isinstance(value, str):
        return Branch(tuple(of_json(item, depth + 1) for item in value))
    if value is None or isinstance(value, str | bool | int | float):
        return Leaf(value, "" if value is None else str(value))
    raise Unreadable(Problem(message=f"{type(value).__name__} is not JSON"))


class _Walk:
    """From PyYAML's nodes to our tree; a node that is used twice (an alias) is converted once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._done: dict[int, Tree] = {}
        self._open: set[int] = set()

    def tree(self, node: yaml.Node, depth: int) -> Tree:
        spot = _spot(node.start_mark)
        if id(node) in self._done:
            return self._done[id(node)]
        if id(node) in self._open or depth > DEEPEST:
            what = (
                "it contains itself"
                if id(node) in self._open
                else f"it is nested deeper than {DEEPEST} levels"
            )
            raise Unreadable(Problem(file=self.file, line=spot.line, column=spot.column, message=what))
        self._open.add(id(node))
        found: Tree
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map")
            found = Fields(tuple(self._fields(node, depth)), spot)
        elif isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq")
            found = Branch(tuple(self.tree(item, depth + 1) for item in node.value), spot)
        else:
            found = self._leaf(node)
        self._open.discard(id(node))
        self._done[id(node)] = found
        return found

    def _fields(self, node: yaml.MappingNode, depth: int) -> list[tuple[Leaf, Tree]]:
        own: dict[str, tuple[Leaf, Tree]] = {}
        merged: dict[str, tuple[Leaf, Tree]] = {}
        for key_node, value_node in node.value:
            key, value = self.tree(key_node, depth + 1), self.tree(value_node, depth + 1)
            if not isinstance(key, Leaf):
                self._problem(key.spot, "a key must be a word, not a list or a mapping")
            elif key.text == "<<" and key_node.style not in ("'", '"'):
                for base in value.items if isinstance(value, Branch) else [value]:
                    if isinstance(base, Fields):
                        merged = {leaf.text: (leaf, item) for leaf, item in base.items} | merged
                    else:
                        self._problem(value.spot, "'<<' merges mappings, and this is none")
            elif key.text in own:
                first = own[key.text][0].spot.line
                self._problem(
                    key.spot, f"the field '{key.text}' comes twice", f"the first one is on line {first}"
                )
            else:
                own[key.text] = (key, value)
        return list((merged | own).values())

    def _leaf(self, node: yaml.Node) -> Leaf:
        text, tag, spot = str(node.value), str(node.tag).removeprefix(_PREFIX), _spot(node.start_mark)
        try:
            if tag == "null" and text in ("", "~", "null", "Null", "NULL"):
                return Leaf(None, text, spot)
            if tag == "bool" and text.lower() in ("true", "false"):
                return Leaf(text.lower() == "true", text, spot)
            if tag == "int":
                return Leaf(_int(text), text, spot)
            if tag == "float":
                return Leaf(_float(text), text, spot)
        except ValueError:
            pass  # an explicit tag on a text that it does not fit
        if tag not in ("str", "!"):
            self._problem(spot, f"the tag {node.tag!r} is not supported here", "write the plain value")
        return Leaf(text, text, spot)

    def _check_tag(self, node: yaml.Node, expected: str) -> None:
        if node.tag not in (_PREFIX + expected, "!"):
            self._problem(
                _spot(node.start_mark), f"the tag {node.tag!r} is not supported here", "leave it out"
            )

    def _problem(self, spot: Spot, message: str, hint: str = "") -> None:
        self.problems.append(
            Problem(file=self.file, line=spot.line, column=spot.column, message=message, hint=hint)
        )


def _int(text: str) -> int:
    if text.startswith("0o"):
        return int(text[2:], 8)
    return int(text, 16) if text.startswith("0x") else int(text)


def _float(text: str) -> float:
    word = text.lower().lstrip("+-")
    if word == ".nan":
        return math.nan
    if word == ".inf":
        return -math.inf if text.startswith("-") else math.inf
    return float(text)


def _spot(mark: yaml.Mark) -> Spot:
    return Spot(mark.line + 1, mark.column + 1)


_USUALLY = (
    ("mapping values are not allowed", "a value with ': ' in it needs quotes; or the indentation is wrong"),
    ("could not find expected ':'", "a ':' is missing after a key, here or on the line above"),
    (
        "did not find expected key",
        "the indentation does not fit the lines above, or a quote is not where it should be",
    ),
    ("did not find expected '-' indicator", "the indentation does not fit the list above"),
    ("did not find expected ',' or", "a bracket is not closed"),
    ("unexpected end of stream", "a quote is not closed"),
    ("found undefined alias", "a value that starts with '*' needs quotes"),
    ("alphabetic or numeric character", "a value that starts with '*' or '&' needs quotes"),
    ("cannot start any token", "a value that starts with '@', '`' or '%' needs quotes"),
    ("unknown escape character", "use single quotes, in which a backslash is just a backslash"),
)


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context or "it is not YAML")
    lines = text.splitlines()
    began = error.context_mark
    if began is not None and mark is not None and (mark.line >= len(lines) or "end of stream" in problem):
        mark = began  # the end of the file is no help: show what was never closed
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    shown = lines[line - 1] if 0 < line <= len(lines) else ""
    hint = next((hint for words, hint in _USUALLY if words in problem), "")
    if "bracket" in hint and began is not None and began.line + 1 != line:
        hint = f"the bracket on line {began.line + 1} is not closed"
    if "\t" in shown[: len(shown) - len(shown.lstrip())] or "'\\t'" in problem or "'\t'" in problem:
        hint = "indent with spaces: YAML has no tabs"
    return Problem(
        file=file,
        line=line,
        column=column,
        message=f"YAML: {problem}",
        hint=hint,
        excerpt=_excerpt(shown, column),
    )


def _character(error: yaml.reader.ReaderError, text: str, file: str) -> Problem:
    at = error.position if isinstance(error.position, int) else 0
    before = text.encode()[:at].decode(errors="replace") if at else ""
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
    return Problem(
        file=file,
        line=line,
        column=column,
        message=f"YAML: the character U+{code:04X} is not allowed in a file",
    )


def _excerpt(line: str, column: int) -> str:
    if not line.strip():
        return ""
    shown = line.replace("\t", " ")
    start = max(0, column - 60)
    return f"  {shown[start : start + 100]}\n  {' ' * (column - 1 - start)}^"
