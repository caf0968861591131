"""MutatingAdmissionPolicy: changes in CEL, as an apply configuration (`Object{...}`) or as a JSON patch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubesim.apiserver.admission.base import Again, Attempt, Cluster
from kubesim.apiserver.admission.policies import Meeting, policies_for, prepared, refusal
from kubesim.apiserver.admission.review import apply_operations
from kubesim.apiserver.admission.versions import as_asked, in_version, taken_back, with_system_fields
from kubesim.apiserver.patch import typed
from kubesim.apiserver.patch.fieldset import child_type, is_atomic
from kubesim.apiserver.requests import JsonObject
from kubesim.errors import StatusError
from kubesim.schema.cel import CelError, CelSyntax, Instance
from kubesim.schema.cel.functions import string_of
from kubesim.schema.types import Field, ListType, ObjectType, Type, kind_type, type_of


class _Refused(Exception):
    """A change that cannot be made."""


class MutatingPolicies:
    """A hook of admission."""

    async def mutate(
        self, cluster: Cluster, attempt: Attempt, obj: JsonObject | None, again: Again
    ) -> JsonObject | None:
        if obj is None:
            return obj
        plurals = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
        for meeting in list(policies_for(cluster, attempt, obj, *plurals)):
            key = "/".join(("policy", *meeting.names, _named(meeting.params)))
            if again.skips(key):
                continue
            try:
                made = await self._changed(cluster, attempt, meeting, obj)
            except (CelError, CelSyntax, _Refused) as wrong:
                if meeting.fails_open:
                    continue
                raise _denial(attempt, obj, meeting, str(wrong)) from None
            if made is not obj:
                obj = made
                again.changed()
            if meeting.spec.get("reinvocationPolicy") == "IfNeeded":
                again.passed.add(key)
        return obj

    async def _changed(
        self, cluster: Cluster, attempt: Attempt, meeting: Meeting, obj: JsonObject
    ) -> JsonObject:
        """The object after all mutations of a policy; the same one when they change nothing."""
        if meeting.problem:
            raise _Refused(meeting.problem)
        seen = await in_version(cluster, attempt, meeting.rt, obj)
        shown = as_asked(attempt, seen)
        if seen is None or shown is None:
            return obj
        made = shown
        for one in meeting.spec.get("mutations") or ():
            about = await prepared(cluster, attempt, meeting, made)
            if about is None:
                return obj
            if one["patchType"] == "JSONPatch":
                operations = about.compute(meeting.expression(one["jsonPatch"]["expression"], True))
                made = _patched(made, operations)
            else:
                laid = about.compute(meeting.expression(one["applyConfiguration"]["expression"], True))
                made = _merged(_type(attempt, meeting), made, laid)
        if made == shown:
            return obj
        return await taken_back(cluster, attempt, meeting.rt, with_system_fields(attempt, seen, made))


def _named(params: JsonObject | None) -> str:
    meta = (params or {}).get("metadata") or {}
    return f"{meta.get('namespace', '')}/{meta.get('name', '')}"


def _type(attempt: Attempt, meeting: Meeting) -> ObjectType:
    found = kind_type(*attempt.of) if attempt.of is not None else type_of(meeting.rt)
    if found is None:
        raise _Refused("the kind of the object has no structure")
    return found


def _denial(attempt: Attempt, obj: JsonObject, meeting: Meeting, why: str) -> StatusError:
    name, binding = meeting.names
    by = f"policy '{name}' with binding '{binding}'" if meeting.binding is not None else f'policy "{name}"'
    return refusal(attempt, obj, f"{by} denied request: {why}")


def _patched(document: JsonObject, operations: Any) -> JsonObject:
    if not isinstance(operations, list):
        raise _Refused("type mismatch: JSONPatch expression must evaluate to a list of JSONPatch")
    listed: list[JsonObject] = []
    for one in operations:
        if not isinstance(one, Instance) or one.type != "JSONPatch":
            raise _Refused(
                f"type mismatch: JSONPatch expression evaluated to a list with a {type(one).__name__}"
            )
        listed.append(plain(one))
    try:
        made: JsonObject = apply_operations(document, listed)
    except StatusError as wrong:
        raise _Refused(f"JSON Patch: {wrong.message.removeprefix('Internal error occurred: ')}") from None
    return made


def _merged(type_: ObjectType, document: JsonObject, laid: Any) -> JsonObject:
    if not isinstance(laid, Instance) or laid.type != "Object":
        raise _Refused("type mismatch: ApplyConfiguration expression must evaluate to Object")
    value = plain(laid)
    atomic = list(_atomic(type_, None, value, ""))
    if atomic:
        why = f"may not mutate atomic arrays, maps or structs: {', '.join(atomic)}"
        raise _Refused(f"invalid ApplyConfiguration: {why}")
    wrong = typed.problems(type_, value)
    if wrong:
        raise _Refused(f"error applying patch: failed to convert patch object to typed object: {wrong[0]}")
    made: JsonObject = typed.merge(type_, None, document, value)
    return made


def _atomic(type_: Type | None, known: Field | None, value: Any, path: str) -> Iterator[str]:
    """The paths at which a configuration would replace what belongs together."""
    if not isinstance(value, dict | list) or type_ is None:
        return
    if is_atomic(type_, known):
        yield path
    elif isinstance(type_, ListType):
        for at, one in enumerate(value):
            yield from _atomic(type_.element, None, one, f"{path}[{at}]")
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _atomic(*child_type(type_, name), one, f"{path}.{name}")


def plain(value: Any) -> Any:
    """A value of CEL as JSON has it."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int):
        return int(value)
    try:
        return string_of(value)
    except CelError as wrong:
        raise _Refused(str(wrong)) from None
