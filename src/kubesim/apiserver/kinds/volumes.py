"""What a volume of a pod may look like."""

from __future__ import annotations

from typing import Any

from kubesim.apiserver.kinds.claims import claim_errors
from kubesim.apiserver.kinds.containers import field_reference, resource_reference
from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
    too_long,
)
from kubesim.schema.meta import annotation_errors, dns_label, dns_subdomain, labels

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
    found: list[FieldError] = []
    if value.startswith("/"):
        found.append(invalid_value(path, value, "must be a relative path"))
    if ".." in value.split("/"):
        found.append(invalid_value(path, value, "must not contain '..'"))
    if value.startswith("..") and not value.startswith("../"):
        found.append(invalid_value(path, value, "must not start with '..'"))
    return found


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
        found += _item_path(item, here) + _mode(item, "mode", here)
    return found


def _downward_items(source: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for item in source.get("items") or ():
        here = path  # The real server names the source, and not the item.
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
    if len(source) > 1:
        found.append(forbidden_field(path, f"{ONE_TYPE} per source"))
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
        seconds = token.get("expirationSeconds", 3600)
        if seconds < 600:
            why = "may not specify a duration less than 10 minutes"
            found.append(invalid_value(f"{here}.expirationSeconds", seconds, why))
        if seconds > 2**32:
            why = "may not specify a duration larger than 2^32 seconds"
            found.append(invalid_value(f"{here}.expirationSeconds", seconds, why))
        found += _item_path(token, path.rpartition(".sources[")[0])
    return found


def _duplicate_paths(source: JsonObject, path: str) -> list[FieldError]:
    """Two files of one name in a projected volume."""
    found: list[FieldError] = []
    seen: set[str] = set()
    for one in source.get("sources") or ():
        for kind in ("secret", "configMap", "downwardAPI"):
            for item in (one.get(kind) or {}).get("items") or ():
                if item["path"] and item["path"] in seen:
                    shown = item["path"] if kind == "downwardAPI" else one[kind].get("name", "")
                    found.append(invalid_value(path, shown, "conflicting duplicate paths"))
                seen.add(item["path"])
    return found


_HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")


def _csi(source: JsonObject, path: str) -> list[FieldError]:
    driver, secret = source.get("driver", ""), source.get("nodePublishSecretRef")
    found = [too_long(f"{path}.driver", 63)] if len(driver) > 63 else []
    found.extend(invalid_value(f"{path}.driver", driver, why) for why in dns_subdomain(driver.lower()))
    if secret is not None and not secret.get("name"):
        found.append(required(f"{path}.nodePublishSecretRef.name"))
    return found


def _ephemeral(source: JsonObject, path: str) -> list[FieldError]:
    here = f"{path}.volumeClaimTemplate"
    template = source.get("volumeClaimTemplate")
    if template is None:
        return [required(here)]
    meta = template.get("metadata") or {}
    found = annotation_errors(meta.get("annotations"), f"{here}.metadata.annotations")
    found += labels(meta.get("labels"), f"{here}.metadata.labels")
    return found + claim_errors(template.get("spec") or {}, f"{here}.spec")


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
        found += _duplicate_paths(source, path)
    elif kind == "hostPath" and source.get("path"):
        if ".." in source["path"].split("/"):
            found.append(invalid_value(f"{path}.path", source["path"], "must not contain '..'"))
        if (source.get("type") or "") not in _HOST_PATH_TYPES:
            found.append(not_supported(f"{path}.type", source["type"], _HOST_PATH_TYPES))
    elif kind == "nfs" and not source.get("path", "").startswith("/"):
        found.append(invalid_value(f"{path}.path", source.get("path", ""), "must be an absolute path"))
    elif kind == "csi":
        found += _csi(source, path)
    elif kind == "ephemeral":
        found += _ephemeral(source, path)
    elif kind == "image" and source.get("pullPolicy", "Always") not in _PULL_POLICIES:
        found.append(not_supported(f"{path}.pullPolicy", source["pullPolicy"], _PULL_POLICIES))
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
