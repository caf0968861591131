"""What machines have, and why a cluster does not fit, in the user's words."""

from __future__ import annotations

import pytest

from whimbrel.infra.base import NodeShape
from whimbrel.infra.kubernetes import quantity
from whimbrel.infra.kubernetes.capacity import (
    accelerator_for,
    accelerators,
    describe_free,
    fits,
    free,
    machine,
    why_not,
)

from .fake_api import machine as node

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def gpu_node(name: str, product: str, count: int, **extra: object) -> dict[str, object]:
    """A machine with GPUs."""
    return node(
        name,
        "64",
        "512Gi",
        labels={"nvidia.com/gpu.product": product},
        room={"nvidia.com/gpu": str(count)},
        **extra,
    )


def shape(cpus: float = 1, memory: float | None = None, gpu: str | None = None, count: int = 0) -> NodeShape:
    """A NodeShape."""
    return NodeShape(cpus=cpus, memory_gib=memory, accelerator=gpu, accelerator_count=count)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("250m", 0.25),
        ("1.5", 1.5),
        ("1Ki", 1024),
        ("2e3", 2000),
        ("3k", 3000),
        ("nonsense", 0),
        ("1Xi", 0),
        (7, 7),
    ],
)
def test_quantities_are_read(text: object, value: float) -> None:
    assert quantity.parse(text) == value


def test_quantities_are_written() -> None:
    assert quantity.cpus(0.1) == "100m"
    assert quantity.memory(1.5) == "1536Mi"


def test_a_cluster_that_fits_has_no_reason() -> None:
    assert why_not([machine(node("a", "4"))], 4, shape(1)) == ""


def test_too_many_cpus_says_what_there_is() -> None:
    reason = why_not([machine(node("a", "4")), machine(node("b", "8", "16Gi"))], 1, shape(64))
    assert reason == "no machine has 64 CPUs; the largest (b) has 8 CPUs, 16 GiB memory"


def test_too_many_nodes_says_how_many_would_fit() -> None:
    reason = why_not([machine(node("a", "4"))], 3, shape(2))
    assert reason == "its machines have room for 2 of 3 nodes with 2 CPUs each"


def test_no_machines_at_all_is_said() -> None:
    assert why_not([], 1, shape()) == "it has no machines (Kubernetes nodes)"


def test_machines_that_take_no_work_are_told_with_their_reasons() -> None:
    machines = [
        machine(node("a", ready="False")),
        machine(node("b", taints=[{"key": "dedicated", "effect": "NoSchedule"}])),
    ]
    assert (
        why_not(machines, 1, shape()) == "none of its 2 machines takes work: 1 not ready, 1 tainted dedicated"
    )


def test_accelerators_that_are_not_there_are_told_with_those_that_are() -> None:
    machines = [machine(gpu_node("g", "NVIDIA-L4", 4)), machine(node("c"))]
    assert why_not(machines, 1, shape(1, gpu="H100", count=8)) == "no machine has H100; there is L4:4"
    assert why_not(machines, 1, shape(1, gpu="L4", count=8)) == "no machine has L4:8; the most on one is 4"
    assert "no accelerators that Kubernetes knows of" in why_not(
        [machine(node("c"))], 1, shape(1, gpu="L4", count=1)
    )
    assert why_not(machines, 1, shape(1, gpu="l4", count=4)) == ""


def test_a_gpu_machine_is_left_to_those_who_need_it_when_it_is_tainted() -> None:
    one = machine(gpu_node("g", "NVIDIA-H100-80GB-HBM3", 8, taints=[GPU_TAINT]))
    assert fits(one, shape(1)) == 0
    assert fits(one, shape(1, gpu="H100", count=4)) == 2


def test_a_pod_asks_for_accelerators_as_the_machines_call_them() -> None:
    machines = [machine(node("c")), machine(gpu_node("g", "NVIDIA-H100-80GB-HBM3", 8, taints=[GPU_TAINT]))]
    asked = accelerator_for(machines, shape(1, gpu="h100", count=2))
    assert asked
    assert asked.resource == "nvidia.com/gpu"
    assert list(asked.selectors) == [{"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}]
    assert accelerator_for(machines, shape(1)) is None


def test_accelerators_are_counted_by_kind() -> None:
    machines = [
        machine(gpu_node("a", "NVIDIA-L4", 4)),
        machine(gpu_node("b", "NVIDIA-L4", 2)),
        machine(node("c")),
    ]
    assert accelerators(machines) == {"L4": 6}


def test_what_is_free_is_what_no_live_pod_has_asked_for() -> None:
    machines = [machine(node("a", "4", "8Gi"))]
    pod = {
        "spec": {
            "nodeName": "a",
            "containers": [{"resources": {"requests": {"cpu": "1500m", "memory": "2Gi"}}}, {}],
        },
        "status": {"phase": "Running"},
    }
    done = {**pod, "status": {"phase": "Succeeded"}}
    assert free(machines, [pod, done]) == {"a": (2.5, 6.0, 0)}
    assert (
        describe_free(machines, [pod], shape(3))
        == "it asks for 3 CPUs; most is free on a: 2.5 CPUs, 6 GiB memory"
    )
