"""Sets of field paths in the form in which managedFields carry them (FieldsV1), and what differs between two objects.

    {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}

A node that is empty, or has a ".", belongs to the set; its other members are the paths below it. Members of objects
are `f:NAME`, elements of lists `k:{KEYS}` (by their map keys) or `v:VALUE` (sets). Sets are never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kubesim.schema.types import Field, ListType, MapType, ObjectType, Scalar, Type, object_type

Node = Mapping[str, Any]
EMPTY: Node = {}


class Missing:
    """A value that is not there, unlike one that is null."""


MISSING = Missing()


def is_member(node: Node) -> bool:
    return not node or "." in node


def below(node: Node) -> Iterator[tuple[str, Node]]:
    return ((key, child) for key, child in node.items() if key != ".")


def node_of(member: bool, children: dict[str, Node]) -> Node | None:
    """A node from its parts; None when there is nothing in it."""
    if not children:
        return {} if member else None
    return {".": {}, **children} if member else children


def union(one: Node | None, other: Node | None) -> Node | None:
    """Paths of either; None stands for the empty set."""
    if one is None or other is None:
        return one if other is None else other
    if one is other:
        return one
    children = dict(below(one))
    for key, child in below(other):
        made = union(children.get(key), child)
        if made is not None:
            children[key] = made
    return node_of(is_member(one) or is_member(other), children)


def difference(one: Node | None, other: Node | None) -> Node | None:
    """Paths of the first that are not in the second; a path does not stand for what is below it."""
    if one is None or other is None:
        return one
    children: dict[str, Node] = {}
    minus = dict(below(other))
    for key, child in below(one):
        made = difference(child, minus.get(key))
        if made is not None:
            children[key] = made
    return node_of(is_member(one) and not is_member(other), children)


def without(one: Node | None, other: Node | None) -> Node | None:
    """Paths of the first that are neither in the second nor below one of its paths."""
    if one is None or other is None:
        return one
    if is_member(other):
        return None
    children: dict[str, Node] = {}
    minus = dict(below(other))
    for key, child in below(one):
        made = without(child, minus.get(key))
        if made is not None:
            children[key] = made
    return node_of(is_member(one), children)


def intersection(one: Node | None, other: Node | None) -> Node | None:
    """Paths of both."""
    if one is None or other is None:
        return None
    children: dict[str, Node] = {}
    also = dict(below(other))
    for key, child in below(one):
        made = intersection(child, also.get(key))
        if made is not None:
            children[key] = made
    return node_of(is_member(one) and is_member(other), children)


def top(children: Node | None) -> Node | None:
    """A whole set: the root itself is no path, so a root without children is the empty set."""
    if children is None:
        return None
    made = dict(below(children))
    return made or None


def of_paths(paths: tuple[tuple[str, ...], ...]) -> Node | None:
    """The set of some plain field paths."""
    found: Node | None = None
    for path in paths:
        node: Node = {}
        for name in reversed(path):
            node = {f"f:{name}": node}
        found = union(found, node)
    return found


def is_set(node: Any) -> bool:
    """Whether a document is a set, and not what somebody wrote in its place."""
    if not isinstance(node, dict):
        return False
    return all(_is_key(key) and is_set(below) for key, below in node.items())


def _is_key(key: str) -> bool:
    kind, colon, text = key.partition(":")
    if key == "." or (kind == "f" and colon):
        return True
    try:
        match kind:
            case "k":
                return isinstance(orjson.loads(text), dict)
            case "v":
                orjson.loads(text)
                return True
            case "i":
                return text.isdecimal()
    except orjson.JSONDecodeError:
        return False
    return False


def sorted_set(node: Node) -> dict[str, Any]:
    """The same set with its members in order, as it is written."""
    return {key: sorted_set(node[key]) for key in sorted(node)}


def paths(node: Node, prefix: str = "") -> Iterator[str]:
    """Every path as errors print it: `.spec.containers[name="c"].image`."""
    for key in sorted(key for key in node if key != "."):
        shown = prefix + _shown(key)
        if is_member(node[key]):
            yield shown
        yield from paths(node[key], shown)


def _shown(key: str) -> str:
    kind, _, text = key.partition(":")
    if kind == "f":
        return "." + text
    if kind == "k":
        keys = orjson.loads(text)
        return "[" + ",".join(f"{name}={orjson.dumps(keys[name]).decode()}" for name in sorted(keys)) + "]"
    return f"[={text}]" if kind == "v" else f"[{text}]"


# Types


DEDUCED = object_type("deduced", (), preserve=True)
"""What nobody described: objects are taken apart, everything else is one value."""


def is_atomic(type_: Type, known: Field | None) -> bool:
    """Whether a value is owned as a whole."""
    if isinstance(type_, Scalar):
        return True
    if isinstance(type_, ListType):
        return type_.list_type not in ("map", "set")
    if isinstance(type_, MapType):
        return type_.atomic
    return type_.atomic or (known is not None and known.atomic)


def child_type(type_: Type, name: str) -> tuple[Type | None, Field | None]:
    """The type of a member of an object or a map."""
    if isinstance(type_, ObjectType):
        known = type_.fields.get(name)
        if known is None and type_.preserve:
            return DEDUCED, None
        return (known.type, known) if known else (None, None)
    if isinstance(type_, MapType):
        return type_.value, None
    return None, None


def element_key(type_: ListType, element: Any) -> str:
    """How an element of a list is told apart; raises KeyError for one that has none of its map keys."""
    if type_.list_type == "set":
        return "v:" + orjson.dumps(element).decode()
    defaults = type_.key_defaults
    keys: dict[str, Any] = {}
    if isinstance(element, dict):
        for name in sorted(type_.keys):
            if name in element:
                keys[name] = element[name]
            elif name in defaults:
                keys[name] = defaults[name]
    if not keys:
        raise KeyError(type_.keys)
    return "k:" + orjson.dumps(keys).decode()


def keyed(type_: ListType, elements: list[Any]) -> dict[str, list[Any]]:
    """The elements of a list by their keys; more than one where keys repeat."""
    found: dict[str, list[Any]] = {}
    for at, element in enumerate(elements):
        try:
            key = element_key(type_, element)
        except KeyError:
            key = f"i:{at}"
        found.setdefault(key, []).append(element)
    return found


# Comparison


@dataclass(slots=True)
class Comparison:
    """What has to happen to turn one object into another."""

    added: Node | None = None
    removed: Node | None = None
    modified: Node | None = None

    @property
    def same(self) -> bool:
        return self.added is None and self.removed is None and self.modified is None


@dataclass(slots=True)
class _Found:
    """The differences below a node, by member."""

    added: dict[str, Node] = field(default_factory=dict)
    removed: dict[str, Node] = field(default_factory=dict)
    modified: dict[str, Node] = field(default_factory=dict)


def compare(type_: ObjectType, old: Any, new: Any) -> Comparison:
    """The differences of two objects of a type, as sets of paths."""
    found = _compare(type_, None, old, new)
    return Comparison(top(found.added), top(found.removed), top(found.modified))


_LEAF: Node = {}


def _compare(type_: Type | None, known: Field | None, old: Any, new: Any) -> Comparison:
    if old is new or (old is not MISSING and new is not MISSING and old == new):
        return Comparison()
    if (
        type_ is None
        or is_atomic(type_, known)
        or (not _filled(old) and not _filled(new))
        or not (_shaped(type_, old) and _shaped(type_, new))
    ):
        return _leaf(old, new)
    found = _Found()
    if isinstance(type_, ListType):
        _compare_lists(type_, old, new, found)
    else:
        _compare_members(type_, old, new, found)
    return Comparison(
        node_of(old is MISSING, found.added),
        node_of(new is MISSING, found.removed),
        node_of(False, found.modified),
    )


def _shaped(type_: Type, value: Any) -> bool:
    """Whether a value has the form of its type: those of custom resources may not."""
    return (
        value is MISSING or value is None or isinstance(value, list if isinstance(type_, ListType) else dict)
    )


def _filled(value: Any) -> bool:
    return value is not MISSING and bool(value)


def _leaf(old: Any, new: Any) -> Comparison:
    if old is MISSING:
        return Comparison(added=_LEAF)
    if new is MISSING:
        return Comparison(removed=_LEAF)
    return Comparison(modified=_LEAF)


def _note(found: _Found, key: str, result: Comparison) -> None:
    if result.added is not None:
        found.added[key] = result.added
    if result.removed is not None:
        found.removed[key] = result.removed
    if result.modified is not None:
        found.modified[key] = result.modified


def _compare_members(type_: Type, old: Any, new: Any, found: _Found) -> None:
    before: dict[str, Any] = old if isinstance(old, dict) else {}
    after: dict[str, Any] = new if isinstance(new, dict) else {}
    for name in (*before, *(name for name in after if name not in before)):
        below_type, known = child_type(type_, name)
        result = _compare(below_type, known, before.get(name, MISSING), after.get(name, MISSING))
        _note(found, f"f:{name}", result)


def _compare_lists(type_: ListType, old: Any, new: Any, found: _Found) -> None:
    before = keyed(type_, old if isinstance(old, list) else [])
    after = keyed(type_, new if isinstance(new, list) else [])
    for key in (*before, *(key for key in after if key not in before)):
        was, now = before.get(key, []), after.get(key, [])
        if len(was) > 1 or len(now) > 1:
            if was != now:
                _note(found, key, _leaf(was or MISSING, now or MISSING))
            continue
        first, second = was[0] if was else MISSING, now[0] if now else MISSING
        _note(found, key, _compare(type_.element, None, first, second))


# The set of what an object has


def fields_of(type_: ObjectType, value: Any) -> Node | None:
    """All paths of an applied object."""
    return top(_fields(type_, None, value))


def _fields(type_: Type | None, known: Field | None, value: Any) -> Node | None:
    if type_ is None or is_atomic(type_, known) or not _shaped(type_, value):
        return {}
    children: dict[str, Node] = {}
    if isinstance(type_, ListType):
        for key, elements in keyed(type_, value or []).items():
            node = _fields(type_.element, None, elements[0])
            children[key] = union(node, {}) or {}
        return node_of(value is None, children)
    if value is None or not value:
        return {}
    for name, one in value.items():
        below_type, below_field = child_type(type_, name)
        node = _fields(below_type, below_field, one)
        if not isinstance(type_, ObjectType):
            node = union(node, {})
        if node is not None:
            children[f"f:{name}"] = node
    return node_of(False, children)
