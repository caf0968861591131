"""What a claim for storage may ask for, on its own and as a template of a volume or of a set."""

from __future__ import annotations

from kubesim.apiserver.kinds.placement import label_selector
from kubesim.errors import (
    FieldError,
    JsonObject,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import dns_subdomain
from kubesim.schema.quantity import parse

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def mode_errors(spec: JsonObject, path: str) -> list[FieldError]:
    """The access modes of a claim or of a volume."""
    modes = spec.get("accessModes") or ()
    here = f"{path}.accessModes"
    if not modes:
        return [required(here, "at least 1 access mode is required")]
    found = [not_supported(here, mode, _MODES) for mode in modes if mode not in _MODES]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        why = "may not use ReadWriteOncePod with other access modes"
        found.append(forbidden_field(here, why))
    return found


def claim_errors(spec: JsonObject, path: str) -> list[FieldError]:
    found = mode_errors(spec, path) + label_selector(spec.get("selector"), f"{path}.selector")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    here = f"{path}.resources[storage]"
    if storage is None:
        found.append(required(here))
    elif parse(storage).nanos <= 0:
        found.append(invalid_value(here, storage, "must be greater than zero"))
    name, mode = spec.get("storageClassName"), spec.get("volumeMode")
    if name:
        found.extend(invalid_value(f"{path}.storageClassName", name, why) for why in dns_subdomain(name))
    if mode not in ("Block", "Filesystem", None):
        found.append(not_supported(f"{path}.volumeMode", mode, ("Block", "Filesystem")))
    source = spec.get("dataSource")
    if source is not None:
        found += _data_source(source, f"{path}.dataSource")
    return found


def _data_source(source: JsonObject, path: str) -> list[FieldError]:
    found = [required(f"{path}.{key}") for key in ("name", "kind") if not source.get(key)]
    if not source.get("apiGroup") and source.get("kind") != "PersistentVolumeClaim":
        why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        found.append(invalid_value(path, source.get("kind", ""), why))
    return found
