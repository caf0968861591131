"""Accelerators are recognised by the labels that clouds and drivers give their machines, and asked for by the same."""

from __future__ import annotations

from typing import Any

import pytest

from whimbrel.infra.base import ClusterSpec, NodeShape
from whimbrel.infra.kubernetes import capacity, pods
from whimbrel.infra.kubernetes.accelerators import hardware_of, kind_of
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.model import gpus

from .fake_api import FakeApi, status
from .fake_api import machine as node

GPU = "nvidia.com/gpu"


def gpu_node(name: str, labels: dict[str, str], count: int = 8, resource: str = GPU, **extra: Any) -> Any:
    """A machine with accelerators."""
    made = node(name, "64", "512Gi", labels=labels, room={resource: str(count)}, **extra)
    made["status"]["capacity"] = dict(made["status"]["allocatable"])
    return made


def gpu_pod(name: str, host: str, count: int, resource: str = GPU) -> Any:
    """A pod that has asked for accelerators."""
    container = {"name": "main", "resources": {"requests": {resource: str(count)}}}
    return {
        "metadata": {"name": name},
        "spec": {"nodeName": host, "containers": [container, {"name": "side"}]},
        "status": {"phase": "Running"},
    }


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("NVIDIA-A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA-A100-SXM4-40GB", "A100"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "A100-MIG-1g.5gb"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("Tesla-T4-SHARED", "T4"),
        ("nvidia-tesla-t4", "T4"),
        ("nvidia-h100-80gb", "H100"),
        ("nvidia-h100-mega-80gb", "H100-MEGA"),
        ("nvidia-rtx-pro-6000", "RTXPRO6000"),
        ("Tesla-V100-SXM2-16GB", "V100"),
        ("Tesla-V100-SXM2-32GB", "V100-32GB"),
        ("A100_NVLINK_80GB", "A100-80GB"),
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
        ("tpu-v5-lite-podslice", "tpu-v5e"),
        ("NVIDIA-L40S", "L40S"),
        ("h100", "H100"),
        ("something-new", "something-new"),
    ],
)
def test_labels_become_names_of_accelerators(label: str, kind: str) -> None:
    assert kind_of(label) == kind


@pytest.mark.parametrize(
    ("who", "labels", "resource", "kind"),
    [
        ("feature discovery", {"nvidia.com/gpu.product": "NVIDIA-L4"}, GPU, "L4"),
        ("GKE", {"cloud.google.com/gke-accelerator": "nvidia-l4"}, GPU, "L4"),
        ("EKS", {"k8s.amazonaws.com/accelerator": "nvidia-tesla-v100"}, GPU, "V100"),
        ("Karpenter", {"karpenter.k8s.aws/instance-gpu-name": "a10g"}, GPU, "A10G"),
        (
            "Karpenter, by the memory",
            {"karpenter.k8s.aws/instance-gpu-name": "a100", "karpenter.k8s.aws/instance-gpu-memory": "81920"},
            GPU,
            "A100-80GB",
        ),
        ("AKS", {"node.kubernetes.io/instance-type": "Standard_NC40ads_H100_v5"}, GPU, "H100"),
        ("AKS, by the series", {"node.kubernetes.io/instance-type": "Standard_NC6s_v3"}, GPU, "V100"),
        ("CoreWeave", {"gpu.nvidia.com/class": "H100_NVLINK_80GB"}, GPU, "H100"),
        ("SkyPilot", {"skypilot.co/accelerator": "h200"}, GPU, "H200"),
        ("AMD", {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}, "amd.com/gpu", "MI300X"),
        (
            "TPU",
            {
                "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
                "cloud.google.com/gke-tpu-topology": "2x4",
            },
            "google.com/tpu",
            "tpu-v6e",
        ),
        ("nobody", {}, GPU, "GPU"),
    ],
)
def test_each_cloud_and_driver_is_understood_and_its_own_labels_select_the_machine(
    who: str, labels: dict[str, str], resource: str, kind: str
) -> None:
    """Besides those labels the machine has others, which tell nothing."""
    others = {"kubernetes.io/os": "linux", "nvidia.com/gpu.count": "8"}
    if who.startswith("AKS"):
        others["kubernetes.azure.com/accelerator"] = "nvidia"
    machine = gpu_node("m", {**others, **labels}, resource=resource)
    found = hardware_of(machine)
    assert found, who
    assert (found.kind, found.resource, found.allocatable) == (kind, resource, 8)
    assert dict(found.selector or {}) == labels
    shape = NodeShape(cpus=1, accelerator=kind, accelerator_count=4)
    asked = capacity.accelerator_for([capacity.machine(machine)], shape)
    assert asked
    assert list(asked.selectors) == [labels]


def test_a_machine_without_accelerators_has_none_whatever_its_labels() -> None:
    assert hardware_of(node("m", labels={"kubernetes.azure.com/accelerator": "none"})) is None
    assert hardware_of(node("m", labels={"nvidia.com/gpu.product": "NVIDIA-L4"})) is None


def test_what_a_label_promises_and_nothing_offers_is_told_and_not_counted() -> None:
    lost = node("m", labels={"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.count": "4"})
    broken = gpu_node("n", {"nvidia.com/gpu.product": "NVIDIA-L4"})
    broken["status"]["allocatable"][GPU] = "0"
    machines = [capacity.machine(lost), capacity.machine(broken)]
    assert capacity.accelerators(machines) == {}
    rows = capacity.inventory(machines, {})
    assert [(row.capacity, row.free, row.trouble) for row in rows] == [
        (4, 0, "no device plugin offers them"),
        (8, 0, "none of its nvidia.com/gpu is allocatable"),
    ]


def test_machines_that_tell_the_same_kind_in_several_ways_are_all_asked_for() -> None:
    machines = [
        capacity.machine(gpu_node("a", {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"})),
        capacity.machine(gpu_node("b", {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"})),
    ]
    shape = NodeShape(cpus=1, accelerator="H100", accelerator_count=8)
    assert capacity.why_not(machines, 2, shape) == ""
    asked = capacity.accelerator_for(machines, shape)
    spec = ClusterSpec(name="c", uid="0123456789", num_nodes=2, shape=shape, user="u")
    made = pods.pod(spec, 0, "default", image="i", command=["sh"], grace=1, accelerator=asked)
    required = made["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert [term["matchExpressions"][0]["key"] for term in required["nodeSelectorTerms"]] == [
        "cloud.google.com/gke-accelerator",
        "nvidia.com/gpu.product",
    ]
    assert made["spec"]["containers"][0]["resources"]["limits"] == {GPU: "8"}


@pytest.mark.anyio
async def test_the_inventory_says_what_is_there_used_and_free_by_machine(
    infra: KubernetesInfra, api: FakeApi
) -> None:
    api.put("nodes", "", gpu_node("g1", {"nvidia.com/gpu.product": "NVIDIA-L4"}))
    api.put("nodes", "", gpu_node("g2", {"nvidia.com/gpu.product": "NVIDIA-L4"}, ready="False"))
    api.put("pods", "team", gpu_pod("p", "g1", 3))
    found = await infra.accelerators(2.0)
    assert found.error == ""
    rows = [(one.node, one.kind, one.capacity, one.used, one.free, one.trouble) for one in found.machines]
    assert rows == [("g1", "L4", 8, 3, 5, ""), ("g2", "L4", 8, 0, 0, "not ready")]
    asked = len(api.requests)
    assert (await infra.accelerators(2.0)).machines == found.machines
    assert len(api.requests) == asked, "asked again at once, it comes from the cache"


@pytest.mark.anyio
async def test_without_the_right_to_list_pods_it_is_not_known_what_is_used(
    infra: KubernetesInfra, api: FakeApi
) -> None:
    api.put("nodes", "", gpu_node("g1", {"nvidia.com/gpu.product": "NVIDIA-L4"}))
    api.refuse = lambda method, path: status(403, "Forbidden", "no") if path.endswith("/pods") else None
    found = await infra.accelerators(2.0)
    assert [(one.capacity, one.used, one.free) for one in found.machines] == [(8, None, None)]
    assert found.error == ""


@pytest.mark.anyio
async def test_without_the_right_to_list_machines_the_reason_is_said(
    infra: KubernetesInfra, api: FakeApi
) -> None:
    api.refuse = lambda method, path: status(403, "Forbidden", "no") if path.endswith("/nodes") else None
    found = await infra.accelerators(2.0)
    assert list(found.machines) == []
    assert "listing its machines" in found.error


def test_the_catalogue_knows_every_accelerator_that_a_task_can_name() -> None:
    assert len(gpus.KNOWN) == len(set(gpus.KNOWN)) > 80
    assert all(memory > 0 for names in gpus.CATALOGUE.values() for memory in names.values())
    assert all(gpus.canonical(name) == name for name in gpus.KNOWN)
