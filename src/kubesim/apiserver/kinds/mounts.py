"""Where a container has its volumes: as folders and files (mounts) or as block devices."""

from __future__ import annotations

from collections.abc import Mapping

from kubesim.errors import (
    FieldError,
    JsonObject,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
    value_not_found,
)


def _sub_path(mount: JsonObject, key: str, path: str) -> list[FieldError]:
    value = mount.get(key)
    if not value:
        return []
    if value.startswith("/"):
        return [invalid_value(f"{path}.{key}", value, "must be a relative path")]
    if ".." in value.split("/"):
        return [invalid_value(f"{path}.{key}", value, "must not contain '..'")]
    return []


def mounts(container: JsonObject, volumes: Mapping[str, JsonObject], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    paths: set[str] = set()
    for at, mount in enumerate(container.get("volumeMounts", ())):
        here = f"{path}.volumeMounts[{at}]"
        name, place = mount["name"], mount["mountPath"]
        if not name:
            found.append(required(f"{here}.name"))
        elif name not in volumes:
            found.append(value_not_found(f"{here}.name", name))
        if not place:
            found.append(required(f"{here}.mountPath"))
        elif place in paths:
            found.append(invalid_value(f"{here}.mountPath", place, "must be unique"))
        paths.add(place)
        found += _sub_path(mount, "subPath", f"{path}.volumeMounts")
        found += _sub_path(mount, "subPathExpr", f"{path}.volumeMounts")
        found += _propagation(container, mount, f"{path}.volumeMounts")
        found += _read_only(mount, f"{path}.volumeMounts.recursiveReadOnly")
        if mount.get("subPath") and mount.get("subPathExpr"):
            why = "subPathExpr and subPath are mutually exclusive"
            found.append(invalid_value(f"{here}.subPathExpr", mount["subPathExpr"], why))
    return found


def _propagation(container: JsonObject, mount: JsonObject, path: str) -> list[FieldError]:
    mode, found = mount.get("mountPropagation"), []
    known = ("Bidirectional", "HostToContainer", "None")
    if mode is not None and mode not in known:
        found.append(not_supported(f"{path}.mountPropagation", mode, known))
    if mode == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        why = "Bidirectional mount propagation is available only to privileged containers"
        found.append(forbidden_field(f"{path}.mountPropagation", why))
    return found


def _read_only(mount: JsonObject, path: str) -> list[FieldError]:
    mode, known = mount.get("recursiveReadOnly"), ("Disabled", "Enabled", "IfPossible")
    found: list[FieldError] = []
    if mode is not None and mode not in known:
        return [not_supported(path, mode, known)]
    if mode in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            found.append(forbidden_field(path, "may only be specified when readOnly is true"))
        if mount.get("mountPropagation") not in (None, "None"):
            why = "may only be specified when mountPropagation is None or not specified"
            found.append(forbidden_field(path, why))
    return found


def devices(container: JsonObject, volumes: Mapping[str, JsonObject], path: str) -> list[FieldError]:
    """Block devices, which only a claim can be."""
    found: list[FieldError] = []
    names: set[str] = set()
    paths: set[str] = set()
    mounted = {one["name"]: one["mountPath"] for one in container.get("volumeMounts", ())}
    for at, device in enumerate(container.get("volumeDevices", ())):
        here = f"{path}.volumeDevices[{at}]"
        name, place = device["name"], device["devicePath"]
        if not name:
            found.append(required(f"{here}.name"))
        if name in names:
            found.append(invalid_value(f"{here}.name", name, "must be unique"))
        if name not in volumes:
            found.append(value_not_found(f"{here}.name", name))
        elif not {"persistentVolumeClaim", "ephemeral"} & set(volumes[name]):
            why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            found.append(invalid_value(f"{here}.name", name, why))
        if not place:
            found.append(required(f"{here}.devicePath"))
        if place in paths:
            found.append(invalid_value(f"{here}.devicePath", place, "must be unique"))
        if ".." in place.split("/"):
            found.append(invalid_value(f"{here}.devicePath", place, "can not contain backsteps ('..')"))
        if name in mounted:
            found.append(invalid_value(f"{here}.name", name, "must not already exist in volumeMounts"))
        if place in mounted.values():
            why = "must not already exist as a path in volumeMounts"
            found.append(invalid_value(f"{here}.devicePath", place, why))
        names.add(name)
        paths.add(place)
    return found
