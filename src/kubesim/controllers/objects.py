"""What all controllers of workloads need to know of objects: who controls them, how their pods are. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from math import ceil, floor
from typing import Any

import orjson

from kubewire.informer import Object
from kubewire.resources import Resource

_SAFE = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, so that no words come out, and nothing that looks alike


def seconds(at: datetime) -> str:
    """As the API writes times."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str | None) -> datetime | None:
    """A time of the API."""
    return datetime.fromisoformat(text) if text else None


def labels_of(obj: Object) -> dict[str, str]:
    """The labels, none as an empty map."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    """The annotations, none as an empty map."""
    return obj["metadata"].get("annotations") or {}


def status_of(obj: Object) -> Object:
    """The status, none as an empty one."""
    return obj.get("status") or {}


def deleting(obj: Object) -> bool:
    """Whether its deletion has begun."""
    return "deletionTimestamp" in obj["metadata"]


def controller_of(obj: Object) -> Object | None:
    """The one owner that controls it."""
    for one in obj["metadata"].get("ownerReferences") or ():
        if one.get("controller"):
            return dict(one)
    return None


def controlled_by(resource: Resource, owner: Object) -> Object:
    """The owner reference of what a controller makes."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def pod_of(template: Object, resource: Resource, owner: Object) -> Object:
    """A pod as the template has it, with a name that the server completes."""
    made = template.get("metadata") or {}
    metadata: Object = {
        "generateName": f"{owner['metadata']['name']}-",
        "namespace": owner["metadata"]["namespace"],
        "ownerReferences": [controlled_by(resource, owner)],
    }
    for name in ("labels", "annotations", "finalizers"):
        if made.get(name):
            metadata[name] = made[name].copy()
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": dict(template["spec"])}


def condition(obj: Object, kind: str) -> Object | None:
    """The condition of that type."""
    for one in status_of(obj).get("conditions") or ():
        if one["type"] == kind:
            return dict(one)
    return None


def phase(pod: Object) -> str:
    """The pod's phase."""
    return str(status_of(pod).get("phase", "Pending"))


def finished(pod: Object) -> bool:
    """Whether the pod has ended, well or not."""
    return phase(pod) in ("Succeeded", "Failed")


def active(pod: Object) -> bool:
    """Whether the pod still counts for what was asked for."""
    return not finished(pod) and not deleting(pod)


def terminating(pod: Object) -> bool:
    """Whether the pod is on its way out, and not there yet."""
    return deleting(pod) and not finished(pod)


def ready(pod: Object) -> bool:
    """Whether the pod says it is ready."""
    found = condition(pod, "Ready")
    return found is not None and found["status"] == "True"


def until_available(pod: Object, min_ready: int, now: datetime) -> float | None:
    """Seconds until the pod counts as available: 0 when it does, None when it is not even ready."""
    found = condition(pod, "Ready")
    if found is None or found["status"] != "True":
        return None
    since = moment(found.get("lastTransitionTime"))
    if min_ready <= 0:
        return 0.0
    if since is None:
        return None
    return max(0.0, (since + timedelta(seconds=min_ready) - now).total_seconds())


def available(pod: Object, min_ready: int, now: datetime) -> bool:
    """Whether the pod has been ready for long enough."""
    return until_available(pod, min_ready, now) == 0


def soonest(waits: Iterable[float | None]) -> float | None:
    """The shortest wait that is one."""
    return min((one for one in waits if one is not None and one > 0), default=None)


def share(value: Any, total: int, *, up: bool) -> int:
    """A number, or a percentage of a total."""
    if isinstance(value, int):
        return value
    part = int(str(value).rstrip("%")) * total / 100
    return ceil(part) if up else floor(part)


def without_zeros(status: Mapping[str, Any], *kept: str) -> Object:
    """A status as Go writes it: what is zero or empty is left out, but for the names given."""
    return {key: value for key, value in status.items() if key in kept or value not in (None, 0, "", [], {})}


def fingerprint(content: Any, collisions: int = 0) -> str:
    """A short hash that can be part of a name."""
    digest = hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
    if collisions:
        digest.update(str(collisions).encode())
    number = int.from_bytes(digest.digest()[:4], "big")
    return "".join(_SAFE[ord(one) % len(_SAFE)] for one in str(number))


def oldest_first(objects: Iterable[Object]) -> list[Object]:
    """By age, then by name."""
    return sorted(
        objects, key=lambda one: (one["metadata"].get("creationTimestamp", ""), one["metadata"]["name"])
    )
