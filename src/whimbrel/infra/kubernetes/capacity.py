"""What the machines of a Kubernetes cluster have, whether a cluster could run on them, and why not. Pure.

`offer` asks about capacity (could it ever run), not about present load; `free` is for saying how much is in use when
something waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whimbrel.infra.base import NodeShape
from whimbrel.infra.kubernetes import quantity
from whimbrel.infra.kubernetes.pods import Accelerator
from whimbrel.model import gpus

GPU_RESOURCES = (
    "nvidia.com/gpu",
    "amd.com/gpu",
    "google.com/tpu",
    "habana.ai/gaudi",
    "aws.amazon.com/neuron",
)
KIND_LABELS = (
    "whimbrel.dev/accelerator", "skypilot.co/accelerator", "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name", "nvidia.com/gpu.product", "gpu.nvidia.com/class",
    "amd.com/gpu.product-name",
)  # fmt: skip
"""The labels by which machines say what accelerators they have, in the order in which they are believed."""
UNKNOWN = "GPU"
"""The kind of accelerators of a machine that does not say."""

_TOO_LITTLE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One Kubernetes node as far as clusters are concerned."""

    name: str
    cpus: float
    memory_gib: float
    accelerator: str = ""
    accelerators: int = 0
    gpu_resource: str = ""
    kind_label: tuple[str, str] | None = None
    closed: str = ""  # why nothing of ours is scheduled there
    taints: Sequence[Mapping[str, Any]] = field(default_factory=tuple)  # those that a GPU pod tolerates
    keeps_out: Sequence[Mapping[str, Any]] = field(default_factory=tuple)  # the other ones
    labels: Mapping[str, str] = field(default_factory=dict)


def machine(node: Mapping[str, Any]) -> Machine:
    """A Node object."""
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    room = status.get("allocatable") or status.get("capacity") or {}
    labels = metadata.get("labels") or {}
    resource = next((name for name in GPU_RESOURCES if quantity.parse(room.get(name, 0)) >= 1), "")
    label = next(((key, labels[key]) for key in KIND_LABELS if labels.get(key)), None) if resource else None
    taints = [taint for taint in spec.get("taints") or () if taint.get("effect") != "PreferNoSchedule"]
    return Machine(
        name=metadata["name"],
        cpus=quantity.parse(room.get("cpu", 0)),
        memory_gib=quantity.gib(room.get("memory", 0)),
        accelerator=(kind_of(label[1]) if label else UNKNOWN) if resource else "",
        accelerators=int(quantity.parse(room.get(resource, 0))) if resource else 0,
        gpu_resource=resource,
        kind_label=label,
        closed=_closed(spec, status, taints),
        taints=tuple(taint for taint in taints if taint.get("key") in GPU_RESOURCES),
        keeps_out=tuple(taint for taint in taints if taint.get("key") not in GPU_RESOURCES),
        labels=labels,
    )


def kind_of(label: str) -> str:
    """The accelerator that a label's value means: `NVIDIA-A100-SXM4-80GB` and `nvidia-a100-80gb` are `A100-80GB`."""
    words = [word for word in label.replace("_", "-").replace(" ", "-").split("-") if word]
    for count in range(len(words), 0, -1):
        for start in range(len(words) - count + 1):
            known = gpus.canonical("-".join(words[start : start + count]))
            if known in gpus.KNOWN:
                size = words[-1].upper()
                larger = gpus.canonical(f"{known}-{size}")
                return larger if size.endswith("GB") and larger in gpus.KNOWN else known
    return gpus.canonical(label)


def _closed(spec: Mapping[str, Any], status: Mapping[str, Any], taints: Iterable[Mapping[str, Any]]) -> str:
    ready = [one for one in status.get("conditions") or () if one.get("type") == "Ready"]
    if ready and ready[0].get("status") != "True":
        return "not ready"
    if spec.get("unschedulable"):
        return "cordoned"
    others = [str(taint.get("key")) for taint in taints if taint.get("key") not in GPU_RESOURCES]
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
    """How a pod of this shape has to ask. None when it needs none or nobody has it."""
    if not (shape.accelerator and shape.accelerator_count):
        return None
    for one in machines:
        if one.kind_label and gpus.same(one.accelerator, shape.accelerator) and fits(one, shape):
            tolerations = ({"key": one.gpu_resource, "operator": "Exists"},)
            return Accelerator(
                resource=one.gpu_resource, selector=dict([one.kind_label]), tolerations=tolerations
            )
    return None


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
            left[host][2] -= sum(quantity.parse(asked.get(name, 0)) for name in GPU_RESOURCES)
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
