"""The front door of validation: metadata, then what the kind says; every problem at once, as Kubernetes lists them."""

from __future__ import annotations

from kubesim.apiserver.kinds import strategy
from kubesim.errors import FieldError, JsonObject
from kubesim.schema.registry import ResourceType


def validate_create(rt: ResourceType, obj: JsonObject) -> list[FieldError]:
    """What is wrong with a new object."""
    return strategy(rt).validate_create(rt, obj)


def validate_update(
    rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str = ""
) -> list[FieldError]:
    """What is wrong with an update, or with a write to one of the subresources."""
    return strategy(rt).validate_update(rt, old, new, subresource)
