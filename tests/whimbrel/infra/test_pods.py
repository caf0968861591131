"""The objects of a cluster: fixed names, labels by which they are found, nothing asked of the image but a shell."""

from __future__ import annotations

import pytest

from kubesim.kubelet.expansion import expand
from whimbrel.infra.base import ClusterSpec, NodeShape
from whimbrel.infra.kubernetes import pods
from whimbrel.infra.kubernetes.pods import Accelerator
from whimbrel.runtime.pid1 import node_command


def made(spec: ClusterSpec, accelerator: Accelerator | None = None) -> dict[str, object]:
    """The pod of rank 0."""
    return pods.pod(spec, 0, "ns", image="img", command=["sh", "-c", "x"], grace=5, accelerator=accelerator)


def test_names_do_not_change_between_attempts(spec: ClusterSpec) -> None:
    names = [thing.name for thing in pods.things(spec, "k8s/x", "ns")]
    assert names == ["c1-01234567-0", "c1-01234567-1", "c1-01234567"]
    assert names == [thing.name for thing in pods.things(spec, "k8s/x", "ns")]


def test_a_single_node_has_no_service(one: ClusterSpec) -> None:
    assert [thing.kind for thing in pods.things(one, "k8s/x", "ns")] == ["Pod"]


def test_a_token_tells_where_a_thing_is(one: ClusterSpec) -> None:
    assert pods.things(one, "k8s/x", "ns")[0].token == "k8s/x/Pod/ns/c1-01234567-0/0123456789abcdef"


def test_everything_is_labelled_and_values_are_made_legal(spec: ClusterSpec) -> None:
    labels = made(spec)["metadata"]["labels"]  # type: ignore[index] # JSON
    assert labels == {
        "whimbrel.dev/cluster": "c1",
        "whimbrel.dev/cluster-uid": "0123456789abcdef",
        "whimbrel.dev/user": "Alice-M-ller",
        "whimbrel.dev/rank": "0",
        "app.kubernetes.io/managed-by": "whimbrel",
    }
    assert pods.service(spec, "ns")["spec"]["selector"] == {"whimbrel.dev/cluster-uid": "0123456789abcdef"}


@pytest.mark.parametrize("text", ["", "ü", "-a-", "a" * 100, "a/b c", "alice@example.com"])
def test_any_text_becomes_a_legal_label_value(text: str) -> None:
    value = pods.label_value(text)
    assert len(value) <= 63
    assert value == value.strip("-_.")


def test_a_pod_asks_for_what_the_shape_says(one: ClusterSpec) -> None:
    shape = NodeShape(cpus=2, memory_gib=4, accelerator="L4", accelerator_count=2)
    spec = ClusterSpec(name="c1", uid=one.uid, num_nodes=1, shape=shape, user="a")
    accelerator = Accelerator(
        resource="nvidia.com/gpu",
        selectors=[{"nvidia.com/gpu.product": "NVIDIA-L4"}],
        tolerations=({"key": "nvidia.com/gpu", "operator": "Exists"},),
    )
    body = made(spec, accelerator)["spec"]
    assert body["containers"][0]["resources"] == {  # type: ignore[index] # JSON
        "requests": {"cpu": "2000m", "memory": "4096Mi", "nvidia.com/gpu": "2"},
        "limits": {"nvidia.com/gpu": "2"},
    }
    assert body["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}  # type: ignore[index] # JSON


def test_a_pod_ends_for_good_and_carries_no_credentials(one: ClusterSpec) -> None:
    body = made(one)["spec"]
    assert body["restartPolicy"] == "Never"  # type: ignore[index] # JSON
    assert body["automountServiceAccountToken"] is False  # type: ignore[index] # JSON


def test_kubernetes_gives_the_first_process_the_very_words_of_its_command(spec: ClusterSpec) -> None:
    """Kubernetes expands `$$` and `$(NAME)` in a command; a shell needs both as they are."""
    said = node_command()
    assert "$$" in said[2]
    assert "$(" in said[2]
    body = pods.pod(spec, 0, "ns", image="img", command=said, grace=5, accelerator=None)
    given = body["spec"]["containers"][0]["command"]
    assert [expand(word, {"id -u": "broken", "HOME": "/"}) for word in given] == said
