"""The columns of kinds that belong to the machinery of a cluster: storage drivers, priority and fairness, devices,
address ranges, trust."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubesim.apiserver.columns.column import AGE, NAME, Column, flag, number, text
from kubesim.apiserver.columns.values import NONE, UNSET, Moment, at, joined
from kubesim.errors import JsonObject


def _attach(obj: JsonObject, moment: Moment) -> bool:
    return bool(at(obj, "spec", "attachRequired", default=True))


def _tokens(obj: JsonObject, moment: Moment) -> str:
    requests = at(obj, "spec", "tokenRequests", default=None)
    return UNSET if requests is None else joined([one.get("audience", "") for one in requests])


def _modes(obj: JsonObject, moment: Moment) -> str:
    return joined(at(obj, "spec", "volumeLifecycleModes", default=())) or NONE


def _dangling(obj: JsonObject, moment: Moment) -> str:
    """Whether the priority level of a flow schema is missing; `?` until somebody has looked."""
    listed = at(obj, "status", "conditions", default=())
    return next((str(one["status"]) for one in listed if one["type"] == "Dangling"), "?")


def _limited(*path: str) -> Any:
    """A number of a priority level that limits, `<none>` of one that does not."""

    def cell(obj: JsonObject, moment: Moment) -> Any:
        section = at(obj, "spec", "limited", *path[:-1], default=None)
        return NONE if section is None else section.get(path[-1], 0)

    return cell


def _claim_state(obj: JsonObject, moment: Moment) -> str:
    gone = bool(obj["metadata"].get("deletionTimestamp"))
    states = ["deleted"] if gone else []
    if at(obj, "status", "allocation", default=None) is None:
        states += [] if gone else ["pending"]
    else:
        states.append("allocated")
        states += ["reserved"] if at(obj, "status", "reservedFor", default=()) else []
    return ",".join(states)


def _parent(obj: JsonObject, moment: Moment) -> str:
    """What an address belongs to: `services/default/kubernetes`."""
    ref = at(obj, "spec", "parentRef", default=None)
    if ref is None:
        return NONE
    resource = f"{ref.get('resource', '')}.{ref['group']}" if ref.get("group") else ref.get("resource", "")
    parts = (resource.lower(), ref.get("namespace"), ref.get("name", ""))
    return "/".join(str(part) for part in parts if part)


def _migrated(obj: JsonObject, moment: Moment) -> str:
    resource = at(obj, "spec", "resource", default={})
    return ".".join(resource.get(key, "") for key in ("resource", "version", "group"))


def _ranges(obj: JsonObject, moment: Moment) -> str:
    return joined(at(obj, "spec", "cidrs", default=()))


_QUEUES = ("limitResponse", "queuing")
_DEVICES = "resource.k8s.io"
_FLOWS = "flowcontrol.apiserver.k8s.io"
_STORAGE = "storage.k8s.io"

INFRASTRUCTURE: dict[tuple[str, str], Sequence[Column]] = {
    (_STORAGE, "CSIDriver"): (
        NAME,
        Column("AttachRequired", _attach, type="boolean"),
        Column("PodInfoOnMount", flag("spec", "podInfoOnMount"), type="boolean"),
        Column("StorageCapacity", flag("spec", "storageCapacity"), type="boolean"),
        Column("TokenRequests", _tokens),
        Column("RequiresRepublish", flag("spec", "requiresRepublish"), type="boolean"),
        Column("Modes", _modes),
        AGE,
    ),
    (_STORAGE, "CSIStorageCapacity"): (
        NAME,
        Column("StorageClassName", text("storageClassName")),
        Column("Capacity", text("capacity", empty=UNSET)),
    ),
    (_STORAGE, "VolumeAttachment"): (
        NAME,
        Column("Attacher", text("spec", "attacher"), format="name"),
        Column("PV", text("spec", "source", "persistentVolumeName")),
        Column("Node", text("spec", "nodeName")),
        Column("Attached", flag("status", "attached"), type="boolean"),
        AGE,
    ),
    (_STORAGE, "VolumeAttributesClass"): (NAME, Column("DriverName", text("driverName")), AGE),
    (_FLOWS, "FlowSchema"): (
        NAME,
        Column("PriorityLevel", text("spec", "priorityLevelConfiguration", "name")),
        Column("MatchingPrecedence", number("spec", "matchingPrecedence")),
        Column("DistinguisherMethod", text("spec", "distinguisherMethod", "type", empty=NONE)),
        AGE,
        Column("MissingPL", _dangling),
    ),
    (_FLOWS, "PriorityLevelConfiguration"): (
        NAME,
        Column("Type", text("spec", "type")),
        Column("NominalConcurrencyShares", _limited("nominalConcurrencyShares")),
        Column("Queues", _limited(*_QUEUES, "queues")),
        Column("HandSize", _limited(*_QUEUES, "handSize")),
        Column("QueueLengthLimit", _limited(*_QUEUES, "queueLengthLimit")),
        AGE,
    ),
    (_DEVICES, "DeviceClass"): (NAME, AGE),
    (_DEVICES, "ResourceClaim"): (NAME, Column("State", _claim_state), AGE),
    (_DEVICES, "ResourceClaimTemplate"): (NAME, AGE),
    (_DEVICES, "ResourceSlice"): (
        NAME,
        Column("Node", text("spec", "nodeName")),
        Column("Driver", text("spec", "driver")),
        Column("Pool", text("spec", "pool", "name")),
        AGE,
    ),
    ("networking.k8s.io", "ServiceCIDR"): (NAME, Column("CIDRs", _ranges), AGE),
    ("networking.k8s.io", "IPAddress"): (NAME, Column("ParentRef", _parent)),
    ("certificates.k8s.io", "ClusterTrustBundle"): (NAME, Column("SignerName", text("spec", "signerName"))),
    ("coordination.k8s.io", "LeaseCandidate"): (
        NAME,
        Column("LeaseName", text("spec", "leaseName")),
        Column("BinaryVersion", text("spec", "binaryVersion")),
        Column("EmulationVersion", text("spec", "emulationVersion")),
        AGE,
    ),
    ("storagemigration.k8s.io", "StorageVersionMigration"): (
        Column("Name", NAME.cell),
        Column("Resource", _migrated),
    ),
}
