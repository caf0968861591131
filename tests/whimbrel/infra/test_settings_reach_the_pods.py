"""What a user sets becomes part of the pods: image, labels, queue, volumes, GPUs, spot machines, `pod_config`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from whimbrel.infra.base import ClusterSpec, NodeShape
from whimbrel.infra.kubernetes import capacity, placement, pods, ports
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.infra.kubernetes.pods import Accelerator, Spot
from whimbrel.infra.provision import Endpoint, Mount, Provision
from whimbrel.model.errors import OutOfCapacity

from .fake_api import FakeApi, machine, unscheduled

pytestmark = pytest.mark.anyio

GPU = Accelerator(
    resource="nvidia.com/gpu",
    selector={"nvidia.com/gpu.product": "L4"},
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists"},),
)


def made(
    spec: ClusterSpec, *, rank: int = 0, gpu: bool = False, spot: Spot | None = None, **given: Any
) -> Any:
    """The pod of one rank of a cluster that is made so."""
    changed = replace(spec, provision=Provision(**given))
    return pods.pod(
        changed,
        rank,
        "ns",
        image="usual",
        command=["x"],
        grace=5,
        accelerator=GPU if gpu else None,
        spot=spot,
    )


def test_image_identity_priority_and_disk_are_asked_for(one: ClusterSpec) -> None:
    spec = made(one, image="alpine", service_account="sa", priority_class="high", disk_gib=20.0)["spec"]
    assert spec["containers"][0]["image"] == "alpine"
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("sa", True)
    assert spec["priorityClassName"] == "high"
    assert spec["containers"][0]["resources"]["requests"]["ephemeral-storage"] == "20480Mi"


def test_our_labels_win_over_those_of_the_user(one: ClusterSpec) -> None:
    config = {"metadata": {"labels": {"whimbrel.dev/rank": "7", "x": "pod"}, "annotations": {"n": "m"}}}
    metadata = made(one, labels={"x": "all", "y": "z"}, annotations={"k": "v"}, pod_config=config)["metadata"]
    assert metadata["labels"]["whimbrel.dev/rank"] == "0"
    assert metadata["labels"]["y"] == "z"
    assert metadata["annotations"] == {"k": "v", "n": "m"}
    assert "annotations" not in made(one)["metadata"]


def test_kueue_admits_all_nodes_of_a_cluster_together(spec: ClusterSpec, one: ClusterSpec) -> None:
    pod = made(spec, rank=1, queue="gpus")
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/pod-group-name"] == "c1-01234567"
    assert pod["metadata"]["annotations"] == {"kueue.x-k8s.io/pod-group-total-count": "2"}
    assert "kueue.x-k8s.io/pod-group-name" not in made(one, queue="gpus")["metadata"]["labels"]


def test_a_node_with_gpus_gets_shared_memory_and_tolerates_their_taint(one: ClusterSpec) -> None:
    spec = made(one, gpu=True)["spec"]
    assert spec["volumes"] == [{"name": "dshm", "emptyDir": {"medium": "Memory"}}]
    assert spec["containers"][0]["volumeMounts"] == [{"name": "dshm", "mountPath": "/dev/shm"}]
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert "volumes" not in made(one)["spec"]


def test_pod_config_is_laid_over_it(one: ClusterSpec) -> None:
    config = {
        "spec": {
            "hostNetwork": True,
            "runtimeClassName": "nvidia",
            "imagePullSecrets": [{"name": "registry"}],
            "tolerations": [{"key": "rdma", "operator": "Exists"}],
            "containers": [{"resources": {"limits": {"rdma/ib": 1}}}],
            "volumes": [{"name": "dshm", "emptyDir": {"sizeLimit": "8Gi"}}],
        }
    }
    shape = NodeShape(cpus=1, accelerator="L4", accelerator_count=1)
    spec = made(replace(one, shape=shape), gpu=True, pod_config=config)["spec"]
    assert (spec["hostNetwork"], spec["runtimeClassName"]) == (True, "nvidia")
    assert spec["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1", "rdma/ib": 1}
    assert spec["containers"][0]["command"] == ["x"]
    assert [one["key"] for one in spec["tolerations"]] == ["nvidia.com/gpu", "rdma"]
    assert spec["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


def test_volumes_are_mounted_by_claim_or_made_with_the_node(one: ClusterSpec) -> None:
    mounts = (
        Mount(path="/a", claim="data", sub_path="x"),
        Mount(path="/b", claim="data"),
        Mount(path="/c", size_gib=10, access_mode="ReadWriteOnce", storage_class="fast"),
    )
    spec = made(one, mounts=mounts)["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["volume-0", "volume-2"]
    assert spec["volumes"][0]["persistentVolumeClaim"] == {"claimName": "data"}
    claim = spec["volumes"][1]["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert (claim["resources"]["requests"]["storage"], claim["storageClassName"]) == ("10240Mi", "fast")
    assert spec["containers"][0]["volumeMounts"] == [
        {"name": "volume-0", "mountPath": "/a", "subPath": "x"},
        {"name": "volume-0", "mountPath": "/b"},
        {"name": "volume-2", "mountPath": "/c"},
    ]


# ------------------------------------------------------------ machines


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cloud.google.com/gke-spot", "true"),
        ("eks.amazonaws.com/capacityType", "SPOT"),
        ("karpenter.sh/capacity-type", "spot"),
        ("kubernetes.azure.com/scalesetpriority", "spot"),
    ],
)
def test_spot_machines_are_known_by_the_labels_of_their_clouds(
    one: ClusterSpec, key: str, value: str
) -> None:
    taint = {"key": key, "value": value, "effect": "NoSchedule"}
    machines = [
        capacity.machine(machine("spot", labels={key: value}, taints=[taint])),
        capacity.machine(machine("plain")),
    ]
    wanted = Provision(spot=True)
    spot, plain = placement.admitting(machines, wanted)
    assert (spot.closed, plain.closed) == ("", "not a spot machine")
    spec = made(one, spot=placement.spot_for(machines, wanted))["spec"]
    assert spec["nodeSelector"] == {key: value}
    assert spec["tolerations"] == [{"key": key, "operator": "Exists"}]
    assert placement.admitting(machines, Provision())[0].closed.startswith("tainted")


def test_what_pod_config_tolerates_and_selects_decides_about_machines() -> None:
    taint = {"key": "team", "value": "a", "effect": "NoSchedule"}
    machines = [
        capacity.machine(machine("m1", taints=[taint], labels={"pool": "x"})),
        capacity.machine(machine("m2", labels={"pool": "y"})),
    ]
    spec = {"tolerations": [{"key": "team", "value": "a"}], "nodeSelector": {"pool": "x"}}
    first, second = placement.admitting(machines, Provision(pod_config={"spec": spec}))
    assert (first.closed, second.closed) == ("", "without the label pool=x")


def test_an_accelerator_that_is_to_come_is_asked_for_in_the_autoscalers_way() -> None:
    shape = NodeShape(cpus=1, accelerator="H100", accelerator_count=8)

    def asked(autoscaler: str) -> dict[str, str]:
        found = placement.accelerator_to_come(shape, Provision(autoscaler=autoscaler))
        assert found is not None
        return dict(found.selector)

    assert asked("gke") == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    assert asked("karpenter") == {"karpenter.k8s.aws/instance-gpu-name": "h100"}
    assert asked("generic") == {}
    assert placement.accelerator_to_come(shape, Provision()) is None


async def test_where_machines_can_be_added_there_is_no_no(infra: KubernetesInfra) -> None:
    large = NodeShape(cpus=64)
    refused = await infra.offer(1, large)
    assert not refused.feasible
    offer = await infra.offer(1, large, Provision(autoscaler="karpenter"))
    assert offer.feasible
    assert offer.note.startswith(
        "machines have to be added by the autoscaler (karpenter): no machine has 64 CPUs"
    )


async def test_a_node_without_a_machine_is_waited_for_as_long_as_the_user_says(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    said: list[str] = []

    def no_machine(pod: dict[str, Any]) -> None:
        api.set_status(pod["metadata"]["name"], unscheduled("0/1 nodes are available: 1 Insufficient cpu."))

    api.on_create = no_machine
    patient = replace(one, provision=Provision(patience=0.3, autoscaler="generic"))
    async with asyncio.timeout(10):
        with pytest.raises(
            OutOfCapacity, match=r"does not run after 0 s: no machine can take it.*Insufficient cpu"
        ):
            await infra.ensure(patient, said.append, 60)
    assert any("no machine can take it" in text for text in said)


# ------------------------------------------------------------ ports


def opened(one: ClusterSpec, mode: str) -> ClusterSpec:
    return replace(one, provision=Provision(ports=(8080, 9000), port_mode=mode))


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [
        ("loadbalancer", ["Pod", "Service"]),
        ("nodeport", ["Pod", "Service"]),
        ("ingress", ["Pod", "Service", "Ingress"]),
        ("podip", ["Pod"]),
        ("port-forward", ["Pod"]),
    ],
)
def test_everything_that_opens_ports_is_in_the_ledger(one: ClusterSpec, mode: str, kinds: list[str]) -> None:
    spec = opened(one, mode)
    assert [thing.kind for thing in pods.things(spec, "k8s/x", "ns")] == kinds
    assert [kind for kind, _ in ports.objects(spec, "ns")] == kinds[1:]
    assert all(len(thing.name) <= 63 for thing in pods.things(replace(spec, name="a" * 50), "k8s/x", "ns"))


def test_a_service_leads_to_the_first_node(one: ClusterSpec) -> None:
    ((_, service),) = ports.objects(opened(one, "nodeport"), "ns")
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["selector"]["whimbrel.dev/rank"] == "0"
    assert [port["port"] for port in service["spec"]["ports"]] == [8080, 9000]


async def test_a_load_balancer_is_waited_for_with_a_note_and_then_told(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    spec = opened(one, "loadbalancer")
    seen = await infra.ensure(spec, lambda text: None, 10)
    assert [(end.port, end.url) for end in seen.endpoints] == [(8080, ""), (9000, "")]
    assert "a load balancer has to be there" in seen.endpoints[0].note
    service = api.objects["services", "default", "c1-01234567-p"]
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "2001:db8::1"}]}}
    seen = await infra.observe(spec)
    assert [end.url for end in seen.endpoints] == ["[2001:db8::1]:8080", "[2001:db8::1]:9000"]


async def test_node_ports_are_told_with_the_address_of_the_machine(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    spec = opened(one, "nodeport")
    await infra.ensure(spec, lambda text: None, 10)
    service = api.objects["services", "default", "c1-01234567-p"]
    for number, port in enumerate(service["spec"]["ports"]):
        port["nodePort"] = 30000 + number
    api.objects["pods", "default", "c1-01234567-0"]["status"]["hostIP"] = "10.0.0.7"
    seen = await infra.observe(spec)
    assert [end.url for end in seen.endpoints] == ["10.0.0.7:30000", "10.0.0.7:30001"]


async def test_without_a_service_the_pod_or_a_command_is_told(
    infra: KubernetesInfra, one: ClusterSpec
) -> None:
    seen = await infra.ensure(opened(one, "podip"), lambda text: None, 10)
    assert seen.endpoints[0] == Endpoint(port=8080, url="10.1.2.3:8080")
    seen = await infra.observe(opened(one, "port-forward"))
    assert seen.endpoints[0].url == "localhost:8080"
    assert seen.endpoints[0].note.endswith(
        "kubectl --context fake -n default port-forward pod/c1-01234567-0 8080"
    )


async def test_what_opened_the_ports_goes_with_the_cluster(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    spec = opened(one, "loadbalancer")
    await infra.ensure(spec, lambda text: None, 10)
    seen = await infra.remove(spec, lambda text: None, 10)
    assert seen.gone
    assert api.named("services") == []


async def test_the_namespace_of_the_settings_is_where_a_cluster_is_made(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    api.on_create = lambda pod: api.set_status(
        pod["metadata"]["name"], {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, "ml"
    )
    await infra.ensure(replace(one, provision=Provision(namespace="ml")), lambda text: None, 10)
    assert ("pods", "ml", "c1-01234567-0") in api.objects
