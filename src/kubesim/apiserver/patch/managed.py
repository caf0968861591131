"""metadata.managedFields: who owns which fields, kept up by every write.

An entry belongs to a manager, an operation (Apply or Update), a version and a subresource. A plain write takes what it
changes away from everybody else; what it removes nobody owns any more. `apply` builds on the same sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubesim.apiserver.patch import fieldset
from kubesim.apiserver.patch.fieldset import Node
from kubesim.errors import JsonObject
from kubesim.schema.decode import zero
from kubesim.schema.registry import ResourceType
from kubesim.schema.types import ObjectType, type_of

APPLY = "Apply"
UPDATE = "Update"
BEFORE_FIRST_APPLY = "before-first-apply"
ANCIENT = "ancient-changes"
MOST_UPDATERS = 10

_NOT_OWNED: Node = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {
        ".": {},
        "f:name": {},
        "f:namespace": {},
        "f:creationTimestamp": {},
        "f:selfLink": {},
        "f:uid": {},
        "f:generation": {},
        "f:managedFields": {},
        "f:resourceVersion": {},
    },
}


@dataclass(frozen=True, slots=True)
class Owner:
    """Who an entry belongs to; what is applied belongs to its manager in whatever version."""

    manager: str
    operation: str
    api_version: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What an owner has, in which version it was said, and when it last changed."""

    fields: Node
    api_version: str
    time: str


Managers = Mapping[Owner, Entry]


def manager_name(field_manager: str, user_agent: str) -> str:
    """The manager of a request: what it says, or the first part of its User-Agent."""
    if field_manager:
        return field_manager
    return user_agent.split("/")[0][:128] or "unknown"


def read(entries: list[JsonObject] | None) -> dict[Owner, Entry]:
    """The managers of an object; entries that cannot be read count for nothing."""
    managers: dict[Owner, Entry] = {}
    for entry in entries or ():
        operation, version = entry.get("operation", ""), entry.get("apiVersion", "")
        fields = entry.get("fieldsV1")
        if operation not in (APPLY, UPDATE) or not isinstance(fields, dict):
            return {}
        owner = Owner(
            entry.get("manager", ""),
            operation,
            "" if operation == APPLY else version,
            entry.get("subresource", ""),
        )
        managers[owner] = Entry(fields, version, entry.get("time") or "")
    return managers


def _readable(entries: list[JsonObject]) -> bool:
    return all(fieldset.is_set(entry.get("fieldsV1", {})) for entry in entries)


def written(managers: Managers) -> list[JsonObject]:
    """The entries as an object carries them: what is applied first, then by time and name."""
    found: list[JsonObject] = []
    order = sorted(
        managers.items(),
        key=lambda item: (
            item[0].operation,
            item[1].time,
            item[0].manager,
            item[1].api_version,
            item[0].subresource,
        ),
    )
    for owner, entry in order:
        made: JsonObject = {
            "manager": owner.manager,
            "operation": owner.operation,
            "apiVersion": entry.api_version,
        }
        if entry.time:
            made["time"] = entry.time
        made["fieldsType"] = "FieldsV1"
        made["fieldsV1"] = fieldset.sorted_set(entry.fields)
        if owner.subresource:
            made["subresource"] = owner.subresource
        found.append(made)
    return found


def owned(node: Node | None) -> Node | None:
    """The set without what nobody can own: names, versions, times."""
    return fieldset.top(fieldset.difference(node, _NOT_OWNED))


def empty_object(type_: ObjectType) -> JsonObject:
    """What a create starts from: an object in which nobody has set anything."""
    made: JsonObject = zero(type_)
    return made


def takes(
    managers: Managers, changes: fieldset.Comparison, owner: Owner | None
) -> tuple[dict[Owner, Entry], dict[Owner, Node]]:
    """The managers after some changes, and what each of them (but `owner`) loses to a new value."""
    set_now = fieldset.union(changes.modified, changes.added)
    left: dict[Owner, Entry] = {}
    lost: dict[Owner, Node] = {}
    for other, entry in managers.items():
        if other == owner:
            left[other] = entry
            continue
        conflict = fieldset.top(fieldset.intersection(entry.fields, set_now))
        if conflict is not None:
            lost[other] = conflict
        rest = fieldset.difference(fieldset.difference(entry.fields, conflict), changes.removed)
        kept = fieldset.top(rest)
        if kept is not None:
            left[other] = Entry(kept, entry.api_version, entry.time)
    return left, lost


def capped(managers: dict[Owner, Entry]) -> dict[Owner, Entry]:
    """At most ten updaters: the oldest ones become one."""
    updaters = sorted(
        (item for item in managers.items() if item[0].operation == UPDATE and not item[0].subresource),
        key=lambda item: (item[1].time, item[0].manager),
    )
    if len(updaters) <= MOST_UPDATERS:
        return managers
    made = dict(managers)
    for owner, entry in updaters[: len(updaters) - MOST_UPDATERS + 1]:
        del made[owner]
        bucket = Owner(ANCIENT, UPDATE, entry.api_version)
        known = made.get(bucket)
        fields = fieldset.union(known.fields if known else None, entry.fields) or {}
        made[bucket] = Entry(fields, entry.api_version, entry.time)
    return made


def updated(
    rt: ResourceType,
    live: JsonObject | None,
    new: JsonObject,
    *,
    manager: str,
    now: str,
    subresource: str = "",
    ignored: tuple[tuple[str, ...], ...] = (),
    requested: Any = None,
) -> list[JsonObject]:
    """The managedFields of an object that is created or updated by something else than apply.

    `new` is decoded and defaulted, before admission. `ignored` are the paths that the write does not change
    (`Strategy.reset_fields`). `requested` is metadata.managedFields as the body had it, None if it had none: an
    empty list, or one empty entry, forgets all managers.
    """
    if not subresource and isinstance(requested, list) and requested in ([], [{}]):
        return []
    entries = requested if requested and not subresource and _readable(requested) else None
    managers = read(entries) or read((live or {"metadata": {}})["metadata"].get("managedFields"))
    if live is not None and not managers:
        return []
    return written(taken_over(rt, live, new, managers, manager, now, subresource, ignored))


def taken_over(
    rt: ResourceType,
    live: JsonObject | None,
    new: JsonObject,
    managers: Managers,
    manager: str,
    now: str,
    subresource: str,
    ignored: tuple[tuple[str, ...], ...] = (),
) -> dict[Owner, Entry]:
    """The managers after an update by `manager`."""
    type_ = type_of(rt)
    changes = fieldset.compare(type_, live if live is not None else empty_object(type_), new)
    hidden = fieldset.of_paths(ignored)
    if hidden is not None:
        changes = fieldset.Comparison(
            fieldset.top(fieldset.without(changes.added, hidden)),
            fieldset.top(fieldset.without(changes.removed, hidden)),
            fieldset.top(fieldset.without(changes.modified, hidden)),
        )
    left, _ = takes(managers, changes, None)
    owner = Owner(manager, UPDATE, rt.api_version, subresource)
    mine = owned(fieldset.union(changes.modified, changes.added))
    if mine is not None:
        known = left.get(owner)
        fields = fieldset.union(known.fields if known else None, mine) or {}
        before = managers.get(owner)
        same = before is not None and before.fields == fields
        left[owner] = Entry(fields, rt.api_version, before.time if same and before else now)
    return capped(_stripped(left))


def _stripped(managers: Managers) -> dict[Owner, Entry]:
    return {
        owner: Entry(fields, entry.api_version, entry.time)
        for owner, entry in managers.items()
        if (fields := owned(entry.fields)) is not None
    }


def same_but_times(one: JsonObject, other: JsonObject) -> bool:
    """Whether two objects are equal but for the times in managedFields: a write that does nothing."""
    if one.keys() != other.keys():
        return False
    for key, value in one.items():
        if key == "metadata":
            if _timeless(value) != _timeless(other[key]):
                return False
        elif value != other[key]:
            return False
    return True


def _timeless(meta: JsonObject) -> JsonObject:
    entries = meta.get("managedFields")
    if not entries:
        return meta
    plain = [{key: value for key, value in entry.items() if key != "time"} for entry in entries]
    return {**meta, "managedFields": plain}
