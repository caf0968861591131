"""What a kind may have of its own: the Strategy, with the behaviour that most kinds share.

A create goes through `default`, `prepare_create`, `validate_create`, `allocate`; an update through `default`,
`prepare_update`, `validate_update`, `allocate`. All but `allocate` are pure functions of objects, and none of them
changes an object that it was given: a changed one is a new one that shares what did not change. Looking up other
objects (service accounts, priority classes, namespaces) is admission, which is not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, Protocol

from kubesim.errors import FieldError, JsonObject, invalid_value
from kubesim.schema.decode import zero
from kubesim.schema.meta import NameRule, dns_subdomain, metadata_errors, metadata_update_errors
from kubesim.schema.registry import ResourceType
from kubesim.schema.types import ObjectType, type_of
from kubesim.schema.values import check_field

IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than zero"

_random = SystemRandom()


class Allocator(Protocol):
    """Who hands out cluster IPs and node ports; raises ValueError with the reason that the user reads."""

    def take_ip(self, wanted: str) -> str: ...
    def release_ip(self, address: str) -> None: ...
    def take_port(self, wanted: int, protocol: str) -> int: ...
    def release_port(self, port: int, protocol: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a strategy may know beside the objects."""

    now: str = "1970-01-01T00:00:00Z"
    choose: Callable[[str], str] = _random.choice
    allocator: Allocator | None = None


def put(obj: JsonObject, key: str, value: Any) -> JsonObject:
    """The object with a member set."""
    return {**obj, key: value}


def drop(obj: JsonObject, key: str) -> JsonObject:
    """The object without a member."""
    return {name: value for name, value in obj.items() if name != key} if key in obj else obj


def with_meta(obj: JsonObject, **members: Any) -> JsonObject:
    return {**obj, "metadata": {**obj["metadata"], **members}}


def not_negative(value: Any, path: str) -> list[FieldError]:
    """The error of a number that must not be negative."""
    return [invalid_value(path, value, NOT_NEGATIVE)] if value is not None and value < 0 else []


def immutable(old: Any, new: Any, path: str) -> list[FieldError]:
    """The error of a field that changed and must not."""
    return [] if old == new else [invalid_value(path, new, IMMUTABLE)]


class Strategy:
    """A kind with nothing of its own, and the base of those that have something."""

    name_rule: NameRule = staticmethod(dns_subdomain)
    create_on_update = False
    """PUT makes the object if it is not there."""
    unconditional_update = True
    """PUT without a resourceVersion is allowed."""
    delete_returns_object = False
    """DELETE answers the object and not a Status."""
    generation = False
    """metadata.generation counts the changes of what is neither metadata nor status."""
    keep_status_on_create = False
    """A create may bring its status (Nodes)."""
    status_keeps_metadata = False
    """An update of the status cannot change labels, annotations, owners and finalizers."""

    deprecation = ""
    """What every answer about this kind warns of."""

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        """The object with what the real server fills in; idempotent."""
        return obj

    def prepare_create(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> JsonObject:
        if self.has_status(rt) and not self.keep_status_on_create:
            obj = put(obj, "status", zero(type_of(rt).fields["status"].type))
            if obj["status"] is None:
                obj = drop(obj, "status")
        if self.generation:
            obj = with_meta(obj, generation=1)
        elif "generation" in obj["metadata"]:
            obj = put(obj, "metadata", drop(obj["metadata"], "generation"))
        return obj

    def prepare_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str, ctx: Context
    ) -> JsonObject:
        if subresource == "status":
            return self.prepare_status(rt, old, new)
        if self.has_status(rt):
            new = put(new, "status", old["status"]) if "status" in old else drop(new, "status")
        return self.count_generation(old, new)

    def prepare_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> JsonObject:
        """An update of the status: everything else stays as it was."""
        made = {**old, "metadata": new["metadata"]}
        if self.status_keeps_metadata:
            kept = {
                key: old["metadata"][key]
                for key in ("labels", "annotations", "ownerReferences", "finalizers")
                if key in old["metadata"]
            }
            free = {
                key: value
                for key, value in new["metadata"].items()
                if key not in ("labels", "annotations", "ownerReferences", "finalizers")
            }
            made["metadata"] = free | kept
        if "status" in new:
            made["status"] = new["status"]
        else:
            made.pop("status", None)
        return made

    def count_generation(self, old: JsonObject, new: JsonObject) -> JsonObject:
        """The generation goes up when what is wanted changes."""
        generation = old["metadata"].get("generation", 0)
        if self.generation and self.changed(old, new):
            generation += 1
        if generation == new["metadata"].get("generation", 0):
            return new
        return with_meta(new, generation=generation)

    def changed(self, old: JsonObject, new: JsonObject) -> bool:
        """Whether an update counts as a new generation."""
        ignored = ("metadata", "status", "kind", "apiVersion")
        return any(old.get(key) != new.get(key) for key in {*old, *new} if key not in ignored)

    def validate_create(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found = metadata_errors(obj["metadata"], namespaced=rt.namespaced, rule=self.name_rule)
        return found + self.validate(rt, obj)

    def validate_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str
    ) -> list[FieldError]:
        found = metadata_errors(new["metadata"], namespaced=rt.namespaced, rule=self.name_rule)
        update = metadata_update_errors(old["metadata"], new["metadata"])
        found += update + update
        if subresource == "status":
            return found + self.validate_status(rt, old, new)
        return found + self.validate(rt, new) + self.validate_change(rt, old, new)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        """Errors of the object itself, metadata aside."""
        return by_schema(type_of(rt), obj)

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        """Errors of the difference between two objects."""
        return []

    def validate_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        """Errors of an update of the status."""
        return []

    def warnings(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject) -> list[str]:
        """What the answer warns of, beside unknown fields."""
        return []

    def allocate(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject, ctx: Context) -> JsonObject:
        """Take what the object needs from outside of it; raises StatusError."""
        return obj

    def release(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> None:
        """Give back what `allocate` took."""

    def reset_fields(self, rt: ResourceType, subresource: str) -> tuple[tuple[str, ...], ...]:
        """The paths that a write ignores, so that nobody owns them by it."""
        if not self.has_status(rt):
            return ()
        if subresource == "status":
            top = tuple(
                (name,)
                for name in type_of(rt).fields
                if name not in ("metadata", "status", "kind", "apiVersion")
            )
            return (*top, ("metadata",)) if self.status_keeps_metadata else top
        return (("status",),)

    def has_status(self, rt: ResourceType) -> bool:
        return "status" in rt.subresources


_CHECKED_ELSEWHERE = frozenset(("metadata", "status", "kind", "apiVersion"))


def by_schema(type_: ObjectType, obj: JsonObject) -> list[FieldError]:
    """What the schema alone tells of an object's values: required strings and enums, outside of status."""
    found: list[FieldError] = []
    for name, value in obj.items():
        known = type_.fields.get(name)
        if known is not None and name not in _CHECKED_ELSEWHERE:
            check_field(known, value, name, found)
    return found
