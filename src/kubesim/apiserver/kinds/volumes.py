"""What a volume of a pod may look like."""

from __future__ import annotations

from typing import Any

from kubesim.apiserver.kinds.containers import field_reference, resource_reference
from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    required,
)
from kubesim.schema.meta import config_key, dns_label

ONE_TYPE = "may not specify more than 1 volume type"
_MODE_RULE = "must be a number between 0 and 0777 (octal), both inclusive"
_ORDER = (
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi",
    "glusterfs", "persistentVolumeClaim", "rbd", "flexVolume", "cinder", "cephfs", "flocker", "downwardAPI", "fc",
    "azureFile", "configMap", "vsphereVolume", "quobyte", "azureDisk", "portworxVolume", "photonPersistentDisk",
    "projected", "storageos", "scaleIO", "csi", "ephemeral", "image",
)  # fmt: skip
_REQUIRED = {
    "hostPath": ("path",),
    "secret": ("secretName",),
    "configMap": ("name",),
    "nfs": ("server", "path"),
    "persistentVolumeClaim": ("claimName",),
    "csi": ("driver",),
    "glusterfs": ("endpoints", "path"),
    "azureDisk": ("diskName", "diskURI"),
    "azureFile": ("secretName", "shareName"),
}


def _mode(source: JsonObject, key: str, path: str) -> list[FieldError]:
    value = source.get(key)
    if value is None or 0 <= value <= 0o777:
        return []
    return [invalid_value(f"{path}.{key}", value, _MODE_RULE)]


def local_path(value: str, path: str) -> list[FieldError]:
    """A path below a directory that the server chooses."""
    if value.startswith("/"):
        return [invalid_value(path, value, "must be a relative path")]
    if ".." in value.split("/"):
        return [invalid_value(path, value, "must not contain '..'")]
    if value.startswith(".."):
        return [invalid_value(path, value, "must not start with '..'")]
    return []


def _item_path(item: JsonObject, path: str) -> list[FieldError]:
    if not item["path"]:
        return [required(f"{path}.path")]
    return local_path(item["path"], f"{path}.path")


def _key_items(source: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for at, item in enumerate(source.get("items") or ()):
        here = f"{path}.items[{at}]"
        if not item["key"]:
            found.append(required(f"{here}.key"))
        else:
            found.extend(invalid_value(f"{here}.key", item["key"], why) for why in config_key(item["key"]))
        found += _item_path(item, here) + _mode(item, "mode", here)
    return found


def _downward_items(source: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for at, item in enumerate(source.get("items") or ()):
        here = f"{path}.items[{at}]"
        found += _item_path(item, here)
        if "fieldRef" in item:
            found += field_reference(item["fieldRef"], f"{here}.fieldRef", whole_maps=True)
            if "resourceFieldRef" in item:
                found.append(
                    invalid_value(
                        here, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"
                    )
                )
        elif "resourceFieldRef" in item:
            found += resource_reference(item["resourceFieldRef"], f"{here}.resourceFieldRef", volume=True)
        else:
            found.append(required(here, "one of fieldRef and resourceFieldRef is required"))
        found += _mode(item, "mode", here)
    return found


def _projection(source: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    kinds = list(source)
    found.extend(forbidden_field(f"{path}.{kind}", ONE_TYPE) for kind in kinds[1:])
    if not kinds:
        return [required(path, "must specify a volume type")]
    for kind in ("secret", "configMap"):
        if kind in source:
            if not source[kind].get("name"):
                found.append(required(f"{path}.{kind}.name"))
            found += _key_items(source[kind], f"{path}.{kind}")
    if "downwardAPI" in source:
        found += _downward_items(source["downwardAPI"], f"{path}.downwardAPI")
    token = source.get("serviceAccountToken")
    if token is not None:
        here = f"{path}.serviceAccountToken"
        if token.get("expirationSeconds", 3600) < 600:
            why = "may not specify a duration less than 10 minutes"
            found.append(invalid_value(f"{here}.expirationSeconds", token["expirationSeconds"], why))
        found += _item_path(token, here)
    return found


def _source(kind: str, source: JsonObject, path: str) -> list[FieldError]:
    found = [required(f"{path}.{key}") for key in _REQUIRED.get(kind, ()) if not source.get(key)]
    if kind in ("secret", "configMap"):
        found += _mode(source, "defaultMode", path) + _key_items(source, path)
    elif kind == "downwardAPI":
        found += _mode(source, "defaultMode", path) + _downward_items(source, path)
    elif kind == "projected":
        found += _mode(source, "defaultMode", path)
        for at, one in enumerate(source.get("sources") or ()):
            found += _projection(one, f"{path}.sources[{at}]")
    elif kind == "hostPath" and source.get("path") and ".." in source["path"].split("/"):
        found.append(invalid_value(f"{path}.path", source["path"], "must not contain '..'"))
    elif kind == "emptyDir" and str(source.get("sizeLimit", "")).startswith("-"):
        found.append(
            forbidden_field(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")
        )
    return found


def volumes(listed: list[JsonObject], path: str) -> tuple[list[FieldError], dict[str, Any]]:
    """Errors, and the volumes by name."""
    found: list[FieldError] = []
    names: dict[str, Any] = {}
    for at, one in enumerate(listed):
        here = f"{path}[{at}]"
        name = one["name"]
        kinds = [kind for kind in _ORDER if kind in one]
        if not kinds:
            found.append(required(here, "must specify a volume type"))
        found.extend(forbidden_field(f"{here}.{kind}", ONE_TYPE) for kind in kinds[1:])
        for kind in kinds[:1]:
            found += _source(kind, one[kind], f"{here}.{kind}")
        if not name:
            found.append(required(f"{here}.name"))
        else:
            wrong = dns_label(name)
            found.extend(invalid_value(f"{here}.name", name, why) for why in wrong)
            if name in names:
                found.append(duplicate(f"{here}.name", name))
        names[name] = one
    return found, names
