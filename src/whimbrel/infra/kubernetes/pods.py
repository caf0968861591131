"""The objects of a cluster: one pod per node, and a headless service that gives the nodes of a larger one names. Pure.

Names are fixed by the cluster's name, its uid and the rank, so that every attempt makes the same objects, and labels
carry what is needed to find them again when no record is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whimbrel.infra.base import ClusterSpec, Thing
from whimbrel.infra.kubernetes import quantity
from whimbrel.model.names import node_name, short_uid

CLUSTER = "whimbrel.dev/cluster"
CLUSTER_UID = "whimbrel.dev/cluster-uid"
RANK = "whimbrel.dev/rank"
USER = "whimbrel.dev/user"
MANAGED_BY = "app.kubernetes.io/managed-by"
CONTAINER = "node"

_LABEL = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """How a pod asks for accelerators on the machines that have them."""

    resource: str  # "nvidia.com/gpu"
    selector: Mapping[str, str] = field(default_factory=dict)  # the node labels that tell the kind
    any_of: Sequence[Mapping[str, str]] = ()  # instead, where machines tell it in several ways
    tolerations: Sequence[Mapping[str, Any]] = ()


def selector(uid: str) -> str:
    """The label selector of everything that belongs to a cluster."""
    return f"{CLUSTER_UID}={label_value(uid)}"


def label_value(text: str) -> str:
    """`text` as the value of a label; what labels cannot hold becomes `-`."""
    return _LABEL.sub("-", text)[:63].strip("-_.")


def labels(spec: ClusterSpec) -> dict[str, str]:
    """What every object of the cluster carries."""
    own = {label: label_value(value) for label, value in spec.labels.items()}
    return {
        **own,
        CLUSTER: spec.name,
        CLUSTER_UID: label_value(spec.uid),
        USER: label_value(spec.user),
        MANAGED_BY: "whimbrel",
    }


def service_name(spec: ClusterSpec) -> str:
    """The name of the cluster's headless service."""
    return f"{spec.name}-{short_uid(spec.uid)}"


def has_service(spec: ClusterSpec) -> bool:
    """A single node needs no names for others."""
    return spec.num_nodes > 1


def things(spec: ClusterSpec, infra: str, namespace: str) -> list[Thing]:
    """Everything that is created for a cluster."""
    names = [("Pod", node_name(spec.name, spec.uid, rank)) for rank in range(spec.num_nodes)]
    if has_service(spec):
        names.append(("Service", service_name(spec)))
    return [thing(spec, infra, kind, namespace, name) for kind, name in names]


def thing(spec: ClusterSpec, infra: str, kind: str, namespace: str, name: str) -> Thing:
    """One object as the ledger knows it."""
    return Thing(
        token=f"{infra}/{kind}/{namespace}/{name}/{spec.uid}",
        kind=kind,
        name=name,
        namespace=namespace,
        labels=labels(spec),
    )


def service(spec: ClusterSpec, namespace: str) -> dict[str, Any]:
    """The headless service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service_name(spec), "namespace": namespace, "labels": labels(spec)},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {CLUSTER_UID: label_value(spec.uid)},
        },
    }


def pod(
    spec: ClusterSpec,
    rank: int,
    namespace: str,
    *,
    image: str,
    command: Sequence[str],
    grace: int,
    accelerator: Accelerator | None,
) -> dict[str, Any]:
    """The pod of one rank. Its command is the node runtime's; nothing else is asked of the image."""
    name = node_name(spec.name, spec.uid, rank)
    body: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": grace,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostname": name,
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "command": [_literal(word) for word in command],
                "resources": _resources(spec, accelerator),
            }
        ],
    }
    if has_service(spec):
        body["subdomain"] = service_name(spec)
    if accelerator:
        body["nodeSelector"] = dict(accelerator.selector)
        if accelerator.any_of:
            body["affinity"] = _on_any_machine_with(accelerator.any_of)
        body["tolerations"] = [dict(toleration) for toleration in accelerator.tolerations]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {**labels(spec), RANK: str(rank)}},
        "spec": body,
    }


def _on_any_machine_with(selectors: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The affinity of a pod to machines for which one of these holds; a node selector can say only one."""
    terms = [
        {
            "matchExpressions": [
                {"key": key, "operator": "In", "values": [value]} for key, value in labels.items()
            ]
        }
        for labels in selectors
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"nodeAffinity": required}


def _literal(text: str) -> str:
    """A word of a container's command that Kubernetes leaves as it is: `$$` means a dollar sign there and `$(NAME)`
    a variable (Kubernetes API: Container.command)."""
    return text.replace("$$", "$$$$").replace("$(", "$$(")


def _resources(spec: ClusterSpec, accelerator: Accelerator | None) -> dict[str, Any]:
    shape = spec.shape
    requests = {"cpu": quantity.cpus(shape.cpus)}
    if shape.memory_gib:
        requests["memory"] = quantity.memory(shape.memory_gib)
    if accelerator and shape.accelerator_count:
        count = {accelerator.resource: str(shape.accelerator_count)}
        return {"requests": {**requests, **count}, "limits": count}
    return {"requests": requests}


def rank_of(obj: Mapping[str, Any]) -> int | None:
    """The rank in a pod's labels."""
    text = (obj.get("metadata", {}).get("labels") or {}).get(RANK, "")
    return int(text) if text.isdecimal() else None
