"""A StatefulSet's pods by their ordinals: what the next step is, and what it has come to. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubesim.controllers.objects import (
    available,
    deleting,
    finished,
    labels_of,
    phase,
    pod_of,
    ready,
    share,
    status_of,
    without_zeros,
)
from kubewire.informer import Object
from kubewire.resources import STATEFUL_SETS

REVISION = "controller-revision-hash"
POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"


@dataclass(frozen=True, slots=True)
class Step:
    """Make the pod of an ordinal, or delete a pod."""

    create: int | None = None
    delete: Object | None = None
    condemned: bool = False


def ordinal_of(owner: Object, pod: Object) -> int | None:
    """The pod's ordinal; None when its name is not one that the set gives."""
    parent, _, number = str(pod["metadata"]["name"]).rpartition("-")
    return int(number) if parent == owner["metadata"]["name"] and number.isdigit() else None


class Ordinals:
    """One look at a set with its pods, and the names of its current and its newest revision."""

    def __init__(
        self, owner: Object, pods: Iterable[Object], current: str, update: str, now: datetime
    ) -> None:
        self.owner = owner
        self.spec: dict[str, Any] = owner["spec"]
        self.current, self.update = current, update
        self.now = now
        self.start = int((self.spec.get("ordinals") or {}).get("start", 0))
        self.count = int(self.spec.get("replicas", 1))
        self.by_ordinal = {number: pod for pod in pods if (number := ordinal_of(owner, pod)) is not None}

    @property
    def wanted(self) -> range:
        """The ordinals that are to have a pod."""
        return range(self.start, self.start + self.count)

    @property
    def ordered(self) -> bool:
        """One after the other."""
        return bool(self.spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady")

    def healthy(self, pod: Object) -> bool:
        """Running, available and there to stay."""
        wait = self.spec.get("minReadySeconds", 0)
        return phase(pod) == "Running" and available(pod, wait, self.now) and not deleting(pod)

    def revision_for(self, ordinal: int) -> str:
        """The revision that a new pod of this ordinal is made from."""
        strategy = self.spec.get("updateStrategy") or {}
        partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
        rolling = strategy.get("type", "RollingUpdate") == "RollingUpdate"
        return self.current if rolling and ordinal < self.start + partition else self.update

    def steps(self) -> list[Step]:
        """What is to be done now; when ordered, at most one thing."""
        found: list[Step] = []
        for number in self.wanted:
            pod = self.by_ordinal.get(number)
            step = self._step_for(number, pod)
            if step is not None:
                found.append(step)
            if self.ordered and (step is not None or pod is None or not self.healthy(pod)):
                return found
        condemned = sorted((one for one in self.by_ordinal if one not in self.wanted), reverse=True)
        for number in condemned:
            pod = self.by_ordinal[number]
            if not deleting(pod):
                found.append(Step(delete=pod, condemned=True))
            if self.ordered:
                return found
        return found or [Step(delete=pod) for pod in self._outdated()]

    def _step_for(self, number: int, pod: Object | None) -> Step | None:
        if pod is None:
            return Step(create=number)
        return Step(delete=pod) if finished(pod) and not deleting(pod) else None

    def _outdated(self) -> list[Object]:
        """Pods of an old revision that can go now: from the top, a few at a time."""
        strategy = self.spec.get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return []
        rolling = strategy.get("rollingUpdate") or {}
        budget = max(1, share(rolling.get("maxUnavailable", 1), self.count, up=True))
        found: list[Object] = []
        for number in reversed(self.wanted[int(rolling.get("partition") or 0) :]):
            pod = self.by_ordinal.get(number)
            if budget <= 0:
                break
            if pod is not None and labels_of(pod).get(REVISION) != self.update and not deleting(pod):
                found.append(pod)
                budget -= 1
            elif pod is None or not self.healthy(pod):
                budget -= 1
        return found

    def status(self, collisions: int) -> Object:
        """The status of the set with these pods."""
        wait = self.spec.get("minReadySeconds", 0)
        pods = list(self.by_ordinal.values())
        lasting = [pod for pod in pods if not deleting(pod)]
        good = [pod for pod in pods if phase(pod) == "Running" and ready(pod)]
        counts = {
            "observedGeneration": self.owner["metadata"].get("generation", 0),
            "replicas": len(pods),
            "readyReplicas": len(good),
            "availableReplicas": sum(1 for pod in good if available(pod, wait, self.now)),
            "currentReplicas": sum(1 for pod in lasting if labels_of(pod).get(REVISION) == self.current),
            "updatedReplicas": sum(1 for pod in lasting if labels_of(pod).get(REVISION) == self.update),
            "currentRevision": self.current,
            "updateRevision": self.update,
            "collisionCount": collisions,
            "conditions": status_of(self.owner).get("conditions"),
        }
        strategy = (self.spec.get("updateStrategy") or {}).get("type", "RollingUpdate")
        done = counts["updatedReplicas"] == counts["replicas"] == counts["readyReplicas"] == self.count
        if strategy == "RollingUpdate" and done:
            counts["currentReplicas"] = counts["updatedReplicas"]
            counts["currentRevision"] = self.update
        return without_zeros(counts, "replicas", "availableReplicas", "collisionCount")


def claim_name(template: Object, owner: Object, ordinal: int) -> str:
    """The name of the claim that a pod of an ordinal has from a template."""
    return f"{template['metadata']['name']}-{owner['metadata']['name']}-{ordinal}"


def claims_for(owner: Object, ordinal: int) -> list[Object]:
    """The claims of one pod."""
    made = []
    for template in owner["spec"].get("volumeClaimTemplates") or ():
        about = template["metadata"]
        selected = owner["spec"]["selector"].get("matchLabels") or {}
        metadata: Object = {
            "name": claim_name(template, owner, ordinal),
            "namespace": owner["metadata"]["namespace"],
            "labels": {**(about.get("labels") or {}), **selected},
        }
        if about.get("annotations"):
            metadata["annotations"] = about["annotations"]
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": metadata,
                "spec": template["spec"],
            }
        )
    return made


def pod_for(owner: Object, template: Object, ordinal: int, revision: str) -> Object:
    """The pod of an ordinal: named, labelled and with claims of its own."""
    pod = pod_of(template, STATEFUL_SETS, owner)
    name = f"{owner['metadata']['name']}-{ordinal}"
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["name"] = name
    metadata["labels"] = {
        **metadata.get("labels", {}),
        POD_NAME: name,
        POD_INDEX: str(ordinal),
        REVISION: revision,
    }
    spec["hostname"] = name
    if owner["spec"].get("serviceName"):
        spec["subdomain"] = owner["spec"]["serviceName"]
    own = [
        {
            "name": one["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": claim_name(one, owner, ordinal)},
        }
        for one in owner["spec"].get("volumeClaimTemplates") or ()
    ]
    names = {one["name"] for one in own}
    if own:
        spec["volumes"] = [*own, *(one for one in spec.get("volumes") or () if one["name"] not in names)]
    return pod
