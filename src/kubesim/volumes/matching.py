"""Claims and volumes as they are compared: class, size, access modes, mode, labels, and the node.

The volume controller binds what may be bound at once; the scheduler chooses among what waits for a first consumer. Both
ask `find_match`, so that neither takes what the other would not.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubesim.apiserver.nodeselectors import term_takes
from kubesim.apiserver.selectors import from_object
from kubesim.schema.quantity import parse

Object = dict[str, Any]

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
PROVISIONER_BETA = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
_CLASS = "volume.beta.kubernetes.io/storage-class"


@dataclass(frozen=True, slots=True)
class Place:
    """A node, as far as volumes ask for one."""

    name: str
    labels: Mapping[str, str]


def annotations_of(obj: Object) -> dict[str, str]:
    """The annotations, none as an empty map."""
    return obj["metadata"].get("annotations") or {}


def class_of(obj: Object) -> str:
    """The class of a claim or volume; the empty one for none."""
    beta = annotations_of(obj).get(_CLASS)
    return str(obj["spec"].get("storageClassName") or "") if beta is None else beta


def has_class(claim: Object) -> bool:
    """Whether the claim says which class it wants, be it none."""
    return _CLASS in annotations_of(claim) or claim["spec"].get("storageClassName") is not None


def default_class(classes: Iterable[Object]) -> Object | None:
    """The default class: of several the newest, then the first by name."""
    marked = [one for one in classes if annotations_of(one).get(DEFAULT_CLASS) == "true"]
    marked.sort(key=lambda one: one["metadata"]["name"])
    marked.sort(key=lambda one: one["metadata"].get("creationTimestamp", ""), reverse=True)
    return marked[0] if marked else None


def waits_for_consumer(storage_class: Object | None) -> bool:
    """Whether claims of the class are bound when a pod that uses them has been given a node."""
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Whether the volume is reserved for, or bound to, this claim."""
    ref, about = volume["spec"].get("claimRef"), claim["metadata"]
    if not ref or ref.get("name") != about["name"] or ref.get("namespace") != about["namespace"]:
        return False
    return ref.get("uid") in (None, "", about["uid"])


def is_complete(claim: Object) -> bool:
    """Whether both sides of the binding have been written."""
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations_of(claim)


def allows(volume: Object, place: Place) -> bool:
    """Whether the volume can be used on the node."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if not required:
        return True
    return any(term_takes(term, place.name, place.labels) for term in required.get("nodeSelectorTerms") or ())


def topology_allows(storage_class: Object, place: Place) -> bool:
    """Whether the class provisions on the node."""
    terms = storage_class.get("allowedTopologies")
    return not terms or any(
        all(place.labels.get(one["key"]) in one["values"] for one in term.get("matchLabelExpressions") or ())
        for term in terms
    )


def mismatch(volume: Object, claim: Object) -> str | None:
    """Why a volume that a claim names cannot satisfy it, in the real controller's words."""
    if capacity_of(volume) < requested(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _mode(volume) != _mode(claim):
        return "incompatible volumeMode"
    if not _access(volume, claim):
        return "incompatible accessMode"
    return None


def find_match(
    claim: Object,
    volumes: Iterable[Object],
    *,
    place: Place | None = None,
    taken: Container[str] = (),
    delayed: bool = False,
) -> Object | None:
    """The volume for a claim: the one that is reserved for it, else the smallest that will do.

    Without a place, a `delayed` claim gets only what is reserved for it: the rest is the scheduler's to choose.
    """
    wanted = requested(claim)
    best: Object | None = None
    for volume in volumes:
        name = volume["metadata"]["name"]
        reserved = is_bound_to(volume, claim)
        if name in taken or (volume["spec"].get("claimRef") and not reserved):
            continue
        size = capacity_of(volume)
        if size < wanted or _mode(volume) != _mode(claim) or "deletionTimestamp" in volume["metadata"]:
            continue
        here = place is None or allows(volume, place)
        if reserved:
            return volume if here else None
        if (delayed and place is None) or not here or not _suits(volume, claim):
            continue
        if best is None or (size, name) < (capacity_of(best), best["metadata"]["name"]):
            best = volume
    return best


def _suits(volume: Object, claim: Object) -> bool:
    if (volume.get("status") or {}).get("phase") != "Available" or class_of(volume) != class_of(claim):
        return False
    return _access(volume, claim) and _selected(claim, volume["metadata"].get("labels") or {})


def _selected(claim: Object, labels: Mapping[str, str]) -> bool:
    return from_object(claim["spec"].get("selector") or {}).matches(labels)


def capacity_of(volume: Object) -> int:
    """In billionths of a byte, as quantities are compared."""
    return parse(str((volume["spec"].get("capacity") or {}).get("storage", "0"))).nanos


def requested(claim: Object) -> int:
    """In billionths of a byte."""
    return parse(
        str(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))
    ).nanos


def _mode(obj: Object) -> str:
    return str(obj["spec"].get("volumeMode") or "Filesystem")


def _access(volume: Object, claim: Object) -> bool:
    return set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())
