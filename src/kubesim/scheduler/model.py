"""Pods and nodes as the scheduler sees them: parsed once, compared often.

Amounts are whole numbers: CPU in thousandths, everything else in units. What is read of a pod or node here is all that
the plugins may know; they never see the JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubesim.scheduler.affinity import (
    PodTerm,
    PreferredNode,
    Required,
    Spread,
    pod_terms,
    preferred,
    required,
    spreads,
)
from kubesim.scheduler.census import Question
from kubesim.schema.quantity import parse

Object = dict[str, Any]
Amounts = Mapping[str, int]

DEFAULT_SCHEDULER = "default-scheduler"
NON_ZERO_CPU = (
    100  # what a container without requests counts for when nodes are weighed, not when they are filled
)
NON_ZERO_MEMORY = 200 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str
    operator: str
    value: str
    effect: str

    def covers(self, taint: Taint) -> bool:
        """Whether a pod with this toleration does not mind the taint."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        return self.operator == "Exists" or (bool(self.key) and self.value == taint.value)


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    ip: str
    protocol: str
    port: int

    def collides(self, other: HostPort) -> bool:
        """Whether both cannot be had on one node."""
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.ip == other.ip or "0.0.0.0" in (self.ip, other.ip)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodInfo:
    """A pod that wants a node, or has one."""

    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    node: str | None
    nominated: str | None
    priority: int
    preempts: bool
    created: str
    generation: int
    deleting: bool
    requests: Amounts
    weighed_cpu: int
    weighed_memory: int
    tolerations: tuple[Toleration, ...]
    selector: Mapping[str, str]
    required: Required | None
    preferred: tuple[PreferredNode, ...]
    ports: tuple[HostPort, ...]
    affinity: tuple[PodTerm, ...]
    anti_affinity: tuple[PodTerm, ...]
    preferred_affinity: tuple[tuple[int, PodTerm], ...]  # negative weights are anti-affinity
    spreads: tuple[Spread, ...]
    claims: tuple[str, ...]  # names of persistent volume claims
    ephemeral: frozenset[str]  # those of them that are made for the pod

    @property
    def looks_around(self) -> bool:
        """Whether other pods matter to where it may go."""
        return bool(self.affinity or self.anti_affinity or self.spreads)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(slots=True, kw_only=True)
class NodeInfo:
    """A node and what is on it. Changed only by the Snapshot that it belongs to."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    unschedulable: bool
    allocatable: Amounts
    requested: dict[str, int] = field(default_factory=dict)
    weighed_cpu: int = 0
    weighed_memory: int = 0
    pods: dict[str, PodInfo] = field(default_factory=dict)  # by uid
    aloof: dict[str, PodInfo] = field(default_factory=dict)  # those that mind certain others
    _tallies: dict[Question, int] = field(default_factory=dict)
    _epoch: object = None

    def add(self, pod: PodInfo) -> None:
        """The pod takes its place."""
        self.pods[pod.uid] = pod
        if pod.anti_affinity:
            self.aloof[pod.uid] = pod
        for question in self._tallies:
            self._tallies[question] += question.matches(pod)
        for name, amount in pod.requests.items():
            self.requested[name] = self.requested.get(name, 0) + amount
        self.weighed_cpu += pod.weighed_cpu
        self.weighed_memory += pod.weighed_memory

    def remove(self, pod: PodInfo) -> None:
        """The pod gives its place back."""
        if self.pods.pop(pod.uid, None) is None:
            return
        self.aloof.pop(pod.uid, None)
        for question in self._tallies:
            self._tallies[question] -= question.matches(pod)
        for name, amount in pod.requests.items():
            self.requested[name] -= amount
        self.weighed_cpu -= pod.weighed_cpu
        self.weighed_memory -= pod.weighed_memory

    def count(self, question: Question) -> int:
        """How many pods are such."""
        if self._epoch is not question.epoch:
            self._tallies, self._epoch = {}, question.epoch
        found = self._tallies.get(question)
        if found is None:
            found = self._tallies[question] = sum(map(question.matches, self.pods.values()))
        return found

    def without(self, victims: list[PodInfo]) -> NodeInfo:
        """What the node would be like if these pods were gone."""
        copy = self._copy()
        for victim in victims:
            copy.remove(victim)
        return copy

    def having(self, more: Iterable[PodInfo]) -> NodeInfo:
        """What the node would be like if these pods were there too."""
        copy = self._copy()
        for pod in more:
            copy.add(pod)
        return copy

    def _copy(self) -> NodeInfo:
        return NodeInfo(
            name=self.name,
            labels=self.labels,
            taints=self.taints,
            unschedulable=self.unschedulable,
            allocatable=self.allocatable,
            requested=dict(self.requested),
            weighed_cpu=self.weighed_cpu,
            weighed_memory=self.weighed_memory,
            pods=dict(self.pods),
            aloof=dict(self.aloof),
            _tallies=dict(self._tallies),
            _epoch=self._epoch,
        )


def amount(name: str, text: Any) -> int:
    """A quantity as the whole number that the scheduler counts in."""
    quantity = parse(str(text))
    return quantity.milli if name == "cpu" else quantity.value


def read_node(node: Object) -> NodeInfo:
    """A node without the pods on it."""
    spec, status = node.get("spec", {}), node.get("status", {})
    return NodeInfo(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        taints=tuple(
            Taint(one["key"], one.get("value", ""), one["effect"]) for one in spec.get("taints") or ()
        ),
        unschedulable=bool(spec.get("unschedulable")),
        allocatable={name: amount(name, text) for name, text in (status.get("allocatable") or {}).items()},
    )


def read_pod(pod: Object) -> PodInfo:
    """A pod as far as scheduling goes."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    namespace = metadata["namespace"]
    affinity = spec.get("affinity") or {}
    weighed_cpu, weighed_memory = _weighed(spec)
    ephemeral = _ephemeral(pod)
    return PodInfo(
        uid=metadata["uid"],
        namespace=namespace,
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        node=spec.get("nodeName") or None,
        nominated=status.get("nominatedNodeName") or None,
        priority=int(spec.get("priority") or 0),
        preempts=spec.get("preemptionPolicy") != "Never",
        created=metadata.get("creationTimestamp", ""),
        generation=int(metadata.get("generation") or 0),
        deleting="deletionTimestamp" in metadata,
        requests=pod_requests(spec),
        weighed_cpu=weighed_cpu,
        weighed_memory=weighed_memory,
        tolerations=tuple(
            Toleration(
                one.get("key", ""),
                one.get("operator") or "Equal",
                one.get("value", ""),
                one.get("effect") or "",
            )
            for one in spec.get("tolerations") or ()
        ),
        selector=spec.get("nodeSelector") or {},
        required=required(affinity),
        preferred=preferred(affinity),
        ports=tuple(_host_ports(spec)),
        affinity=pod_terms(affinity, "podAffinity", namespace, metadata),
        anti_affinity=pod_terms(affinity, "podAntiAffinity", namespace, metadata),
        preferred_affinity=_preferred_terms(affinity, namespace, metadata),
        spreads=spreads(spec, metadata),
        claims=(*_claims(spec), *sorted(ephemeral)),
        ephemeral=ephemeral,
    )


def _claims(spec: Object) -> list[str]:
    return [
        str(one["persistentVolumeClaim"]["claimName"])
        for one in spec.get("volumes") or ()
        if "persistentVolumeClaim" in one
    ]


def _ephemeral(pod: Object) -> frozenset[str]:
    volumes = pod["spec"].get("volumes") or ()
    return frozenset(f"{pod['metadata']['name']}-{one['name']}" for one in volumes if "ephemeral" in one)


def pod_requests(spec: Object) -> dict[str, int]:
    """What the pod takes: its containers and sidecars, or an init container if that alone needs more, and overhead."""
    total: dict[str, int] = {"pods": 1}
    for container in spec.get("containers") or ():
        _add(total, _container(container))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        needs = _container(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, needs)
            _add(total, needs)
            needs = dict(sidecars)
        else:
            _add(needs, sidecars)
        for name, value in needs.items():
            peak[name] = max(peak.get(name, 0), value)
    for name, value in peak.items():
        total[name] = max(total.get(name, 0), value)
    whole = (spec.get("resources") or {}).get("requests") or {}  # pod-level requests replace the sum
    for name, text in whole.items():
        total[name] = amount(name, text)
    _add(total, {name: amount(name, text) for name, text in (spec.get("overhead") or {}).items()})
    return total


def _container(container: Object) -> dict[str, int]:
    requests = (container.get("resources") or {}).get("requests") or {}
    return {name: amount(name, text) for name, text in requests.items()}


def _add(total: dict[str, int], more: Amounts) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _weighed(spec: Object) -> tuple[int, int]:
    cpu = memory = 0
    for container in spec.get("containers") or ():
        needs = _container(container)
        cpu += needs.get("cpu", NON_ZERO_CPU)
        memory += needs.get("memory", NON_ZERO_MEMORY)
    return cpu, memory


def _host_ports(spec: Object) -> list[HostPort]:
    containers = [*(spec.get("containers") or ())]
    containers += [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    return [
        HostPort(
            ip=port.get("hostIP") or "0.0.0.0",
            protocol=port.get("protocol") or "TCP",
            port=int(port["hostPort"]),
        )
        for container in containers
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def _preferred_terms(affinity: Object, namespace: str, metadata: Object) -> tuple[tuple[int, PodTerm], ...]:
    found: list[tuple[int, PodTerm]] = []
    for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        for one in (affinity.get(kind) or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            term = {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [one["podAffinityTerm"]]}}
            found += [
                (sign * int(one["weight"]), term) for term in pod_terms(term, kind, namespace, metadata)
            ]
    return tuple(found)
