"""What the machines of a Kubernetes cluster have, whether a cluster could run on them, and why not. Pure.

`offer` asks about capacity (could it ever run), not about present load; `free` is for saying how much is in use when
something waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whimbrel.infra.base import Accelerators, NodeShape
from whimbrel.infra.kubernetes import quantity
from whimbrel.infra.kubernetes.accelerators import RESOURCES, Hardware, hardware_of
from whimbrel.infra.kubernetes.pods import Accelerator
from whimbrel.model import gpus

_TOO_LITTLE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One Kubernetes node as far as clusters are concerned."""

    name: str
    cpus: float
    memory_gib: float
    accelerator: str = ""
    accelerators: int = 0  # that pods may have
    hardware: Hardware | None = None
    closed: str = ""  # why nothing of ours is scheduled there
    taints: Sequence[Mapping[str, Any]] = field(default_factory=tuple)  # those that a GPU pod tolerates
    keeps_out: Sequence[Mapping[str, Any]] = field(default_factory=tuple)  # the other ones
    labels: Mapping[str, str] = field(default_factory=dict)


def machine(node: Mapping[str, Any]) -> Machine:
    """A Node object."""
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    room = status.get("allocatable") or status.get("capacity") or {}
    hardware = hardware_of(node)
    usable = hardware is not None and hardware.allocatable > 0
    taints = [taint for taint in spec.get("taints") or () if taint.get("effect") != "PreferNoSchedule"]
    return Machine(
        name=metadata["name"],
        cpus=quantity.parse(room.get("cpu", 0)),
        memory_gib=quantity.gib(room.get("memory", 0)),
        accelerator=hardware.kind if hardware and usable else "",
        accelerators=hardware.allocatable if hardware else 0,
        hardware=hardware,
        closed=_closed(spec, status, taints),
        taints=tuple(taint for taint in taints if taint.get("key") in RESOURCES),
        keeps_out=tuple(taint for taint in taints if taint.get("key") not in RESOURCES),
        labels=metadata.get("labels") or {},
    )


def _closed(spec: Mapping[str, Any], status: Mapping[str, Any], taints: Iterable[Mapping[str, Any]]) -> str:
    ready = [one for one in status.get("conditions") or () if one.get("type") == "Ready"]
    if ready and ready[0].get("status") != "True":
        return "not ready"
    if spec.get("unschedulable"):
        return "cordoned"
    others = [str(taint.get("key")) for taint in taints if taint.get("key") not in RESOURCES]
    return f"tainted {', '.join(others)}" if others else ""


def fits(machine: Machine, shape: NodeShape) -> int:
    """How many nodes of this shape an empty machine takes."""
    if machine.closed or (machine.taints and not shape.accelerator_count):
        return 0
    counts = [int((machine.cpus + _TOO_LITTLE) / shape.cpus)] if shape.cpus > 0 else [1000]
    if shape.memory_gib:
        counts.append(int((machine.memory_gib + _TOO_LITTLE) / shape.memory_gib))
    if shape.accelerator and shape.accelerator_count:
        if not gpus.same(machine.accelerator, shape.accelerator):
            return 0
        counts.append(machine.accelerators // shape.accelerator_count)
    return min(counts)


def why_not(machines: Sequence[Machine], num_nodes: int, shape: NodeShape) -> str:
    """Why these machines could not run such a cluster, with what there is; empty when they could."""
    if not machines:
        return "it has no machines (Kubernetes nodes)"
    if sum(fits(machine, shape) for machine in machines) >= num_nodes:
        return ""
    open_ones = [machine for machine in machines if not machine.closed]
    if not open_ones:
        reasons = Counter(machine.closed for machine in machines)
        said = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        return f"none of its {len(machines)} machines takes work: {said}"
    if shape.accelerator_count and (missing := _no_accelerator(open_ones, shape)):
        return missing
    if any(fits(machine, shape) for machine in open_ones):
        total = sum(fits(machine, shape) for machine in open_ones)
        return f"its machines have room for {total} of {num_nodes} nodes with {describe(shape)} each"
    largest = max(open_ones, key=lambda machine: (machine.cpus, machine.memory_gib))
    return (
        f"no machine has {describe(shape)}; the largest ({largest.name}) has {largest.cpus:g} CPUs, "
        f"{largest.memory_gib:.0f} GiB memory"
        + (f", {largest.accelerator}:{largest.accelerators}" if largest.accelerators else "")
    )


def _no_accelerator(machines: Sequence[Machine], shape: NodeShape) -> str:
    there = accelerators(machines)
    right = [
        one for one in machines if one.accelerators and gpus.same(one.accelerator, shape.accelerator or "")
    ]
    if right:
        most = max(one.accelerators for one in right)
        if most >= shape.accelerator_count:
            return ""
        return f"no machine has {shape.accelerator}:{shape.accelerator_count}; the most on one is {most}"
    if not there:
        return f"no machine has {shape.accelerator}; there are no accelerators that Kubernetes knows of"
    listed = ", ".join(f"{name}:{count}" for name, count in sorted(there.items()))
    return f"no machine has {shape.accelerator}; there is {listed}"


def describe(shape: NodeShape) -> str:
    """A shape in words."""
    parts = [f"{shape.cpus:g} CPUs"]
    if shape.memory_gib:
        parts.append(f"{shape.memory_gib:g} GiB memory")
    if shape.accelerator and shape.accelerator_count:
        parts.append(f"{shape.accelerator}:{shape.accelerator_count}")
    return ", ".join(parts)


def accelerators(machines: Iterable[Machine]) -> dict[str, int]:
    """How many of each kind there are."""
    found: Counter[str] = Counter()
    for one in machines:
        if one.accelerators:
            found[one.accelerator] += one.accelerators
    return dict(found)


def accelerator_for(machines: Sequence[Machine], shape: NodeShape) -> Accelerator | None:
    """How a pod of this shape has to ask, by the labels that the machines really have. None when it needs none or
    nobody has it."""
    if not (shape.accelerator and shape.accelerator_count):
        return None
    ways: dict[str, dict[tuple[tuple[str, str], ...], int]] = {}
    for one in machines:
        found = one.hardware
        if found and gpus.same(one.accelerator, shape.accelerator) and (room := fits(one, shape)):
            same = ways.setdefault(found.resource, {})
            labels = tuple(sorted((found.selector or {}).items()))
            same[labels] = same.get(labels, 0) + room
    if not ways:
        return None
    resource = max(ways, key=lambda name: sum(ways[name].values()))
    return Accelerator(
        resource=resource,
        selectors=[dict(labels) for labels in sorted(ways[resource])],
        tolerations=({"key": resource, "operator": "Exists"},),
    )


def used(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Of a pod only what `usage` needs: pods are many and large."""
    spec = pod.get("spec") or {}
    asked = [
        (container.get("resources") or {}).get("requests") or {} for container in spec.get("containers") or ()
    ]
    count = sum(
        quantity.parse(requests[name]) for requests in asked for name in RESOURCES if name in requests
    )
    return {"host": spec.get("nodeName") or "", "accelerators": int(count)}


def usage(pods: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Accelerators that live pods have asked for, by machine."""
    total: Counter[str] = Counter()
    for pod in pods:
        if pod["host"] and pod["accelerators"]:
            total[pod["host"]] += pod["accelerators"]
    return dict(total)


def inventory(machines: Iterable[Machine], in_use: Mapping[str, int] | None) -> list[Accelerators]:
    """The machines that have accelerators; without knowing what is in use when that may not be asked."""
    found = []
    for one in machines:
        hardware = one.hardware
        if hardware is None:
            continue
        taken = None if in_use is None else min(hardware.capacity, in_use.get(one.name, 0))
        open_ = 0 if one.closed else hardware.allocatable
        found.append(
            Accelerators(
                node=one.name,
                kind=hardware.kind,
                memory_gib=hardware.memory_gib,
                capacity=hardware.capacity,
                used=taken,
                free=None if taken is None else max(0, open_ - taken),
                trouble=one.closed or hardware.problem,
            )
        )
    return found


def free(
    machines: Iterable[Machine], pods: Iterable[Mapping[str, Any]]
) -> dict[str, tuple[float, float, int]]:
    """By machine: CPUs, GiB of memory and accelerators that no pod has asked for."""
    left = {one.name: [one.cpus, one.memory_gib, float(one.accelerators)] for one in machines}
    for pod in pods:
        host = (pod.get("spec") or {}).get("nodeName")
        if host not in left or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            continue
        for container in pod["spec"].get("containers") or ():
            asked = (container.get("resources") or {}).get("requests") or {}
            left[host][0] -= quantity.parse(asked.get("cpu", 0))
            left[host][1] -= quantity.gib(asked.get("memory", 0))
            left[host][2] -= sum(quantity.parse(asked.get(name, 0)) for name in RESOURCES)
    return {
        name: (max(0.0, cpus), max(0.0, memory), max(0, int(count)))
        for name, (cpus, memory, count) in left.items()
    }


def describe_free(machines: Sequence[Machine], pods: Iterable[Mapping[str, Any]], shape: NodeShape) -> str:
    """How much is free where most is, against what one node asks for."""
    open_ones = [one for one in machines if not one.closed]
    if not open_ones:
        return ""
    left = free(open_ones, pods)
    name, (cpus, memory, count) = max(
        left.items(), key=lambda item: (item[1][2] if shape.accelerator_count else 0, item[1][0])
    )
    gpu = f", {count} accelerators" if shape.accelerator_count else ""
    return (
        f"it asks for {describe(shape)}; most is free on {name}: {cpus:g} CPUs, {memory:.0f} GiB memory{gpu}"
    )
