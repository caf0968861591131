"""The objects of a cluster: one pod per node, a headless service that gives the nodes of a larger one names, and what
opens its ports (`ports`). Pure.

Names are fixed by the cluster's name, its uid and the rank, so that every attempt makes the same objects, and labels
carry what is needed to find them again when no record is left. The user's `pod_config` is laid over the pod at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whimbrel.infra.base import ClusterSpec, Thing
from whimbrel.infra.kubernetes import quantity
from whimbrel.infra.provision import Mount
from whimbrel.model import podconfig
from whimbrel.model.names import node_name, short_uid
from whimbrel.model.podconfig import CONTAINER

CLUSTER = "whimbrel.dev/cluster"
CLUSTER_UID = "whimbrel.dev/cluster-uid"
RANK = "whimbrel.dev/rank"
USER = "whimbrel.dev/user"
MANAGED_BY = "app.kubernetes.io/managed-by"
QUEUE = "kueue.x-k8s.io/queue-name"
_GROUP = "kueue.x-k8s.io/pod-group-name"
_GROUP_SIZE = "kueue.x-k8s.io/pod-group-total-count"
SHARED_MEMORY = "dshm"
"""The volume under /dev/shm of nodes with GPUs: the 64 MiB that containers get are too little for data loaders."""

_LABEL = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """How a pod asks for accelerators on the machines that have them."""

    resource: str  # "nvidia.com/gpu"
    selectors: Sequence[
        Mapping[str, str]
    ]  # node labels that tell the kind; machines may tell it in several ways
    tolerations: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """The node label by which machines say that they may be taken away; they are tainted with the same."""

    key: str
    value: str


def selector(uid: str) -> str:
    """The label selector of everything that belongs to a cluster."""
    return f"{CLUSTER_UID}={label_value(uid)}"


def label_value(text: str) -> str:
    """`text` as the value of a label; what labels cannot hold becomes `-`."""
    return _LABEL.sub("-", text)[:63].strip("-_.")


def labels(spec: ClusterSpec) -> dict[str, str]:
    """What every object of the cluster carries."""
    return {
        **spec.provision.labels,
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


def ports_name(spec: ClusterSpec) -> str:
    """The name of what opens the cluster's ports."""
    return f"{service_name(spec)}-p"


def port_kinds(spec: ClusterSpec) -> tuple[str, ...]:
    """What is created to open its ports: nothing where pods are reached themselves."""
    if not spec.provision.ports or spec.provision.port_mode in ("podip", "port-forward"):
        return ()
    return ("Service", "Ingress") if spec.provision.port_mode == "ingress" else ("Service",)


def things(spec: ClusterSpec, infra: str, namespace: str) -> list[Thing]:
    """Everything that is created for a cluster."""
    names = [("Pod", node_name(spec.name, spec.uid, rank)) for rank in range(spec.num_nodes)]
    if has_service(spec):
        names.append(("Service", service_name(spec)))
    names += [(kind, ports_name(spec)) for kind in port_kinds(spec)]
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
    spot: Spot | None = None,
) -> dict[str, Any]:
    """The pod of one rank. Its command is the node runtime's; nothing else is asked of the image."""
    provision, name = spec.provision, node_name(spec.name, spec.uid, rank)
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": provision.image or image,
        "command": [_literal(word) for word in command],
        "resources": _resources(spec, accelerator),
    }
    body: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": grace,
        "automountServiceAccountToken": bool(provision.service_account),
        "enableServiceLinks": False,
        "hostname": name,
        "containers": [container],
    }
    if has_service(spec):
        body["subdomain"] = service_name(spec)
    if provision.service_account:
        body["serviceAccountName"] = provision.service_account
    if provision.priority_class:
        body["priorityClassName"] = provision.priority_class
    _add_volumes(body, container, spec, shared_memory=accelerator is not None)
    _add_placement(body, accelerator, spot)
    made = podconfig.merge(
        {"metadata": {"labels": {}, "annotations": dict(provision.annotations)}, "spec": body},
        provision.pod_config,
    )
    metadata = made["metadata"]
    queue_labels, queue_annotations = _queue(spec)
    metadata |= {
        "name": name,
        "namespace": namespace,
        "labels": {**metadata.get("labels", {}), **queue_labels, **labels(spec), RANK: str(rank)},
        "annotations": {**metadata.get("annotations", {}), **queue_annotations},
    }
    if not metadata["annotations"]:
        del metadata["annotations"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]}


def _queue(spec: ClusterSpec) -> tuple[dict[str, str], dict[str, str]]:
    """What Kueue reads: the queue, and that all nodes are admitted together or not at all."""
    if not spec.provision.queue:
        return {}, {}
    found = {QUEUE: spec.provision.queue}
    if spec.num_nodes == 1:
        return found, {}
    return {**found, _GROUP: service_name(spec)}, {_GROUP_SIZE: str(spec.num_nodes)}


def _add_volumes(
    body: dict[str, Any], container: dict[str, Any], spec: ClusterSpec, *, shared_memory: bool
) -> None:
    volumes: list[dict[str, Any]] = []
    places: list[dict[str, Any]] = []
    if shared_memory:
        volumes.append({"name": SHARED_MEMORY, "emptyDir": {"medium": "Memory"}})
        places.append({"name": SHARED_MEMORY, "mountPath": "/dev/shm"})
    claims: dict[str, str] = {}  # one volume for each claim, however often it is mounted
    for index, mount in enumerate(spec.provision.mounts):
        name = claims.get(mount.claim) or f"volume-{index}"
        place = {"name": name, "mountPath": mount.path}
        if mount.sub_path:
            place["subPath"] = mount.sub_path
        places.append(place)
        if mount.claim and mount.claim not in claims:
            claims[mount.claim] = name
            volumes.append({"name": name, "persistentVolumeClaim": {"claimName": mount.claim}})
        elif not mount.claim:
            volumes.append({"name": name, "ephemeral": {"volumeClaimTemplate": _template(spec, mount)}})
    if volumes:
        body["volumes"], container["volumeMounts"] = volumes, places


def _template(spec: ClusterSpec, mount: Mount) -> dict[str, Any]:
    claim: dict[str, Any] = {
        "accessModes": [mount.access_mode],
        "resources": {"requests": {"storage": quantity.memory(mount.size_gib)}},
    }
    if mount.storage_class:
        claim["storageClassName"] = mount.storage_class
    return {"metadata": {"labels": labels(spec)}, "spec": claim}


def _add_placement(body: dict[str, Any], accelerator: Accelerator | None, spot: Spot | None) -> None:
    tolerated: list[dict[str, Any]] = []
    if accelerator and any(accelerator.selectors):
        body |= _on_machines_with(accelerator.selectors)
    if accelerator:
        tolerated += [dict(toleration) for toleration in accelerator.tolerations]
    if spot:
        body["nodeSelector"] = {**body.get("nodeSelector", {}), spot.key: spot.value}
        tolerated.append({"key": spot.key, "operator": "Exists"})
    if tolerated:
        body["tolerations"] = tolerated


def _on_machines_with(selectors: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """One way of telling the kind is a node selector, several are an affinity: whichever holds."""
    if len(selectors) == 1:
        return {"nodeSelector": dict(selectors[0])}
    terms = [
        {
            "matchExpressions": [
                {"key": key, "operator": "In", "values": [value]} for key, value in labels.items()
            ]
        }
        for labels in selectors
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"affinity": {"nodeAffinity": required}}


def _literal(text: str) -> str:
    """A word of a container's command that Kubernetes leaves as it is: `$$` means a dollar sign there and `$(NAME)`
    a variable (Kubernetes API: Container.command)."""
    return text.replace("$$", "$$$$").replace("$(", "$$(")


def _resources(spec: ClusterSpec, accelerator: Accelerator | None) -> dict[str, Any]:
    shape = spec.shape
    requests = {"cpu": quantity.cpus(shape.cpus)}
    if shape.memory_gib:
        requests["memory"] = quantity.memory(shape.memory_gib)
    if spec.provision.disk_gib:
        requests["ephemeral-storage"] = quantity.memory(spec.provision.disk_gib)
    if accelerator and shape.accelerator_count:
        count = {accelerator.resource: str(shape.accelerator_count)}
        return {"requests": {**requests, **count}, "limits": count}
    return {"requests": requests}


def rank_of(obj: Mapping[str, Any]) -> int | None:
    """The rank in a pod's labels."""
    text = (obj.get("metadata", {}).get("labels") or {}).get(RANK, "")
    return int(text) if text.isdecimal() else None
