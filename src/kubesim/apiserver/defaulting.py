"""The front door of defaulting: constants of the schema, then what the kind's own code fills in.

Idempotent, and fast on objects that have everything already: they come back as they are.
"""

from __future__ import annotations

from kubesim.apiserver.kinds import strategy
from kubesim.errors import JsonObject
from kubesim.schema.registry import ResourceType
from kubesim.schema.types import type_of
from kubesim.schema.values import constant_defaults


def default(rt: ResourceType, obj: JsonObject) -> JsonObject:
    """A canonical object with the defaults of its kind."""
    filled: JsonObject = constant_defaults(type_of(rt), obj)
    return strategy(rt).default(rt, filled)
