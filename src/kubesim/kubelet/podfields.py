"""Values of a pod's own fields, for environments and downward API volumes: fieldRef and resourceFieldRef. Pure."""

from __future__ import annotations

import re
from typing import Any

from kubesim.schema import quantity

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_NANO = quantity.NANO


class FieldError(Exception):
    """A field reference that has no value."""


def field_value(pod: dict[str, Any], path: str, *, pod_ip: str, host_ip: str) -> str:
    """The value of a fieldPath."""
    metadata, spec = pod.get("metadata", {}), pod.get("spec", {})
    found = _SUBSCRIPT.fullmatch(path)
    if found:
        return str((metadata.get(found[1]) or {}).get(found[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        entries = metadata.get(path.rpartition(".")[2]) or {}
        return "\n".join(f'{key}="{_escaped(value)}"' for key, value in sorted(entries.items()))
    values = {
        "metadata.name": metadata.get("name", ""),
        "metadata.namespace": metadata.get("namespace", ""),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
    }
    if path not in values:
        raise FieldError(f"unsupported fieldPath: {path}")
    return str(values[path])


def resource_value(container: dict[str, Any], reference: dict[str, Any], allocatable: dict[str, str]) -> str:
    """The value of a resourceFieldRef: in units of its divisor, rounded up; without a limit, what the node has."""
    kind, _, name = str(reference.get("resource", "")).partition(".")
    if kind not in ("limits", "requests") or not name:
        raise FieldError(f"unsupported resource: {reference.get('resource')}")
    resources = container.get("resources") or {}
    amount = (resources.get(kind) or {}).get(name)
    if amount is None and kind == "limits":
        amount = allocatable.get(name)
    if amount is None:
        amount = "0"
    divisor = quantity.parse(str(reference.get("divisor") or "1"))
    if divisor.nanos == 0:
        divisor = quantity.parse("1")
    return str(-(-quantity.parse(str(amount)).nanos // divisor.nanos))


def _escaped(value: str) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
