"""Objects as values of a type: checked, merged, and with paths taken out. What server-side apply is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubesim.apiserver.patch.fieldset import (
    DEDUCED,
    Node,
    below,
    child_type,
    element_key,
    is_atomic,
    is_member,
    keyed,
    node_of,
    paths,
    union,
)
from kubesim.schema.types import Field, ListType, MapType, ObjectType, Scalar, Type

# Checking what is applied


def problems(type_: ObjectType, value: Any) -> list[str]:
    """Why a document cannot be applied: undeclared fields, wrong kinds of values, keys that occur twice."""
    return list(_problems(type_, value, ""))


_ACCEPTS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "int32": (int,),
    "int64": (int,),
    "number": (int, float),
    "bytes": (str,),
    "quantity": (str, int, float),
    "int-or-string": (str, int),
    "time": (str,),
    "micro-time": (str,),
}
_NAMES = {
    "int32": "numeric (int or float)",
    "int64": "numeric (int or float)",
    "number": "numeric (int or float)",
}


def _problems(type_: Type | None, value: Any, path: str) -> Iterator[str]:
    if value is None or type_ is None:
        return
    if isinstance(type_, Scalar):
        accepted = _ACCEPTS.get(type_.kind)
        wrong = accepted is not None and not isinstance(value, accepted)
        if wrong or (isinstance(value, bool) and type_.kind not in ("boolean", "any")):
            yield f"{path}: expected {_NAMES.get(type_.kind, 'string')}, got {value!r}"
    elif isinstance(type_, ListType):
        yield from _list_problems(type_, value, path)
    elif type_ is DEDUCED:
        return
    elif not isinstance(value, dict):
        yield f"{path}: expected map, got {value!r}"
    else:
        for name, one in value.items():
            below_type, _ = child_type(type_, name)
            if below_type is None and not (isinstance(type_, ObjectType) and type_.preserve):
                yield f"{path}.{name}: field not declared in schema"
            else:
                yield from _problems(below_type, one, f"{path}.{name}")


def _list_problems(type_: ListType, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: expected list, got {value!r}"
        return
    seen: set[str] = set()
    for at, element in enumerate(value):
        place = f"{path}[{at}]"
        if type_.list_type in ("map", "set"):
            try:
                key = element_key(type_, element)
            except KeyError:
                keys = " ".join(f'"{name}"' for name in type_.keys)
                yield (
                    f"{path}: element {at}: associative list with keys has an element that omits all key fields "
                    f"[{keys}] (and doesn't have default values for any key fields)"
                )
                continue
            place = path + _shown_key(key)
            if key in seen:
                yield f"{path}: duplicate entries for key {_shown_key(key)}"
            seen.add(key)
        yield from _problems(type_.element, element, place)


def _shown_key(key: str) -> str:
    return next(paths({key: {}}))


# Merging


def merge(type_: Type | None, known: Field | None, live: Any, applied: Any) -> Any:
    """The live value with the applied one laid over it."""
    if type_ is None or is_atomic(type_, known) or live is None or applied is None:
        return applied
    if isinstance(type_, ListType):
        if not isinstance(live, list) or not isinstance(applied, list):
            return applied
        return _merge_lists(type_, live, applied)
    if not isinstance(live, dict) or not isinstance(applied, dict):
        return applied
    made = dict(live)
    for name, value in applied.items():
        below_type, below_field = child_type(type_, name)
        made[name] = merge(below_type, below_field, live[name], value) if name in live else value
    return made


def _merge_lists(type_: ListType, live: list[Any], applied: list[Any]) -> list[Any]:
    """Both lists in one: shared elements in the applied order, live ones stay before what they were before."""
    left, right = keyed(type_, live), keyed(type_, applied)
    left_keys, right_keys = list(left), list(right)
    shared = [key for key in right_keys if key in left]
    made: list[Any] = []
    taken: set[str] = set()
    at, to = 0, 0
    while at < len(left_keys) or to < len(right_keys):
        key = left_keys[at] if at < len(left_keys) else ""
        if key and to < len(right_keys):
            if key == right_keys[to]:
                made.append(merge(type_.element, None, left[key][0], right[key][0]))
                taken.add(key)
                at, to = at + 1, to + 1
                shared = shared[1:]
                continue
            if key in right and shared and shared[0] != key:
                at += 1
                continue
        if key:
            if key not in right:
                made.extend(left[key])
                at += 1
                continue
            if key in taken:
                at += 1
        if to < len(right_keys):
            key = right_keys[to]
            known = left.get(key)
            made.append(merge(type_.element, None, known[0], right[key][0]) if known else right[key][0])
            taken.add(key)
            to += 1
            if shared and shared[0] == key:
                shared = shared[1:]
    return made


# Taking out


def remove(type_: Type | None, known: Field | None, value: Any, doomed: Node) -> Any:
    """The value without these paths; None when nothing is left of it."""
    if type_ is None or is_atomic(type_, known):
        return value
    children = dict(below(doomed))
    if isinstance(type_, ListType):
        if not isinstance(value, list):
            return value
        kept = []
        for key, elements in keyed(type_, value).items():
            node = children.get(key)
            if node is None:
                kept.extend(elements)
            elif not is_member(node):
                kept.extend(remove(type_.element, None, one, node) for one in elements)
        return kept or None
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = {}
    for name, one in value.items():
        node = children.get(f"f:{name}")
        if node is None:
            made[name] = one
        elif not is_member(node):
            below_type, below_field = child_type(type_, name)
            made[name] = remove(below_type, below_field, one, node)
    return made or None


def with_parents(type_: Type | None, node: Node) -> Node:
    """The set with every declared field that leads to one of its paths as a path of its own."""
    children: dict[str, Node] = {}
    for key, child in below(node):
        if isinstance(type_, ListType):
            children[key] = with_parents(type_.element, child)
        elif isinstance(type_, ObjectType | MapType):
            below_type, known = child_type(type_, key.removeprefix("f:"))
            made = with_parents(below_type, child)
            children[key] = (union(made, {}) or {}) if known is not None else made
        else:
            children[key] = child
    return node_of(is_member(node), children) or {}
