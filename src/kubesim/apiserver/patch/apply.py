"""Server-side apply: an object says what its manager wants, and the server works out the rest.

What the manager applied before and does not mention now goes away, unless somebody else owns it too; a value that
somebody else owns and that differs is a conflict, which `force` settles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubesim import errors
from kubesim.apiserver.patch import fieldset, typed
from kubesim.apiserver.patch.fieldset import Node
from kubesim.apiserver.patch.managed import (
    APPLY,
    BEFORE_FIRST_APPLY,
    UPDATE,
    Entry,
    Owner,
    empty_object,
    owned,
    read,
    taken_over,
    takes,
    written,
)
from kubesim.errors import JsonObject
from kubesim.schema.decode import DecodeError, convert
from kubesim.schema.registry import ResourceType
from kubesim.schema.types import ObjectType, type_of


def apply(
    rt: ResourceType,
    live: JsonObject | None,
    applied: JsonObject,
    *,
    manager: str,
    now: str,
    force: bool = False,
    subresource: str = "",
    ignored: tuple[tuple[str, ...], ...] = (),
) -> JsonObject:
    """The object after an apply, canonical but not defaulted; `live` is None when it is to be created.

    Raises StatusError: 400 and 500 for what cannot be applied, 409 for conflicts.
    """
    type_ = type_of(rt)
    _check(rt, type_, applied)
    managers = read((live or {"metadata": {}})["metadata"].get("managedFields"))
    if live is not None and not managers:
        before: dict[Owner, Entry] = {}
        managers = taken_over(rt, None, live, before, BEFORE_FIRST_APPLY, "", "")
    base = _unmanaged(live) if live is not None else empty_object(type_)
    owner = Owner(manager, APPLY, "", subresource)
    last = managers.get(owner)
    mine = fieldset.top(fieldset.without(fieldset.fields_of(type_, applied), fieldset.of_paths(ignored)))
    wanted = dict(managers)
    wanted[owner] = Entry(mine or {}, rt.api_version, now)
    merged = typed.merge(type_, None, base, applied)
    if last is not None:
        merged = _pruned(type_, merged, last.fields, wanted)
    made = _canonical(rt, type_, merged, applied)
    changes = fieldset.compare(type_, base, made)
    left, lost = takes(wanted, changes, owner)
    if lost and not force:
        raise _conflict(lost, left | wanted)
    return _finished(made, left, owner, mine, last)


def _unmanaged(obj: JsonObject) -> JsonObject:
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": meta}


def _check(rt: ResourceType, type_: ObjectType, applied: JsonObject) -> None:
    api_version, kind = applied.get("apiVersion"), applied.get("kind")
    if api_version != rt.api_version:
        raise errors.bad_request(
            f"Incorrect version specified in apply patch. Specified patch version: {api_version or '/'}, "
            f"expected: {rt.api_version}"
        )
    meta = applied.get("metadata") or {}
    if isinstance(meta, dict) and meta.get("managedFields") is not None:
        raise errors.bad_request("metadata.managedFields must be nil")
    wrong = typed.problems(type_, applied)
    if kind != rt.kind:
        wrong = [f"no corresponding type for {rt.group}/{rt.version}, Kind={kind or ''}"]
    if wrong:
        listed = wrong[0] if len(wrong) == 1 else "\n".join(["errors:", *(f"  {one}" for one in wrong)])
        named = (
            f"{meta.get('namespace', '')}/{meta.get('name', '')}; {rt.group}/{rt.version}, Kind={kind or ''}"
        )
        raise errors.unclassified(f"failed to create typed patch object ({named}): {listed}")


def _canonical(rt: ResourceType, type_: ObjectType, merged: JsonObject, applied: JsonObject) -> JsonObject:
    try:
        made, _ = convert(type_, merged)
    except DecodeError as wrong:
        meta = applied.get("metadata") or {}
        named = f"{meta.get('namespace', '')}/{meta.get('name', '')}; {rt.group}/{rt.version}, Kind={rt.kind}"
        why = f"failed to convert new object ({named}) to proper version ({rt.api_version}): {wrong}"
        raise errors.unclassified(why) from None
    return {"kind": rt.kind, "apiVersion": rt.api_version} | made


def _pruned(type_: ObjectType, merged: JsonObject, last: Node, managers: Mapping[Owner, Entry]) -> JsonObject:
    """The merged object without what the manager gave up and nobody else has."""
    everything: Node | None = None
    for entry in managers.values():
        everything = fieldset.union(everything, entry.fields)
    given_up = typed.with_parents(type_, last)
    kept = typed.with_parents(type_, everything or {})
    doomed = fieldset.top(fieldset.difference(given_up, kept))
    if doomed is None:
        return merged
    made: JsonObject = typed.remove(type_, None, merged, _with_children_gone(type_, merged, doomed, kept))
    return made


def _with_children_gone(type_: ObjectType, merged: Any, doomed: Node, kept: Node) -> Node:
    """A path is taken out only if nothing that somebody owns is below it."""
    children: dict[str, Node] = {}
    alive = dict(fieldset.below(kept))
    for key, child in fieldset.below(doomed):
        other = alive.get(key)
        if other is None:
            children[key] = child
        else:
            made = _with_children_gone(type_, merged, child, other)
            inner = {name: one for name, one in made.items() if name != "."}
            if inner:
                children[key] = inner
    return children


def _conflict(lost: Mapping[Owner, Node], managers: Mapping[Owner, Entry]) -> errors.StatusError:
    listed: list[tuple[str, str]] = []
    for owner in sorted(lost, key=lambda one: (one.manager, one.operation, one.api_version, one.subresource)):
        listed.extend((_shown(owner, managers), path) for path in fieldset.paths(lost[owner]))
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {name}", "field": path}
        for name, path in listed
    ]
    if len(listed) == 1:
        name, path = listed[0]
        return errors.apply_conflict(causes, f"Apply failed with 1 conflict: conflict with {name}: {path}")
    lines: list[str] = []
    for name in dict.fromkeys(name for name, _ in listed):
        lines.append(f"conflicts with {name}:")
        lines.extend(f"- {path}" for other, path in listed if other == name)
    text = "\n".join(lines)
    return errors.apply_conflict(causes, f"Apply failed with {len(listed)} conflicts: {text}")


def _shown(owner: Owner, managers: Mapping[Owner, Entry]) -> str:
    text = errors.quoted(owner.manager)
    if owner.subresource:
        text += f" with subresource {errors.quoted(owner.subresource)}"
    if owner.operation == UPDATE:
        text += f" using {managers[owner].api_version}"
    return text


def _finished(
    made: JsonObject, managers: dict[Owner, Entry], owner: Owner, mine: Node | None, last: Entry | None
) -> JsonObject:
    """The object with its managers written down."""
    entries: dict[Owner, Entry] = {}
    for other, entry in managers.items():
        fields = owned(entry.fields if other != owner else mine)
        if fields is not None:
            entries[other] = Entry(fields, entry.api_version, entry.time)
    listed = written(entries)
    if not listed:
        return made
    return {**made, "metadata": {**made["metadata"], "managedFields": listed}}
