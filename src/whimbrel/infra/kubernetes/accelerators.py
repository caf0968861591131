"""Which accelerators a Kubernetes node has, by what its cloud, driver or administrator has labelled it with. Pure.

There is no one label for it: NVIDIA's and AMD's feature discovery, GKE, EKS, Karpenter, AKS, CoreWeave and SkyPilot
each have their own. The label by which a kind was recognised is also the one by which pods ask for it, so that what
`whim gpus list` shows can be had. What a label promises and no device plugin offers is told, not counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whimbrel.infra.kubernetes import quantity
from whimbrel.model import gpus

RESOURCES = (
    "nvidia.com/gpu",
    "amd.com/gpu",
    "google.com/tpu",
    "habana.ai/gaudi",
    "aws.amazon.com/neuron",
)
KIND_LABELS = (
    "whimbrel.dev/accelerator", "skypilot.co/accelerator", "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-tpu-accelerator", "karpenter.k8s.aws/instance-gpu-name",
    "karpenter.k8s.aws/instance-accelerator-name", "k8s.amazonaws.com/accelerator", "nvidia.com/gpu.product",
    "gpu.nvidia.com/class", "amd.com/gpu.product-name", "beta.amd.com/gpu.product-name",
)  # fmt: skip
"""The labels by which machines say what accelerators they have, in the order in which they are believed."""
UNKNOWN = "GPU"
"""The kind of accelerators of a machine that does not say."""

_COUNT_LABELS = (
    "nvidia.com/gpu.count", "gpu.nvidia.com/count", "karpenter.k8s.aws/instance-gpu-count",
    "cloud.google.com/gke-accelerator-count",
)  # fmt: skip
_MEMORY_LABELS = {
    "nvidia.com/gpu.memory": 1024.0,
    "karpenter.k8s.aws/instance-gpu-memory": 1024.0,
    "gpu.nvidia.com/vram": 1.0,
}
"""Memory of one accelerator, and how many of the label's units are a GiB."""
_TPU_TOPOLOGY = "cloud.google.com/gke-tpu-topology"
_INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_AKS_MARKS = ("kubernetes.azure.com/accelerator", "accelerator")
"""AKS labels its GPU nodes with `nvidia` and leaves the kind to the name of the VM size."""
_AZURE_SERIES = (
    (r"NC\d+ads_A100_v4|ND\d+amsr_A100_v4", "A100-80GB"),
    (r"ND\d+asr_v4", "A100"),
    (r"NC\d+r?s_v3", "V100"),
    (r"ND\d+rs_v2", "V100-32GB"),
    (r"NC\d+r?s_v2", "P100"),
    (r"ND\d+r?s", "P40"),
    (r"NC\d+r?", "K80"),
    (r"NV\d+s_v3", "M60"),
)
"""VM sizes whose names do not hold the kind, or not all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The accelerators of one node."""

    kind: str
    resource: str  # "nvidia.com/gpu"
    capacity: int  # there are
    allocatable: int  # pods may have
    memory_gib: float | None = None  # of one
    selector: Mapping[str, str] | None = None  # the labels that tell the kind; None: nothing tells it
    problem: str = ""  # why they cannot be used, though they are there


def hardware_of(node: Mapping[str, Any]) -> Hardware | None:
    """The accelerators of a Node object; None when it has none."""
    labels: Mapping[str, str] = node["metadata"].get("labels") or {}
    status = node.get("status") or {}
    total = status.get("capacity") or {}
    room = status.get("allocatable") or total
    kind, selector, memory = _kind(labels)
    resource = next(
        (name for name in RESOURCES if _count(room, name) >= 1),
        next((name for name in RESOURCES if name in total), ""),
    )
    if resource:
        allocatable = _count(room, resource)
        capacity = max(allocatable, _count(total, resource))
        if not capacity:
            return None
        problem = "" if allocatable else f"none of its {resource} is allocatable"
    else:
        capacity, allocatable = _promised(labels) if selector else 0, 0
        if not capacity:
            return None
        problem = "no device plugin offers them"
    return Hardware(
        kind=kind or UNKNOWN,
        resource=resource,
        capacity=capacity,
        allocatable=allocatable,
        memory_gib=memory,
        selector=selector,
        problem=problem,
    )


def kind_of(label: str) -> str:
    """The accelerator that a label's value means: `NVIDIA-A100-SXM4-80GB` and `nvidia-a100-80gb` are `A100-80GB`; a
    MIG slice of one is something else."""
    whole, mig, profile = label.partition("-MIG-")
    if mig:
        return f"{kind_of(whole)}-MIG-{profile}"
    words = [word for word in label.replace("_", "-").replace(" ", "-").split("-") if word]
    for count in range(len(words), 0, -1):
        for start in range(len(words) - count + 1):
            known = gpus.canonical("-".join(words[start : start + count]))
            if known in gpus.KNOWN:
                sizes = [word[:-2] for word in words if word.upper().endswith("GB") and word[:-2].isdigit()]
                return gpus.larger(known, float(sizes[-1])) if sizes else known
    return gpus.canonical(label)


def _kind(labels: Mapping[str, str]) -> tuple[str, dict[str, str] | None, float | None]:
    """The kind, the labels that tell it, and the GiB of memory of one."""
    memory_label, memory = _memory(labels)
    key = next((name for name in KIND_LABELS if labels.get(name)), None)
    if key is None:
        kind = _azure_kind(labels)
        return kind, {_INSTANCE_TYPE: labels[_INSTANCE_TYPE]} if kind else None, memory
    selector = {key: labels[key]}
    if key == "cloud.google.com/gke-tpu-accelerator" and labels.get(_TPU_TOPOLOGY):
        selector[_TPU_TOPOLOGY] = labels[_TPU_TOPOLOGY]  # GKE places no TPU pod without it
    kind = kind_of(labels[key])
    if memory and memory_label and gpus.larger(kind, memory) != kind:
        kind = gpus.larger(kind, memory)
        selector[memory_label] = labels[memory_label]
    return kind, selector, memory


def _memory(labels: Mapping[str, str]) -> tuple[str, float | None]:
    for name, per_gib in _MEMORY_LABELS.items():
        if labels.get(name, "").isdecimal():
            return name, int(labels[name]) / per_gib
    return "", None


def _promised(labels: Mapping[str, str]) -> int:
    return next((int(labels[name]) for name in _COUNT_LABELS if labels.get(name, "").isdecimal()), 0)


def _azure_kind(labels: Mapping[str, str]) -> str:
    """`Standard_NC24ads_A100_v4` has an A100, `Standard_NC6s_v3` a V100; empty where that is not to be known."""
    size = labels.get(_INSTANCE_TYPE, "")
    if not size.startswith("Standard_N") or not any(labels.get(mark) == "nvidia" for mark in _AKS_MARKS):
        return ""
    series = size.removeprefix("Standard_")
    for pattern, kind in _AZURE_SERIES:
        if re.fullmatch(pattern, series):
            return kind
    return next((kind for kind in map(gpus.canonical, series.split("_")[1:]) if kind in gpus.KNOWN), "")


def _count(amounts: Mapping[str, Any], name: str) -> int:
    return int(quantity.parse(amounts.get(name, 0)))
