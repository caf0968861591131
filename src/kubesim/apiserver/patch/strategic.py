"""Strategic merge patch: lists merge by the keys of the schema, and directives say what to delete and how to order.

    $patch: replace | delete          in a map, or as an element of a list
    $retainKeys: [...]                all other members of this map go
    $deleteFromPrimitiveList/LIST     values to take out of a list of scalars
    $setElementOrder/LIST             the order of a merged list

It follows the real server where that surprises: new elements go to the front, a map with a directive vanishes where
the object has no such map yet, and list elements are told apart by one key even where two would be needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubesim import errors
from kubesim.errors import JsonObject
from kubesim.schema.gojson import printed
from kubesim.schema.types import Field, ListType, MapType, ObjectType, Type

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def strategic_merge(type_: ObjectType, document: JsonObject, patch: JsonObject) -> JsonObject:
    """The patched document; raises StatusError(500) for a patch that makes no sense, as the real server does."""
    return _map(type_, document, patch)


def _bad_directive(value: object, holder: JsonObject) -> errors.StatusError:
    return errors.unclassified(f"unknown patch type: {printed(value)} in map: {printed(holder)}")


def _field(type_: Type | None, key: str) -> tuple[Type | None, Field | None]:
    if isinstance(type_, ObjectType):
        field = type_.fields.get(key)
        return (field.type, field) if field else (None, None)
    if isinstance(type_, MapType):
        return type_.value, None
    return None, None


def _map(type_: Type | None, original: JsonObject, patch: JsonObject) -> JsonObject:
    if _PATCH in patch:
        return _directed(patch)
    made = dict(original)
    if _RETAIN in patch:
        patch = _retain(made, patch)
    ordered = [key for key in patch if key.startswith(_ORDER)]
    if ordered:
        patch = _in_order(type_, made, patch, ordered)
    for key, value in patch.items():
        if key.startswith(_DELETE_FROM):
            _delete_from(made, key.removeprefix(_DELETE_FROM), value)
        elif value is None:
            made.pop(key, None)
        else:
            _member(type_, made, key, value)
    return made


def _directed(patch: JsonObject) -> JsonObject:
    directive = patch[_PATCH]
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _PATCH}
    if directive == "delete":
        return {}
    raise _bad_directive(directive, patch)


def _member(type_: Type | None, made: JsonObject, key: str, value: Any) -> None:
    known = made.get(key)
    below, field = _field(type_, key)
    if isinstance(known, dict) and isinstance(value, dict):
        made[key] = value if field is not None and field.replace else _map(below, known, value)
    elif isinstance(known, list) and isinstance(value, list):
        made[key] = _list(below, known, value)
    elif isinstance(value, dict | list):
        kept = _without_directives(value)
        if kept is None:
            made.pop(key, None)
        else:
            made[key] = kept
    else:
        made[key] = value


def _without_directives(value: Any) -> Any:
    """A new value without nulls and without what carries a directive; None when nothing is left of it."""
    if isinstance(value, dict):
        if _PATCH in value:
            return None
        made = {}
        for key, one in value.items():
            if key.startswith((_DELETE_FROM, _ORDER)) or key == _RETAIN:
                continue
            kept = _without_directives(one)
            if kept is not None:
                made[key] = kept
        return made
    if isinstance(value, list):
        return [kept for kept in map(_without_directives, value) if kept is not None]
    return value


def _retain(made: JsonObject, patch: JsonObject) -> JsonObject:
    """Drop from the original what the list does not name; returns the patch without the directive."""
    listed = patch[_RETAIN]
    rest = {key: value for key, value in patch.items() if key != _RETAIN}
    named = isinstance(listed, list) and all(
        value is None or key in listed or key.startswith((_DELETE_FROM, _ORDER))
        for key, value in rest.items()
    )
    if not named:
        raise errors.unclassified("invalid patch format of $retainKeys")
    for key in [key for key in made if key not in listed]:
        del made[key]
    return rest


def _delete_from(made: JsonObject, key: str, values: Any) -> None:
    known = made.get(key)
    if isinstance(known, list) and isinstance(values, list):
        made[key] = [one for one in known if one not in values]


def _list(type_: Type | None, original: list[Any], patch: list[Any]) -> list[Any]:
    if not isinstance(type_, ListType) or not type_.merge:
        return patch
    if not original and not patch:
        return original
    if not any(isinstance(one, dict) for one in (*original, *patch)):
        both = list(dict.fromkeys([*original, *patch]))
        return _arranged(both, patch, original, "")
    key = type_.merge_key
    if not key or not all(isinstance(one, dict) for one in (*original, *patch)):
        raise errors.unclassified("cannot merge lists of different kinds or without a merge key")
    original, patch = _special(original, patch, key)
    return _arranged(_merged(type_.element, original, patch, key), patch, original, key)


def _special(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Carry out the elements of the patch that are directives; returns what is left to merge."""
    rest: list[Any] = []
    replace = False
    for one in patch:
        if _PATCH not in one:
            rest.append(one)
        elif one[_PATCH] == "delete":
            if key not in one:
                raise _no_key(one, key)
            original = [other for other in original if other.get(key) != one[key]]
        elif one[_PATCH] == "replace":
            replace = True
        elif one[_PATCH] == "merge":
            raise errors.unclassified("merging lists cannot yet be specified in the patch")
        else:
            raise _bad_directive(one[_PATCH], one)
    return (rest, []) if replace else (original, rest)


def _no_key(element: JsonObject, key: str) -> errors.StatusError:
    return errors.unclassified(f"map: {printed(element)} does not contain declared merge key: {key}")


def _merged(element: Type, original: list[Any], patch: list[Any], key: str) -> list[Any]:
    made = list(original)
    for one in patch:
        if key not in one:
            raise _no_key(one, key)
        for at, other in enumerate(made):
            if other.get(key) == one[key]:
                made[at] = _map(element, other, one)
                break
        else:
            made.append(_without_directives(one))
    return made


def _same(one: Any, other: Any, key: str) -> bool:
    return bool(one.get(key) == other.get(key)) if key else bool(one == other)


def _position(order: Sequence[Any], one: Any, key: str) -> int:
    return next((at for at, other in enumerate(order) if _same(one, other, key)), -1)


def _arranged(merged: list[Any], order: Sequence[Any], original: list[Any], key: str) -> list[Any]:
    """What the patch names in its order, the rest in the old one, and the two woven together.

    An element of the rest stays in front of a named one only if it was in front of it before.
    """
    named = sorted(
        (one for one in merged if _position(order, one, key) >= 0), key=lambda one: _position(order, one, key)
    )
    rest = sorted(
        (one for one in merged if _position(order, one, key) < 0),
        key=lambda one: _position(original, one, key),
    )
    woven: list[Any] = []
    while rest and named:
        left, right = _position(original, rest[0], key), _position(original, named[0], key)
        woven.append(rest.pop(0) if 0 <= left < right else named.pop(0))
    return woven + rest + named


def _in_order(type_: Type | None, made: JsonObject, patch: JsonObject, ordered: list[str]) -> JsonObject:
    """Merge the lists whose order is given; returns the patch without them."""
    rest = dict(patch)
    for directive in ordered:
        order = rest.pop(directive)
        name = directive.removeprefix(_ORDER)
        below, _ = _field(type_, name)
        key = below.merge_key if isinstance(below, ListType) else ""
        if not isinstance(order, list):
            raise errors.unclassified(f"expected a list, but got {printed(order)}")
        original, wanted = made.get(name), rest.pop(name, None)
        _check_order(wanted or [], order, key)
        if original is None and wanted is None:
            continue
        if original is None:
            merged = _without_directives(wanted)
        elif wanted is None:
            merged = original
        else:
            merged = _list(below, original, wanted)
        made[name] = _arranged(merged, order, original or [], key)
    return rest


def _check_order(patch: list[Any], order: list[Any], key: str) -> None:
    """The elements of the patch have to occur in the order list, in the same order."""
    last = -1
    for one in patch:
        if isinstance(one, dict) and (one.get(_PATCH) in ("delete", "replace") or key not in one):
            continue
        at = _position(order, one, key)
        if at <= last:
            shown, wanted = printed(patch), printed(order)
            raise errors.unclassified(
                f"The order in patch list:\n{shown}\n doesn't match $setElementOrder list:\n{wanted}\n\n"
            )
        last = at
