"""CustomResourceDefinitions: names that are filled in, versions, what may not change once somebody relies on it.

What their schemas may look like is `definition_schema`; who makes a resource of them is `apiserver.definitions`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from kubesim.apiserver.jsonpath import InvalidPath, compiled
from kubesim.apiserver.kinds.base import Context, Strategy, drop, immutable, put
from kubesim.apiserver.kinds.definition_schema import schema_errors
from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import dns_1035_label, dns_label, dns_subdomain
from kubesim.schema.registry import ResourceType

APPROVAL = "api-approved.kubernetes.io"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_GROUPS_OF_KUBERNETES = re.compile(r"(^|\.)(k8s|kubernetes)\.io$")


def protected(group: str) -> bool:
    """Whether the group belongs to the Kubernetes community."""
    return _GROUPS_OF_KUBERNETES.search(group) is not None


def established(obj: JsonObject) -> bool:
    return condition(obj, "Established") == "True"


def condition(obj: JsonObject, kind: str) -> str:
    """The status of a condition, empty where there is none."""
    for one in (obj.get("status") or {}).get("conditions") or ():
        if one.get("type") == kind:
            return str(one.get("status"))
    return ""


def with_condition(status: JsonObject, wanted: tuple[str, str, str, str], now: str) -> JsonObject:
    """The status with a condition: its time changes only with its status."""
    kind, value, reason, message = wanted
    made: list[JsonObject] = []
    new = {
        "type": kind,
        "status": value,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }
    found = False
    for one in status.get("conditions") or ():
        if one["type"] == kind:
            found = True
            if one["status"] == value:
                new["lastTransitionTime"] = one["lastTransitionTime"]
            one = one if one == {**one, **new} else {**one, **new}
        made.append(one)
    if not found:
        made.append(new)
    return {**status, "conditions": made}


class DefinitionStrategy(Strategy):
    generation = True
    unconditional_update = False

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        spec = obj["spec"]
        names = dict(spec["names"])
        if names.get("kind"):
            names["singular"] = names.get("singular") or names["kind"].lower()
            names["listKind"] = names.get("listKind") or names["kind"] + "List"
        conversion = spec.get("conversion") or {"strategy": "None"}
        service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
        if service and not service.get("port"):
            webhook = conversion["webhook"]
            client = {**webhook["clientConfig"], "service": {**service, "port": 443}}
            conversion = {**conversion, "webhook": {**webhook, "clientConfig": client}}
        if names == spec["names"] and conversion == spec.get("conversion"):
            return obj
        return put(obj, "spec", {**spec, "names": names, "conversion": conversion})

    def prepare_create(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> JsonObject:
        return _with_stored_version(super().prepare_create(rt, obj, ctx))

    def prepare_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str, ctx: Context
    ) -> JsonObject:
        made = super().prepare_update(rt, old, new, subresource, ctx)
        return made if subresource == "status" else _with_stored_version(made)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        return list(_definition_errors(obj))

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        before, after = old["spec"], new["spec"]
        found = immutable(before["group"], after["group"], "spec.group")
        found += immutable(before["names"]["plural"], after["names"]["plural"], "spec.names.plural")
        if established(old):
            found += immutable(before["scope"], after["scope"], "spec.scope")
            found += immutable(before["names"]["kind"], after["names"]["kind"], "spec.names.kind")
        return found

    def validate_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        return list(_stored_version_errors(new))

    def warnings(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject) -> list[str]:
        found = []
        if obj["spec"]["conversion"]["strategy"] == "Webhook":
            found.append(
                "kubesim calls no conversion webhooks: versions differ in their apiVersion and schema only"
            )
        return found


def _with_stored_version(obj: JsonObject) -> JsonObject:
    """The version that is stored from now on is among those that may be in the store."""
    storage = next((one["name"] for one in obj["spec"].get("versions") or () if one["storage"]), None)
    status = obj["status"]
    stored = status.get("storedVersions") or []
    if storage is None or storage in stored:
        return obj
    return put(obj, "status", {**status, "storedVersions": [*stored, storage]})


def _definition_errors(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj["spec"]
    names = spec["names"]
    if obj["metadata"].get("name") != f"{names.get('plural', '')}.{spec['group']}":
        why = 'must be spec.names.plural+"."+spec.group'
        yield invalid_value("metadata.name", obj["metadata"].get("name", ""), why)
    yield from _group_errors(obj)
    if spec["scope"] not in ("Cluster", "Namespaced"):
        if spec["scope"]:
            yield not_supported("spec.scope", spec["scope"], ("Cluster", "Namespaced"))
        else:
            yield required("spec.scope")
    yield from _name_errors(names)
    yield from _version_errors(spec.get("versions") or [])
    conversion = spec.get("conversion") or {}
    if conversion.get("strategy") not in ("None", "Webhook"):
        yield not_supported("spec.conversion.strategy", conversion.get("strategy", ""), ("None", "Webhook"))
    elif conversion["strategy"] == "Webhook" and not (conversion.get("webhook") or {}).get("clientConfig"):
        why = "required when strategy is set to Webhook"
        yield required("spec.conversion.webhookClientConfig", why)
    if spec.get("preserveUnknownFields"):
        why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        yield invalid_value("spec.preserveUnknownFields", True, why)
    yield from _stored_version_errors(obj)


def _group_errors(obj: JsonObject) -> Iterator[FieldError]:
    group = obj["spec"]["group"]
    if not group:
        yield required("spec.group")
        return
    for why in dns_subdomain(group):
        yield invalid_value("spec.group", group, why)
    if "." not in group:
        yield invalid_value("spec.group", group, "should be a domain with at least one dot")
    if protected(group) and not (obj["metadata"].get("annotations") or {}).get(APPROVAL):
        yield required(
            f"metadata.annotations[{APPROVAL}]",
            f'protected groups must have approval annotation "{APPROVAL}", '
            "see https://github.com/kubernetes/enhancements/pull/1111",
        )


def _name_errors(names: JsonObject) -> Iterator[FieldError]:
    for key in ("plural", "singular", "kind", "listKind"):
        name = names.get(key) or ""
        if not name:
            yield required(f"spec.names.{key}")
            continue
        text = name.lower() if key in ("kind", "listKind") else name
        for why in dns_1035_label(text):
            shown = f"may have mixed case, but should otherwise match: {why}" if text is not name else why
            yield invalid_value(f"spec.names.{key}", name, shown)
    for key in ("shortNames", "categories"):
        for at, name in enumerate(names.get(key) or ()):
            for why in dns_1035_label(name):
                yield invalid_value(f"spec.names.{key}[{at}]", name, why)
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        yield invalid_value("spec.names.listKind", names["listKind"], "kind and listKind may not be the same")


def _version_errors(versions: list[JsonObject]) -> Iterator[FieldError]:
    seen: set[str] = set()
    unique = True
    for at, version in enumerate(versions):
        for why in dns_label(version["name"]):
            yield invalid_value(f"spec.versions[{at}].name", version["name"], why)
        unique = unique and version["name"] not in seen
        seen.add(version["name"])
        if version["name"] and not dns_label(version["name"]) and dns_1035_label(version["name"]):
            yield from (
                invalid_value(f"spec.versions[{at}].name", version["name"], why)
                for why in dns_1035_label(version["name"])
            )
    shown = [one["name"] for one in versions]
    if not unique:
        yield invalid_value("spec.versions", shown, "must contain unique version names")
    if sum(1 for one in versions if one["storage"]) != 1:
        yield invalid_value("spec.versions", shown, "must have exactly one version marked as storage version")
    yield from _schemas(versions)
    for key, check in _PARTS.items():
        alike = _all_alike(versions, key)
        for at, version in enumerate(versions[:1] if alike else versions):
            if version.get(key):
                yield from check(version[key], f"spec.{key}" if alike else f"spec.versions[{at}].{key}")
    for at, version in enumerate(versions):
        if version.get("deprecationWarning") and not version.get("deprecated"):
            yield invalid_value(
                f"spec.versions[{at}].deprecationWarning",
                version["deprecationWarning"],
                "can only be set for deprecated versions",
            )


def _all_alike(versions: list[JsonObject], key: str) -> bool:
    """What all versions have in common belongs, for errors, to the definition itself."""
    return all(one.get(key) == versions[0].get(key) for one in versions)


def _schemas(versions: list[JsonObject]) -> Iterator[FieldError]:
    missing = False
    for at, version in enumerate(versions):
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            missing = True
            yield required(f"spec.versions[{at}].schema.openAPIV3Schema")
    if missing or not versions:
        return
    if _all_alike(versions, "schema"):
        schema = versions[0]["schema"]["openAPIV3Schema"]
        yield from schema_errors(schema, "spec.validation.openAPIV3Schema")
        return
    for at, version in enumerate(versions):
        yield from schema_errors(
            version["schema"]["openAPIV3Schema"], f"spec.versions[{at}].schema.openAPIV3Schema"
        )


def _json_path(path: str, where: str) -> Iterator[FieldError]:
    if not path:
        yield required(where)
        return
    try:
        compiled(path)
    except InvalidPath:
        yield invalid_value(where, path, "is an invalid JSON path")
        return
    if not path.startswith("."):
        yield invalid_value(where, path, "must be a simple json path starting with .")


def _column_errors(columns: list[JsonObject], path: str) -> Iterator[FieldError]:
    for at, column in enumerate(columns):
        where = f"{path}[{at}]"
        if not column.get("name"):
            yield required(f"{where}.name")
        if not column.get("type"):
            yield required(f"{where}.type", f"must be one of {','.join(_COLUMN_TYPES)}")
        elif column["type"] not in _COLUMN_TYPES:
            yield invalid_value(f"{where}.type", column["type"], f"must be one of {','.join(_COLUMN_TYPES)}")
        if column.get("format") and column["format"] not in _COLUMN_FORMATS:
            yield invalid_value(
                f"{where}.format", column["format"], f"must be one of {','.join(_COLUMN_FORMATS)}"
            )
        yield from _json_path(column.get("jsonPath", ""), f"{where}.JSONPath")


def _subresource_errors(subresources: JsonObject, path: str) -> Iterator[FieldError]:
    scale = subresources.get("scale")
    if not scale:
        return
    for key, start, needed in (
        ("specReplicasPath", ".spec.", True),
        ("statusReplicasPath", ".status.", True),
        ("labelSelectorPath", "", False),
    ):
        value = scale.get(key) or ""
        where = f"{path}.scale.{key}"
        if not value:
            if needed:
                yield required(where)
            continue
        if "[" in value or not value.startswith("."):
            yield invalid_value(where, value, "should be a simple json path without array notation")
        elif start and not value.startswith(start):
            yield invalid_value(where, value, f"should be a json path under {start[:-1]}")
        elif not start and not value.startswith((".spec.", ".status.")):
            yield invalid_value(where, value, "should be a json path under either .spec or .status")


def _selectable_errors(fields: list[JsonObject], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for at, one in enumerate(fields):
        where = f"{path}[{at}].jsonPath"
        value = one.get("jsonPath", "")
        if not value:
            yield required(where)
        elif value in seen:
            yield duplicate(where, value)
        elif not value.startswith(".") or "[" in value or value.startswith(".metadata."):
            why = (
                "must not point to fields in metadata"
                if value.startswith(".metadata.")
                else ("is an invalid path: must be a simple path of field names")
            )
            yield invalid_value(where, value, why)
        seen.add(value)


_PARTS: dict[str, Callable[[Any, str], Iterator[FieldError]]] = {
    "additionalPrinterColumns": _column_errors,
    "subresources": _subresource_errors,
    "selectableFields": _selectable_errors,
}


def _stored_version_errors(obj: JsonObject) -> Iterator[FieldError]:
    stored: list[Any] = (obj.get("status") or {}).get("storedVersions") or []
    path = "status.storedVersions"
    if not stored:
        yield invalid_value(path, stored, "must have at least one stored version")
        return
    known = {one["name"] for one in obj["spec"].get("versions") or ()}
    for version in obj["spec"].get("versions") or ():
        if version["storage"] and version["name"] not in stored:
            yield invalid_value(
                path, drop(version, "schema"), f"must have the storage version {version['name']}"
            )
    for at, name in enumerate(stored):
        if name not in known:
            yield invalid_value(f"{path}[{at}]", name, "must appear in spec.versions")
