"""The object of a request as a hook is to see it: in the version that it knows, and back."""

from __future__ import annotations

from typing import Any

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.defaulting import default
from kubesim.apiserver.kinds import conversion
from kubesim.apiserver.requests import JsonObject
from kubesim.schema.decode import DecodeError, canonical_object, convert
from kubesim.schema.registry import ResourceType
from kubesim.schema.types import kind_type


async def in_version(
    cluster: Cluster, attempt: Attempt, rt: ResourceType, obj: JsonObject | None
) -> JsonObject | None:
    """What a hook is shown that knows the resource as `rt`."""
    if obj is None or attempt.of is not None or rt == attempt.rt:
        return obj
    return default(rt, _converted(attempt.rt, rt, obj))


async def taken_back(cluster: Cluster, attempt: Attempt, rt: ResourceType, made: Any) -> JsonObject:
    """What a hook has made of it, decoded and defaulted. Raises StatusError 500 for what is no such object."""
    if not isinstance(made, dict):
        raise errors.internal("the patched object is not an object")
    try:
        if attempt.of is not None:
            type_ = kind_type(*attempt.of)
            head = {key: made[key] for key in ("kind", "apiVersion") if key in made}
            return head | convert(type_, made)[0] if type_ is not None else made
        obj = default(rt, canonical_object(rt, made))
    except DecodeError as wrong:
        raise errors.internal(str(wrong)) from None
    return obj if rt == attempt.rt else default(attempt.rt, _converted(rt, attempt.rt, obj))


def _converted(rt: ResourceType, to: ResourceType, obj: JsonObject) -> JsonObject:
    made = conversion.from_storage(to, conversion.to_storage(rt, obj))
    return {**made, "kind": to.kind, "apiVersion": to.api_version}


_SYSTEM = ("uid", "creationTimestamp")


def as_asked(attempt: Attempt, obj: JsonObject | None) -> JsonObject | None:
    """The object without what the server has given it already, and webhooks get to see only later."""
    if obj is None or attempt.operation != "CREATE" or "metadata" not in obj or attempt.of is not None:
        return obj
    hidden = (*_SYSTEM, "name") if attempt.name_generated else _SYSTEM
    meta = {key: value for key, value in obj["metadata"].items() if key not in hidden}
    return {**obj, "metadata": meta}


def with_system_fields(attempt: Attempt, seen: JsonObject, made: JsonObject) -> JsonObject:
    """What a hook has made of it, with what was hidden from it."""
    if attempt.operation != "CREATE" or not isinstance(made.get("metadata"), dict) or attempt.of is not None:
        return made
    given = {key: seen["metadata"][key] for key in _SYSTEM if key in seen["metadata"]}
    name = {"name": seen["metadata"]["name"]} if attempt.name_generated else {}
    return {**made, "metadata": {**name, **made["metadata"], **given}}
