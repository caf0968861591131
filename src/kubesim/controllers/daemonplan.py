"""Which nodes a DaemonSet's pods belong to, and which pods are to be made and deleted. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubesim.apiserver.nodeselectors import pod_takes
from kubesim.controllers.nodelife import tolerates
from kubesim.controllers.objects import (
    annotations_of,
    available,
    deleting,
    labels_of,
    oldest_first,
    phase,
    pod_of,
    ready,
    share,
    status_of,
    without_zeros,
)
from kubewire.informer import Object
from kubewire.resources import DAEMON_SETS

HASH = "controller-revision-hash"
GENERATION = "pod-template-generation"
_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_TOLERATED = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(kw_only=True)
class Plan:
    """Names of nodes that get a pod, and pods that go."""

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def target_of(pod: Object) -> str | None:
    """The node that the pod is on, or is meant for."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    required = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED) or {}
    for term in required.get("nodeSelectorTerms") or ():
        for one in term.get("matchFields") or ():
            if one["key"] == "metadata.name" and one["operator"] == "In" and len(one["values"]) == 1:
                return str(one["values"][0])
    return None


def tolerations(spec: Mapping[str, Any]) -> list[Object]:
    """The template's tolerations, and those of what kubelets report."""
    found = [dict(one) for one in spec.get("tolerations") or ()]
    extra = [*_TOLERATED, *([("network-unavailable", "NoSchedule")] if spec.get("hostNetwork") else [])]
    for key, effect in extra:
        made = {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect}
        if made not in found:
            found.append(made)
    return found


def fits(spec: Mapping[str, Any], node: Object) -> tuple[bool, bool]:
    """Whether a pod of the template is to run on the node, and whether one that is there may stay."""
    name, labels = node["metadata"]["name"], labels_of(node)
    if spec.get("nodeName") not in (None, "", name):
        return False, False
    if not pod_takes(spec, name, labels):
        return False, False
    accepted = tolerations(spec)
    bad = {
        taint["effect"]
        for taint in node.get("spec", {}).get("taints") or ()
        if not any(tolerates(one, taint) for one in accepted)
    }
    return not bad & {"NoSchedule", "NoExecute"}, "NoExecute" not in bad


def pod_for(owner: Object, node: str, mark: str) -> Object:
    """The pod for one node."""
    pod = pod_of(owner["spec"]["template"], DAEMON_SETS, owner)
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["labels"] = {**metadata.get("labels", {}), HASH: mark}
    generation = annotations_of(owner).get(_TEMPLATE_GENERATION)
    if generation:
        metadata["labels"][GENERATION] = generation
    spec["tolerations"] = tolerations(spec)
    fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    affinity = dict(spec.get("affinity") or {})
    by_node = dict(affinity.get("nodeAffinity") or {})
    terms = (by_node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or [{}]
    by_node[_REQUIRED] = {"nodeSelectorTerms": [{**term, "matchFields": fields} for term in terms]}
    spec["affinity"] = {**affinity, "nodeAffinity": by_node}
    return pod


class Daemons:
    """One look at a set with its pods and all nodes."""

    def __init__(
        self, owner: Object, pods: Iterable[Object], nodes: Iterable[Object], mark: str, now: datetime
    ) -> None:
        self.owner = owner
        self.mark = mark
        self.now = now
        self.wait = int(owner["spec"].get("minReadySeconds", 0))
        spec = owner["spec"]["template"]["spec"]
        self.nodes = {node["metadata"]["name"]: fits(spec, node) for node in nodes}
        self.pods: dict[str, list[Object]] = {}
        self.lost: list[Object] = []  # meant for nodes that are not there
        for pod in oldest_first(pods):
            target = target_of(pod)
            if target in self.nodes:
                self.pods.setdefault(str(target), []).append(pod)
            elif not pod["spec"].get("nodeName"):
                self.lost.append(pod)
        self.wanted = sorted(name for name, (run, _) in self.nodes.items() if run)

    def is_new(self, pod: Object) -> bool:
        """Whether the pod is of the present template."""
        return labels_of(pod).get(HASH) == self.mark

    def good(self, pod: Object) -> bool:
        """Whether the pod is available."""
        return available(pod, self.wait, self.now) and not deleting(pod)

    @property
    def limits(self) -> tuple[int, int]:
        """How many nodes may be without an available pod, and how many may have two."""
        rolling = (self.owner["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
        count = len(self.wanted)
        surge = share(rolling.get("maxSurge", 0), count, up=True)
        missing = share(rolling.get("maxUnavailable", 1), count, up=True)
        return (1, 0) if missing == 0 and surge == 0 else (missing, surge)

    def plan(self, held: Callable[[Object], bool] = lambda _: False) -> Plan:
        """Every node that is to have a pod gets one, others lose theirs; then the update goes on.

        Failed pods that are `held` stay where they are for now.
        """
        plan = Plan(delete=[pod for pod in self.lost if not deleting(pod)])
        for name, (run, stay) in sorted(self.nodes.items()):
            pods = self.pods.get(name, [])
            if not run and not stay:
                plan.delete += [pod for pod in pods if not deleting(pod)]
                continue
            ended = [pod for pod in pods if phase(pod) in ("Failed", "Succeeded")]
            plan.delete += [pod for pod in ended if not deleting(pod) and not held(pod)]
            alive = [pod for pod in pods if phase(pod) not in ("Failed", "Succeeded")]
            lasting = [pod for pod in alive if not deleting(pod)]
            if run and not alive and not any(deleting(pod) or held(pod) for pod in ended):
                plan.create.append(name)
            plan.delete += self._doubles(lasting)
        if not plan.create and not plan.delete:
            self._update(plan)
        return plan

    def _doubles(self, lasting: list[Object]) -> list[Object]:
        """All but one; during an update with surge, all but one old and one new."""
        new = [pod for pod in lasting if self.is_new(pod)]
        old = [pod for pod in lasting if not self.is_new(pod)]
        if self.limits[1] > 0:
            return [*new[1:], *old[1:]]
        rank = sorted(lasting, key=lambda pod: not pod["spec"].get("nodeName"))
        return rank[1:]

    def _update(self, plan: Plan) -> None:
        strategy = (self.owner["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate")
        if strategy != "RollingUpdate":
            return
        missing, surge = self.limits
        if surge > 0:
            self._surge(plan, surge)
            return
        broken = 0
        candidates: list[Object] = []
        free: list[Object] = []
        for name in self.wanted:
            pods = [pod for pod in self.pods.get(name, []) if not deleting(pod)]
            if not pods or not self.good(pods[0]):
                broken += 1
            if pods and not self.is_new(pods[0]):
                (candidates if self.good(pods[0]) else free).append(pods[0])
        plan.delete += free + candidates[: max(0, missing - broken)]

    def _surge(self, plan: Plan, surge: int) -> None:
        """New pods beside old ones; an old one goes when the new one is available."""
        doubled, waiting = 0, []
        for name in self.wanted:
            pods = [pod for pod in self.pods.get(name, []) if not deleting(pod)]
            new = next((pod for pod in pods if self.is_new(pod)), None)
            old = next((pod for pod in pods if not self.is_new(pod)), None)
            if old is None:
                continue
            if new is None:
                waiting.append(name)
                if not self.good(old):
                    plan.create.append(name)
            elif self.good(new) or not self.good(old):
                plan.delete.append(old)
            else:
                doubled += 1
        room = max(0, surge - doubled - len(plan.create))
        plan.create += [name for name in waiting if name not in plan.create][:room]

    def status(self) -> Object:
        """The status of the set with these pods."""
        counts = dict.fromkeys(("current", "ready", "available", "updated", "misscheduled"), 0)
        for name, (run, _) in self.nodes.items():
            pods = self.pods.get(name, [])
            if not run:
                counts["misscheduled"] += bool(pods)
                continue
            if not pods:
                continue
            counts["current"] += 1
            newest = sorted(pods, key=lambda pod: (not self.is_new(pod), deleting(pod)))[0]
            best = next((pod for pod in pods if ready(pod) and not deleting(pod)), None)
            if best is not None:
                counts["ready"] += 1
                counts["available"] += any(self.good(pod) for pod in pods)
            counts["updated"] += self.is_new(newest)
        return without_zeros(
            {
                "currentNumberScheduled": counts["current"],
                "numberMisscheduled": counts["misscheduled"],
                "desiredNumberScheduled": len(self.wanted),
                "numberReady": counts["ready"],
                "observedGeneration": self.owner["metadata"].get("generation", 0),
                "updatedNumberScheduled": counts["updated"],
                "numberAvailable": counts["available"],
                "numberUnavailable": len(self.wanted) - counts["available"],
                "collisionCount": status_of(self.owner).get("collisionCount"),
                "conditions": status_of(self.owner).get("conditions"),
            },
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
        )
