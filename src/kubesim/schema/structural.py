"""Structural schemas of custom resources: pruning, and defaults.

    Structure       a node of an openAPIV3Schema, with what pruning and defaulting ask of it
    prune           the value without what the schema does not name, and without nulls where none may be
    filled          the value with the defaults of the schema

The schema was checked when its CustomResourceDefinition was written (`apiserver.kinds.definition_schema`). Whether
a value obeys it is `structural_rules`'s business, how it merges that of the typed view (`structural_types`).
Nothing here changes what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

JsonObject = dict[str, Any]
Metadata = Callable[[Any, str], JsonObject]
"""Decodes `metadata`, which is at a path."""

HEAD = frozenset({"apiVersion", "kind", "metadata"})


@dataclass(eq=False, slots=True, kw_only=True)
class Structure:
    """One node of a structural schema."""

    schema: Mapping[str, Any]
    """As the CustomResourceDefinition has it."""
    properties: dict[str, Structure] = field(default_factory=dict)
    additional: Structure | None = None
    takes_any: bool = False
    """`additionalProperties: true`: any name, of which only scalars and lists of them survive."""
    items: Structure | None = None
    nullable: bool = False
    preserve: bool = False
    resource: bool = False
    """An object with apiVersion, kind and metadata: the root, and embedded resources."""
    defaults: bool = False
    """There is a default below this node."""
    rules: bool = False
    """There is a rule in CEL at this node, or below it."""

    @property
    def default(self) -> Any:
        """None where there is none."""
        return self.schema.get("default")

    def member(self, name: str) -> Structure | None:
        """The node of a member of this object."""
        return self.properties.get(name) or self.additional


def compile_schema(schema: Mapping[str, Any], *, root: bool = False) -> Structure:
    """The structure of an openAPIV3Schema."""
    properties = {name: compile_schema(one) for name, one in (schema.get("properties") or {}).items()}
    more, items = schema.get("additionalProperties"), schema.get("items")
    additional = compile_schema(more) if isinstance(more, dict) else None
    element = compile_schema(items) if isinstance(items, dict) else None
    below = [*properties.values(), *(one for one in (additional, element) if one is not None)]
    return Structure(
        schema=schema,
        properties=properties,
        additional=additional,
        takes_any=more is True,
        items=element,
        nullable=bool(schema.get("nullable")),
        preserve=bool(schema.get("x-kubernetes-preserve-unknown-fields")),
        resource=root or bool(schema.get("x-kubernetes-embedded-resource")),
        rules=bool(schema.get("x-kubernetes-validations")) or any(one.rules for one in below),
        defaults=any(one.defaults or one.default is not None for one in below),
    )


def prune(one: Structure | None, value: Any, path: str, unknown: list[str], metadata: Metadata) -> Any:
    """The value without unknown members, whose paths are added to `unknown`."""
    if type(value) is list:
        element = one.items if one is not None else None
        if one is not None and one.preserve and element is None:
            return value
        return [
            prune(element, item, f"{path}[{at}]", unknown, metadata) if type(item) in (dict, list) else item
            for at, item in enumerate(value)
        ]
    if type(value) is not dict:
        return value
    made: JsonObject = {}
    for key, item in value.items():
        below = f"{path}.{key}" if path else key
        if one is None:
            unknown.append(below)
        elif one.resource and key in HEAD:
            made[key] = metadata(item, below) if key == "metadata" else item
        else:
            _prune_member(one, key, item, made, below, unknown, metadata)
    return made


def _prune_member(
    one: Structure,
    key: str,
    item: Any,
    made: JsonObject,
    path: str,
    unknown: list[str],
    metadata: Metadata,
) -> None:
    known = one.member(key)
    if known is not None:
        if item is not None or known.nullable:
            made[key] = prune(known, item, path, unknown, metadata)
    elif one.preserve:
        made[key] = item
    elif one.takes_any:
        made[key] = prune(None, item, path, unknown, metadata)
    else:
        unknown.append(path)


def filled(one: Structure, value: Any) -> Any:
    """The value with the defaults of its schema; one that has everything comes back as it is."""
    if not one.defaults:
        return value
    if type(value) is list:
        if one.items is None:
            return value
        element = one.items
        items = [filled(element, item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if type(value) is not dict:
        return value
    made = dict(value)
    for name, known in one.properties.items():
        default = known.default
        if default is not None and (name not in made or (made[name] is None and not known.nullable)):
            made[name] = default
    changed = len(made) != len(value)
    for name, item in made.items():
        below = one.member(name)
        if below is not None:
            made[name] = filled(below, item)
            changed = changed or made[name] is not value.get(name)
    return made if changed else value
