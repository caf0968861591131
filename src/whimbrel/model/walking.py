"""Walk a tree of fields, check what stands in it, and collect what is wrong with file, line and column.

What is the same for a task and for a configuration file: known fields, fields of SkyPilot's that are refused by name,
text, choices, maps of text. What the fields mean is the business of whoever derives from `Walker`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from whimbrel.model import taskfields
from whimbrel.model.problems import Problem
from whimbrel.model.yamltree import Branch, Fields, Leaf, Spot, Tree

T = TypeVar("T")


class Walker:
    """Checks each field, and collects what is wrong."""

    def __init__(self, file: str, *, wire: bool = False) -> None:
        self.file = file
        self.wire = wire
        self.problems: list[Problem] = []

    def add(self, spot: Spot, where: str, message: str, hint: str = "", file: str | None = None) -> None:
        """One more problem."""
        self.problems.append(
            Problem(
                file=self.file if file is None else file,
                line=spot.line,
                column=spot.column,
                field=where,
                message=message,
                hint=hint,
            )
        )

    def known(
        self,
        tree: Tree,
        where: str,
        known: Sequence[str],
        skypilot: Mapping[str, str],
        elsewhere: Mapping[str, Sequence[str]],
        root: str,
    ) -> dict[str, Tree]:
        """The fields of a mapping that we honour and that are not null; the others are problems."""
        if not isinstance(tree, Fields):
            what = f"'{where}'" if where else root
            self.add(tree.spot, where, f"{what} must be a mapping of fields, found {describe(tree)}")
            return {}
        found: dict[str, Tree] = {}
        for key, value in tree.items:
            path = f"{where}.{key.text}" if where else key.text
            if key.text in known:
                if not (isinstance(value, Leaf) and value.value is None):
                    found[key.text] = value
            elif key.text in skypilot:
                self.add(key.spot, path, taskfields.cannot_honour(f"'{key.text}'"), skypilot[key.text])
            else:
                hint = taskfields.guess(key.text, known, elsewhere)
                self.add(key.spot, path, f"unknown field '{key.text}'", hint)
        return found

    def text(self, tree: Tree | None, where: str, expected: str = "text") -> str | None:
        """A text that shells and databases can hold."""
        if tree is None:
            return None
        if isinstance(tree, Leaf) and isinstance(tree.value, str):
            if problem := unusable(tree.value):
                self.add(tree.spot, where, f"'{where}' {problem}")
                return None
            return tree.value
        hint = ""
        if isinstance(tree, Leaf):
            hint = f"put it in quotes: {where.rpartition('.')[2]}: '{tree.text}'"
        elif isinstance(tree, Branch) and "script" in expected:
            hint = f"write '{where}: |' and the commands on the lines below"
        self.add(tree.spot, where, f"'{where}' must be {expected}, found {describe(tree)}", hint)
        return None

    def truth(self, tree: Tree | None, where: str) -> bool | None:
        """`true` or `false`."""
        if tree is None:
            return None
        if isinstance(tree, Leaf) and isinstance(tree.value, bool):
            return tree.value
        self.add(tree.spot, where, f"'{where}' must be true or false, found {describe(tree)}")
        return None

    def number(
        self, tree: Tree | None, where: str, expected: str, fits: Callable[[float], bool]
    ) -> float | None:
        """A finite number that fits."""
        if tree is None:
            return None
        value = tree.value if isinstance(tree, Leaf) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.add(tree.spot, where, f"'{where}' must be {expected}, found {describe(tree)}")
            return None
        if not fits(value):
            self.add(tree.spot, where, f"'{where}' must be {expected}, found {value:g}")
            return None
        return float(value)

    def choice(self, tree: Tree | None, where: str, among: Sequence[str]) -> str | None:
        """One of a few words."""
        text = self.text(tree, where, f"one of {', '.join(among)}")
        if text is None or tree is None or text.lower() in among:
            return text.lower() if text else None
        near = taskfields.guess(text.lower(), among, {})
        hint = near if near.startswith("did you mean") else f"write {', '.join(among)}"
        self.add(tree.spot, where, f"'{where}' cannot be '{text}'", hint)
        return None

    def texts(
        self, tree: Tree | None, where: str, check: Callable[[str, str], str] = lambda key, value: ""
    ) -> dict[str, str]:
        """A mapping of names to texts; numbers and truth values are taken as they are written."""
        if tree is None:
            return {}
        if not isinstance(tree, Fields):
            self.add(
                tree.spot, where, f"'{where}' must be a mapping of names to text, found {describe(tree)}"
            )
            return {}
        found: dict[str, str] = {}
        for key, value in tree.items:
            path = f"{where}.{key.text}"
            if not isinstance(value, Leaf):
                self.add(value.spot, path, f"'{path}' must be text, found {kind_of(value)}")
            elif problem := unusable(value.text) or check(key.text, value.text):
                self.add(key.spot, path, f"'{path}' {problem}")
            else:
                found[key.text] = value.text
        return found

    def plain(self, tree: Tree, where: str) -> Any:
        """The tree as JSON, for what is handed on as it is."""
        if isinstance(tree, Fields):
            return {key.text: self.plain(value, f"{where}.{key.text}") for key, value in tree.items}
        if isinstance(tree, Branch):
            return [self.plain(item, where) for item in tree.items]
        if isinstance(tree.value, float) and not math.isfinite(tree.value):
            self.add(tree.spot, where, f"'{where}' cannot be {tree.text}")
            return None
        if isinstance(tree.value, str) and (problem := unusable(tree.value)):
            self.add(tree.spot, where, f"'{where}' {problem}")
            return None
        return tree.value


def unusable(text: str) -> str:
    """Why neither a shell nor a database could hold such a text; empty when they can."""
    if "\0" in text:
        return "has a NUL character in it"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "is not UTF-8 text"
    return ""


def describe(tree: Tree) -> str:
    """What was found, in words. Never for a secret: it shows the value."""
    if not isinstance(tree, Leaf):
        return kind_of(tree)
    if isinstance(tree.value, str):
        shown = tree.value if len(tree.value) <= 40 else tree.value[:37] + "..."
        return f"the text {shown!r}"
    return f"{kind_of(tree)} ({tree.text})" if tree.value is not None else "nothing"


def kind_of(tree: Tree) -> str:
    """What it is, without its value."""
    if isinstance(tree, Fields):
        return "a mapping"
    if isinstance(tree, Branch):
        return "a list"
    if tree.value is None:
        return "nothing"
    if isinstance(tree.value, bool):
        return "a truth value"
    return "text" if isinstance(tree.value, str) else "a number"
