"""Types before anything runs: names that are not there, fields that a schema does not have, operators that do not fit.

What is known comes from schemas, literals and the signatures of functions; everything else is `dyn` and left to the
evaluation. Messages and places are cel-go's, for what is found here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubesim.schema.cel import collections, strings, tree
from kubesim.schema.cel.evaluation import TYPES, namespaced
from kubesim.schema.cel.functions import is_function, results
from kubesim.schema.cel.libraries import OPAQUE
from kubesim.schema.cel.tree import CelSyntax, Node, complaint, dotted
from kubesim.schema.cel.values import NAMES

_LIBRARIES = (collections, strings)
"""Imported for what they define."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type as far as it is known."""

    letter: str
    item: Kind | None = None
    """Of the members of a list or map, of what is in an optional."""
    fields: Mapping[str, Kind] | None = field(default=None, hash=False, compare=False)
    """Of an object whose fields are known."""
    name: str = ""

    def __str__(self) -> str:
        if self.letter == "*":
            return "dyn"
        if self.name:
            return self.name
        inner = str(self.item) if self.item is not None else "dyn"
        if self.letter == "l":
            return f"list({inner})"
        if self.letter == "m":
            return f"map(string, {inner})"
        if self.letter == "o":
            return f"optional_type({inner})"
        return _SHOWN.get(self.letter) or OPAQUE.get(self.letter) or NAMES[self.letter]


_SHOWN = {"n": "null", "t": "timestamp", "D": "duration"}
DYN, BOOL, INT, STRING = Kind("*"), Kind("b"), Kind("i"), Kind("s")


def list_of(item: Kind) -> Kind:
    return Kind("l", item)


def map_of(item: Kind) -> Kind:
    return Kind("m", item)


def object_of(name: str, fields: Mapping[str, Kind]) -> Kind:
    """An object with these fields and no other."""
    return Kind("m", fields=fields, name=name)


MADE = ("Object", "JSONPatch")
"""The types of which policies make objects; `Object.spec` and so on are parts of the first."""


def check(source: str, node: Node, variables: Mapping[str, Kind]) -> str:
    """The letter of the result's type. Raises CelSyntax with all mistakes."""
    checker = _Checker(source)
    kind = checker.infer(node, dict(variables))
    if checker.found:
        raise CelSyntax("\n".join(checker.found))
    return kind.letter


Scope = dict[str, Kind]


class _Checker:
    def __init__(self, source: str) -> None:
        self._source = source
        self.found: list[str] = []

    def _wrong(self, node: Node, why: str) -> Kind:
        self.found.append(complaint(self._source, node.at, why))
        return DYN

    def _undeclared(self, node: Node, name: str) -> Kind:
        return self._wrong(node, f"undeclared reference to '{name}' (in container '')")

    def infer(self, node: Node, scope: Scope) -> Kind:
        match node:
            case tree.Literal():
                return _literal(node)
            case tree.Name():
                if node.name in scope:
                    return scope[node.name]
                return Kind("T") if node.name in TYPES else self._undeclared(node, node.name)
            case tree.Select():
                return self._select(node, scope)
            case tree.Has():
                self._field(node, self.infer(node.of, scope), node.field)
                return BOOL
            case tree.Index():
                return self._index(node, scope)
            case tree.Call():
                return self._call(node, scope)
            case tree.Both() | tree.Either():
                name = "_&&_" if isinstance(node, tree.Both) else "_||_"
                self._fits(node, name, [self.infer(node.left, scope), self.infer(node.right, scope)])
                return BOOL
            case tree.Choice():
                return self._choice(node, scope)
            case tree.ListOf():
                return list_of(_common([self.infer(item, scope) for item, _ in node.items]))
            case tree.MapOf():
                for key, _, _ in node.items:
                    self.infer(key, scope)
                return map_of(_common([self.infer(value, scope) for _, value, _ in node.items]))
            case tree.Made():
                return self._made(node, scope)
            case tree.Loop():
                return self._loop(node, scope)
            case tree.Bind():
                return self._bind(node, scope)
        raise AssertionError(node)

    def _fits(self, node: Node, name: str, kinds: list[Kind]) -> None:
        if any(one.letter not in "b*" for one in kinds):
            self._no_overload(node, name, None, kinds)

    def _no_overload(self, node: Node, name: str, receiver: Kind | None, kinds: list[Kind]) -> Kind:
        shown = ", ".join(map(str, kinds))
        to = f"({shown})" if receiver is None else f"{receiver}.({shown})"
        return self._wrong(node, f"found no matching overload for '{name}' applied to '{to}'")

    def _select(self, node: tree.Select, scope: Scope) -> Kind:
        path = dotted(node)
        if path in TYPES and path.partition(".")[0] not in scope:
            return Kind("T")
        of = self.infer(node.of, scope)
        if node.optional and of.letter != "o":
            return Kind("o", self._field(node, of, node.field))
        return self._field(node, of, node.field)

    def _field(self, node: Node, of: Kind, name: str) -> Kind:
        if of.letter == "o":
            return Kind("o", self._field(node, of.item or DYN, name))
        if of.letter == "A" and name == "requestResource":
            return Kind("R")
        if of.letter not in "m*":
            return self._wrong(node, f"type '{of}' does not support field selection")
        if of.fields is not None:
            return of.fields[name] if name in of.fields else self._wrong(node, f"undefined field '{name}'")
        return of.item or DYN

    def _index(self, node: tree.Index, scope: Scope) -> Kind:
        of, key = self.infer(node.of, scope), self.infer(node.key, scope)
        item = of.item or DYN
        if of.letter == "o":
            return Kind("o", item.item)
        if of.letter not in "lm*":
            return self._no_overload(node, "_[_]", None, [of, key])
        return Kind("o", item) if node.optional else item

    def _call(self, node: tree.Call, scope: Scope) -> Kind:
        args = [self.infer(one, scope) for one in node.args]
        whole = namespaced(node)
        if whole and node.of is not None and dotted(node.of).partition(".")[0] not in scope:
            return self._result(node, whole, None, args)
        if node.of is None:
            if not is_function(node.name, member=False):
                return self._undeclared(node, node.name)
            if node.name in ("_==_", "_!=_") and _never_equal(*args):
                return self._no_overload(node, node.name, None, args)
            return self._result(node, node.name, None, args)
        if not is_function(node.name, member=True):
            self.infer(node.of, scope)
            return self._undeclared(node, node.name)
        return self._result(node, node.name, self.infer(node.of, scope), args)

    def _result(self, node: Node, name: str, receiver: Kind | None, args: list[Kind]) -> Kind:
        kinds = args if receiver is None else [receiver, *args]
        found = results(name, receiver is not None, "".join(one.letter for one in kinds))
        if not found:
            return self._no_overload(node, name, receiver, args)
        if len(found) > 1:
            return DYN
        (letter,) = found
        if letter == "*" and receiver is not None and receiver.letter in "ol":
            return receiver.item or DYN
        if letter == "l" and receiver is not None:
            return receiver if receiver.letter == "l" and name != "flatten" else list_of(STRING)
        if letter == "l" and name == "_+_":
            return args[0]
        if letter == "o" and name == "optional.of":
            return Kind("o", args[0])
        return Kind(letter)

    def _choice(self, node: tree.Choice, scope: Scope) -> Kind:
        condition, yes, no = (self.infer(one, scope) for one in (node.condition, node.yes, node.no))
        if condition.letter not in "b*" or _never_equal(yes, no):
            return self._no_overload(node, "_?_:_", None, [condition, yes, no])
        return yes if yes.letter == no.letter else DYN

    def _made(self, node: tree.Made, scope: Scope) -> Kind:
        if node.type.partition(".")[0] not in scope.get("", _NOTHING).name.split(","):
            return self._undeclared(node, node.type)
        for _, value, _ in node.fields:
            self.infer(value, scope)
        return Kind("m", name=node.type)

    def _loop(self, node: tree.Loop, scope: Scope) -> Kind:
        over = self.infer(node.over, scope)
        if over.letter not in "lm*":
            why = f"expression of type '{over}' cannot be range of a comprehension (must be list, map, or dynamic)"
            return self._wrong(node.over, why)
        item = over.item or DYN
        if len(node.names) == 2:
            first = INT if over.letter == "l" else STRING if over.letter == "m" else DYN
            bound = {node.names[0]: first, node.names[1]: item}
        else:
            bound = {node.names[0]: STRING if over.letter == "m" else item}
        inner = {**scope, **bound}
        if node.only is not None:
            self.infer(node.only, inner)
        body = self.infer(node.body, inner)
        if node.macro in ("all", "exists", "exists_one", "filter") and body.letter not in "b*":
            why = f"expected type 'bool' but found '{body}'"
            return self._wrong(node.body, why)
        if node.macro == "filter":
            return over if over.letter == "l" else list_of(DYN)
        if node.macro in ("map", "transformList"):
            return list_of(body)
        return map_of(body) if node.macro.startswith("transform") else BOOL

    def _bind(self, node: tree.Bind, scope: Scope) -> Kind:
        value = self.infer(node.value, scope)
        if node.macro == "bind":
            return self.infer(node.body, {**scope, node.name: value})
        if value.letter not in "o*":
            return self._no_overload(node, node.macro, value, [DYN])
        body = self.infer(node.body, {**scope, node.name: value.item or DYN})
        return Kind("o", body) if node.macro == "optMap" else body


_NOTHING = Kind("*")


def makes(*types: str) -> dict[str, Kind]:
    """An entry for `variables` that lets expressions make objects of these types."""
    return {"": Kind("*", name=",".join(types))}


def _literal(node: tree.Literal) -> Kind:
    if node.unsigned:
        return Kind("u")
    letters: dict[type, str] = {bool: "b", int: "i", float: "d", str: "s", bytes: "y", type(None): "n"}
    return Kind(letters[type(node.value)])


def _common(kinds: list[Kind]) -> Kind:
    return kinds[0] if kinds and all(one.letter == kinds[0].letter for one in kinds) else DYN


_PLAIN = frozenset("bidsuylmtD")


def _never_equal(one: Kind, other: Kind) -> bool:
    """Whether two types have nothing in common."""
    pair = {one.letter, other.letter}
    if len(pair) == 1 or "*" in pair:
        return False
    if "n" in pair:
        return bool(pair & set("bidsuyl"))
    return pair <= _PLAIN
