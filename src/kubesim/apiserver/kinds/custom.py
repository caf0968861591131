"""Custom resources: what their CustomResourceDefinition says, and no more."""

from __future__ import annotations

from typing import Any

from kubesim.apiserver.jsonpath import first
from kubesim.apiserver.kinds.base import Context, Strategy, drop, put, with_meta
from kubesim.errors import FieldError, JsonObject, invalid_value
from kubesim.schema import structural_cel, structural_rules
from kubesim.schema.meta import metadata_errors, metadata_update_errors
from kubesim.schema.registry import ResourceType
from kubesim.schema.structural_rules import ABSENT
from kubesim.schema.types import type_of


class CustomStrategy(Strategy):
    unconditional_update = False
    generation = True
    status_keeps_metadata = True

    def prepare_create(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> JsonObject:
        return with_meta(drop(obj, "status") if self.has_status(rt) else obj, generation=1)

    def prepare_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str, ctx: Context
    ) -> JsonObject:
        if subresource == "status":
            return self.prepare_status(rt, old, new)
        if self.has_status(rt):
            return self.count_generation(
                old, put(new, "status", old["status"]) if "status" in old else drop(new, "status")
            )
        changed = any(
            old.get(key) != new.get(key)
            for key in {*old, *new}
            if key not in ("metadata", "kind", "apiVersion")
        )
        return with_meta(new, generation=old["metadata"].get("generation", 0) + changed)

    def validate_create(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found = metadata_errors(obj["metadata"], namespaced=rt.namespaced, rule=self.name_rule)
        return found + _violations(rt, obj, ABSENT)

    def validate_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str
    ) -> list[FieldError]:
        found = metadata_errors(new["metadata"], namespaced=rt.namespaced, rule=self.name_rule)
        update = metadata_update_errors(old["metadata"], new["metadata"])
        return found + update + update + _violations(rt, new, old)


def _violations(rt: ResourceType, obj: JsonObject, old: Any) -> list[FieldError]:
    structure = type_of(rt).structure
    if structure is None:
        return []
    found = structural_rules.violations(structure.schema, obj, "", old)
    found += _scale_errors(rt, obj)
    if old is ABSENT or not structural_rules.twins(structure.schema, old):
        found += structural_rules.twins(structure.schema, obj)
    if structure.rules:
        found += structural_cel.broken_rules(structure.schema, obj, old, found)
    return found


def _scale_errors(rt: ResourceType, obj: JsonObject) -> list[FieldError]:
    if rt.scale_paths is None:
        return []
    found: list[FieldError] = []
    for path in rt.scale_paths[:2]:
        value = first(path, obj)
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if value < 0:
            found.append(invalid_value(path, value, "should be a non-negative integer"))
        elif value >= 2**31:
            found.append(invalid_value(path, value, f"should be less than or equal to {2**31 - 1}"))
    return found
