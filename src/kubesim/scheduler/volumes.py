"""Volumes as the scheduler sees them: on which nodes a pod's claims can be had, and what has to be bound for it.

Claims that are bound already fix the nodes; claims that wait for a consumer are matched here with volumes of the node,
or handed to a provisioner. What was chosen for pods whose binding is still under way is not given to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubesim.scheduler.model import NodeInfo, PodInfo
from kubesim.scheduler.plugins import NoNodeDoes, Rejection
from kubesim.volumes.matching import (
    NO_PROVISIONER,
    SELECTED_NODE,
    Place,
    allows,
    annotations_of,
    class_of,
    find_match,
    is_complete,
    requested,
    topology_allows,
    waits_for_consumer,
)

Object = dict[str, Any]

_CONFLICT = "node(s) didn't find available persistent volumes to bind"
_ELSEWHERE = "node(s) didn't match PersistentVolume's node affinity"
_VANISHED = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
_ZONE = Rejection(("node(s) had no available volume zone",), final=True)
_ALONE = Rejection(
    ("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",),
    final=False,
)
_ZONE_KEYS = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)


@dataclass(kw_only=True)
class Storage:
    """Claims, volumes and classes as last seen."""

    claim: Callable[[str], Object | None] = lambda _: None
    volume: Callable[[str], Object | None] = lambda _: None
    volumes: Callable[[], Iterable[Object]] = tuple
    storage_class: Callable[[str], Object | None] = lambda _: None
    taken: dict[str, str] = field(default_factory=dict)  # volume -> uid of the pod it was chosen for


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """A pod's claims."""

    bound: tuple[tuple[Object, Object | None], ...]  # with their volumes
    delayed: tuple[Object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What has to be written before a pod with claims can be bound to a node."""

    static: tuple[tuple[Object, Object], ...] = ()  # claim, volume
    provision: tuple[Object, ...] = ()


class VolumeRestrictions:
    """A claim that one pod may have is not given to two; every claim has to be there."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> bool | None:
        if not pod.claims:
            return None
        alone = {name for name in pod.claims if _is_for_one(find_claim(self._storage, pod, name))}
        if not alone:
            return None
        return any(
            other.namespace == pod.namespace and alone.intersection(other.claims)
            for node in nodes.values()
            for other in node.pods.values()
        )

    def check(self, prepared: bool, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        return _ALONE if prepared else None


class VolumeBinding:
    """Nodes on which all of a pod's claims are, or could be, bound."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> Claims | None:
        return claims_of(self._storage, pod) if pod.claims else None

    def check(self, prepared: Claims, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        place = Place(node.name, node.labels)
        reasons = []
        if any(volume is None for _, volume in prepared.bound):
            return Rejection((_VANISHED,), final=True)
        if not all(allows(volume, place) for _, volume in prepared.bound if volume is not None):
            reasons.append(_ELSEWHERE)
        if plan_for(self._storage, prepared, pod, node) is None:
            reasons.append(_CONFLICT)
        return Rejection(tuple(reasons), final=True) if reasons else None


class VolumeZone:
    """Volumes that carry the label of a zone or region are used there."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def prepare(self, pod: PodInfo, nodes: Mapping[str, NodeInfo]) -> list[tuple[str, set[str]]] | None:
        found = []
        for name in pod.claims:
            claim = self._storage.claim(f"{pod.namespace}/{name}")
            volume = self._storage.volume(claim["spec"].get("volumeName") or "") if claim else None
            labels = (volume["metadata"].get("labels") or {}) if volume else {}
            found += [(key, set(labels[key].split("__"))) for key in _ZONE_KEYS if key in labels]
        return found or None

    def check(self, prepared: list[tuple[str, set[str]]], pod: PodInfo, node: NodeInfo) -> Rejection | None:
        if not any(key in node.labels for key in _ZONE_KEYS):
            return None
        return None if all(node.labels.get(key) in values for key, values in prepared) else _ZONE


def find_claim(storage: Storage, pod: PodInfo, name: str) -> Object:
    """A claim of the pod. Raises NoNodeDoes."""
    claim = storage.claim(f"{pod.namespace}/{name}")
    if claim is None:
        what = f'persistentvolumeclaim "{name}"'
        if name in pod.ephemeral:
            raise NoNodeDoes(f"waiting for ephemeral volume controller to create the {what}")
        raise NoNodeDoes(f"{what} not found")
    return claim


def claims_of(storage: Storage, pod: PodInfo) -> Claims:
    """The pod's claims by what is left to do for them. Raises NoNodeDoes."""
    bound: list[tuple[Object, Object | None]] = []
    delayed: list[Object] = []
    for name in pod.claims:
        claim = find_claim(storage, pod, name)
        if (claim.get("status") or {}).get("phase") == "Lost":
            gone = claim["spec"].get("volumeName", "")
            raise NoNodeDoes(
                f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{gone}"'
            )
        if "deletionTimestamp" in claim["metadata"]:
            raise NoNodeDoes(f'persistentvolumeclaim "{name}" is being deleted')
        if is_complete(claim):
            bound.append((claim, storage.volume(claim["spec"]["volumeName"])))
        elif waits_for_consumer(storage.storage_class(class_of(claim))) and not claim["spec"].get(
            "volumeName"
        ):
            delayed.append(claim)
        else:
            raise NoNodeDoes("pod has unbound immediate PersistentVolumeClaims")
    return Claims(bound=tuple(bound), delayed=tuple(delayed))


def plan_for(storage: Storage, claims: Claims, pod: PodInfo, node: NodeInfo) -> Plan | None:
    """What would be bound for the pod on this node; None when something cannot be had."""
    place = Place(node.name, node.labels)
    taken = {name for name, uid in storage.taken.items() if uid != pod.uid}
    static: list[tuple[Object, Object]] = []
    provision: list[Object] = []
    for claim in sorted(claims.delayed, key=requested):
        selected = annotations_of(claim).get(SELECTED_NODE)
        if selected is not None and selected != node.name:
            return None
        volume = find_match(claim, storage.volumes(), place=place, taken=taken, delayed=True)
        if volume is not None and selected is None:
            static.append((claim, volume))
            taken.add(volume["metadata"]["name"])
            continue
        storage_class = storage.storage_class(class_of(claim))
        if storage_class is None or storage_class["provisioner"] in ("", NO_PROVISIONER):
            return None
        if not topology_allows(storage_class, place):
            return None
        provision.append(claim)
    return Plan(static=tuple(static), provision=tuple(provision))


def _is_for_one(claim: Object) -> bool:
    return "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ())
