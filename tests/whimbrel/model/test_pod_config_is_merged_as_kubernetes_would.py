"""`pod_config` over a pod of ours: by name where Kubernetes goes by name, and our container is the first."""

from __future__ import annotations

from typing import Any

from whimbrel.model.podconfig import layered, merge

POD: dict[str, Any] = {
    "metadata": {"labels": {"whimbrel.dev/cluster": "c"}},
    "spec": {
        "restartPolicy": "Never",
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [
            {
                "name": "node",
                "image": "img",
                "env": [{"name": "A", "value": "1"}],
                "command": ["sh", "-c", "x"],
            }
        ],
        "volumes": [{"name": "dshm", "emptyDir": {"medium": "Memory"}}],
    },
}


def spec(over: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = merge(POD, {"spec": over})["spec"]
    return found


def test_a_container_without_a_name_is_ours() -> None:
    (container,) = spec({"containers": [{"securityContext": {"privileged": True}}]})["containers"]
    assert container["name"] == "node"
    assert container["image"] == "img"
    assert container["securityContext"] == {"privileged": True}


def test_skypilots_name_of_the_container_is_ours_too() -> None:
    containers = spec({"containers": [{"name": "ray-node", "imagePullPolicy": "Always"}]})["containers"]
    assert [(one["name"], one.get("imagePullPolicy")) for one in containers] == [("node", "Always")]


def test_a_container_of_another_name_stands_beside_ours() -> None:
    containers = spec({"containers": [{"name": "proxy", "image": "p"}]})["containers"]
    assert [one["name"] for one in containers] == ["node", "proxy"]


def test_variables_mounts_and_volumes_are_merged_by_their_keys() -> None:
    over = {
        "containers": [
            {
                "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}],
                "volumeMounts": [{"name": "x", "mountPath": "/x"}],
            }
        ],
        "volumes": [{"name": "dshm", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "x", "emptyDir": {}}],
    }
    found = spec(over)
    assert found["containers"][0]["env"] == [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]
    assert found["volumes"][0] == {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    assert found["volumes"][1]["name"] == "x"


def test_tolerations_are_added_to_those_of_the_gpus() -> None:
    found = spec({"tolerations": [{"key": "team", "operator": "Exists"}]})
    assert [one["key"] for one in found["tolerations"]] == ["nvidia.com/gpu", "team"]


def test_other_lists_are_replaced_and_null_takes_away() -> None:
    base = {"spec": {"dnsConfig": {"nameservers": ["1.1.1.1"]}, "hostNetwork": True}}
    over = {"spec": {"dnsConfig": {"nameservers": ["9.9.9.9"]}, "hostNetwork": None}}
    assert merge(base, over) == {"spec": {"dnsConfig": {"nameservers": ["9.9.9.9"]}}}


def test_nothing_that_was_given_is_changed() -> None:
    before = repr(POD)
    spec({"containers": [{"env": [{"name": "A", "value": "9"}]}], "tolerations": []})
    assert repr(POD) == before


def test_a_null_of_a_nearer_layer_reaches_the_pod() -> None:
    config = layered({"spec": {"hostNetwork": True}}, {"spec": {"volumes": None, "hostNetwork": None}})
    assert config == {"spec": {"volumes": None, "hostNetwork": None}}
    assert "volumes" not in merge(POD, config)["spec"]
