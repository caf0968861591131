"""What clients read before and beside objects: tables, discovery, OpenAPI."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from kubesim.apiserver import discovery, openapi
from kubesim.apiserver.columns.values import human
from kubesim.apiserver.jsonpath import InvalidPath, compiled, every, first
from kubesim.apiserver.tables import to_table
from kubesim.schema.decode import decode
from kubesim.schema.registry import ResourceType, Subresource, builtin

NOW = datetime(2020, 1, 1, 1, 0, 0, tzinfo=UTC)
BORN = "2020-01-01T00:00:00Z"

CUSTOM = ResourceType(
    group="example.com",
    version="v1",
    plural="things",
    singular="thing",
    kind="Thing",
    namespaced=True,
    verbs=frozenset({"get", "list"}),
    short_names=("th",),
    subresources={"status": Subresource(name="status", kind="Thing", verbs=frozenset({"get"}))},
    custom=True,
    columns=(
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {
            "name": "Ready",
            "type": "string",
            "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
            "priority": 1,
        },
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ),
    openapi={"type": "object", "properties": {"spec": {"type": "object"}}},
)


def cells(rt: ResourceType, obj: dict[str, Any]) -> list[Any]:
    [row] = to_table(rt, [obj], NOW)["rows"]
    found: list[Any] = row["cells"]
    return found


def titles(rt: ResourceType) -> list[str]:
    return [column["name"] for column in to_table(rt, [], NOW)["columnDefinitions"]]


def container(name: str, **status: Any) -> dict[str, Any]:
    return {"name": name, "ready": False, "restartCount": 0, "lastState": {}, "state": {}, **status}


def pod(statuses: list[dict[str, Any]], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "a", "creationTimestamp": BORN},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}, {"name": "d"}]},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": "10.1.1.1"}],
            "containerStatuses": statuses,
            **status,
        },
    }


def test_the_row_of_a_pod_sums_up_its_containers(life: SimpleNamespace) -> None:
    pods = life.resource("pods")
    up = container("c", ready=True, restartCount=3, state={"running": {"startedAt": BORN}})
    down = container("d", state={"waiting": {"reason": "CrashLoopBackOff"}})
    assert titles(pods) == [
        "Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates",
    ]  # fmt: skip
    assert cells(pods, pod([up, down])) == [
        "a", "1/2", "CrashLoopBackOff", "3", "60m", "10.1.1.1", "n1", "<none>", "<none>",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("obj", "status"),
    [
        (pod([], phase="Pending"), "Pending"),
        (pod([container("c", state={"terminated": {"exitCode": 3}})]), "ExitCode:3"),
        (pod([container("c", state={"terminated": {"exitCode": 0, "signal": 9}})]), "Signal:9"),
        (pod([container("c", state={"terminated": {"exitCode": 0, "reason": "Completed"}})]), "Completed"),
        (pod([], reason="Evicted", phase="Failed"), "Evicted"),
        (
            pod([], conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]),
            "SchedulingGated",
        ),
        (pod([], initContainerStatuses=[container("i")]), "Init:0/0"),
        (pod([], initContainerStatuses=[container("i", state={"waiting": {"reason": "Bad"}})]), "Init:Bad"),
        ({**pod([]), "metadata": {"name": "a", "deletionTimestamp": BORN}}, "Terminating"),
    ],
)
def test_the_status_of_a_pod_is_the_most_telling_word(
    life: SimpleNamespace, obj: dict[str, Any], status: str
) -> None:
    assert cells(life.resource("pods"), obj)[2] == status


def test_restarts_say_when_the_last_one_was(life: SimpleNamespace) -> None:
    ended = {"terminated": {"exitCode": 1, "finishedAt": "2020-01-01T00:58:00Z"}}
    obj = pod([container("c", restartCount=2, lastState=ended)])
    assert cells(life.resource("pods"), obj)[3] == "2 (2m ago)"


def test_a_finished_pod_is_marked(life: SimpleNamespace) -> None:
    table = to_table(life.resource("pods"), [pod([], phase="Succeeded")], NOW, "None")
    assert table["rows"][0]["object"] is None
    assert table["rows"][0]["conditions"][0]["type"] == "Completed"


def test_a_row_carries_what_was_asked_for(life: SimpleNamespace) -> None:
    rt = life.resource("configmaps")
    obj = {"metadata": {"name": "a", "creationTimestamp": BORN}, "data": {"k": "v"}}
    assert to_table(rt, [obj], NOW)["rows"][0] == {
        "cells": ["a", 1, "60m"],
        "object": {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": obj["metadata"],
        },
    }
    whole = to_table(rt, [obj], NOW, "Object")["rows"][0]["object"]
    assert (whole["kind"], whole["data"]) == ("ConfigMap", {"k": "v"})


def test_rows_of_nodes_services_jobs_and_deployments(life: SimpleNamespace) -> None:
    node = {
        "metadata": {
            "name": "n",
            "labels": {"node-role.kubernetes.io/worker": ""},
            "creationTimestamp": BORN,
        },
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1", "architecture": "amd64"},
        },
    }
    assert cells(life.resource("nodes"), node) == [
        "n", "NotReady,SchedulingDisabled", "worker", "60m", "v1.36.0", "<none>", "<none>", "<unknown>",
        "6.1 (amd64)", "<unknown>",
    ]  # fmt: skip
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30001}, {"port": 53, "protocol": "UDP"}]
    service = {
        "metadata": {"name": "s", "creationTimestamp": BORN},
        "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": ports, "selector": {"a": "b"}},
    }
    assert cells(life.resource("services"), service) == [
        "s", "NodePort", "10.0.0.1", "<none>", "80:30001/TCP,53/UDP", "60m", "a=b",
    ]  # fmt: skip
    job = {
        "metadata": {"name": "j", "creationTimestamp": BORN},
        "spec": {"completions": 3, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
        "status": {"startTime": BORN, "completionTime": "2020-01-01T00:00:30Z", "succeeded": 3},
    }
    assert cells(life.resource("jobs", "batch"), job)[1:4] == ["Running", "3/3", "30s"]
    deployment = {
        "metadata": {"name": "d", "creationTimestamp": BORN},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "s", "image": "j:2"}]}
            },
        },
        "status": {},
    }
    assert cells(life.resource("deployments", "apps"), deployment) == [
        "d", "0/2", 0, 0, "60m", "c,s", "i:1,j:2", "a=b",
    ]  # fmt: skip


def test_every_kind_makes_a_table_of_the_emptiest_object(life: SimpleNamespace) -> None:

    for rt in builtin().all():
        table = to_table(rt, [decode(rt, {"metadata": {"name": "x"}}).obj], NOW)
        assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])


def test_a_custom_resource_has_the_columns_of_its_definition() -> None:
    obj = {
        "metadata": {"name": "t", "creationTimestamp": BORN},
        "spec": {"size": 3},
        "status": {"conditions": [{"type": "Other", "status": "x"}, {"type": "Ready", "status": "True"}]},
    }
    assert titles(CUSTOM) == ["Name", "Size", "Ready", "Age"]
    assert cells(CUSTOM, obj) == ["t", 3, "True", "60m"]
    assert cells(CUSTOM, {"metadata": {"name": "t"}, "spec": {"size": "big"}}) == ["t", None, None, None]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (130, "2m10s"), (600, "10m"), (10800, "3h"), (11000, "3h3m"),
     (172800, "2d"), (180000, "2d2h"), (86400 * 8, "8d"), (86400 * 800, "2y70d"), (-5, "<invalid>")],
)  # fmt: skip
def test_ages_have_at_most_two_units(seconds: int, text: str) -> None:
    assert human(seconds) == text


def test_paths_go_through_names_positions_filters_and_everything() -> None:
    obj = {"a": [{"b": 1, "t": "x"}, {"b": 2, "t": "y"}], "m": {"x.y/z": "v"}}
    assert every(".a[*].b", obj) == [1, 2]
    assert first("{.a[1].b}", obj) == 2
    assert first(".a[?(@.t=='y')].b", obj) == 2
    assert first(r".m.x\.y/z", obj) == "v"
    assert first(".none.at.all", obj) is None
    with pytest.raises(InvalidPath):
        compiled(".a[")


def test_discovery_of_the_core_group_has_pods_with_their_subresources() -> None:
    registry = builtin()
    listed = discovery.resource_list(registry, "", "v1")
    assert listed is not None
    by_name = {one["name"]: one for one in listed["resources"]}
    assert by_name["pods"]["shortNames"] == ["po"]
    assert by_name["pods/eviction"] == {
        "name": "pods/eviction",
        "singularName": "",
        "namespaced": True,
        "group": "policy",
        "version": "v1",
        "kind": "Eviction",
        "verbs": ["create"],
    }
    assert discovery.resource_list(registry, "", "v2") is None
    assert discovery.api_group(registry, "apps") == {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": "apps",
        "versions": [{"groupVersion": "apps/v1", "version": "v1"}],
        "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"},
    }
    assert discovery.api_group(registry, "example.com") is None


def test_the_preferred_version_of_autoscaling_is_the_newer_one() -> None:
    group = discovery.api_group(builtin(), "autoscaling")
    assert group is not None
    assert group["preferredVersion"]["version"] == "v2"


def test_a_custom_resource_comes_and_goes_everywhere_at_once() -> None:
    registry = builtin()
    registry.add(CUSTOM)
    assert registry.by_kind("example.com", "v1", "Thing") is CUSTOM
    assert "example.com" in [group["name"] for group in discovery.api_groups(registry)["groups"]]
    items = discovery.aggregated(registry, core=False)["items"]
    [thing] = next(item for item in items if item["metadata"]["name"] == "example.com")["versions"][0][
        "resources"
    ]
    assert thing["responseKind"] == {"group": "example.com", "version": "v1", "kind": "Thing"}
    answer = openapi.answer(registry, "/openapi/v3/apis/example.com/v1", "")
    assert answer is not None
    document = orjson.loads(answer[1])
    schema = document["components"]["schemas"]["com.example.v1.Thing"]
    assert schema["x-kubernetes-group-version-kind"] == [
        {"group": "example.com", "version": "v1", "kind": "Thing"}
    ]
    assert "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" in document["components"]["schemas"]
    registry.remove("example.com", "v1", "things")
    assert not registry.has("example.com")
    assert openapi.answer(registry, "/openapi/v3/apis/example.com/v1", "") is None
    assert "example.com" not in registry.groups()


def test_openapi_has_an_index_whose_documents_are_there() -> None:
    registry = builtin()
    media, body = openapi.answer(registry, "/openapi/v3", "") or ("", b"")
    assert media == "application/json"
    index = orjson.loads(body)["paths"]
    assert {"api/v1", "apis/apps/v1", "version"} <= set(index)
    path, _, query = index["apis/apps/v1"]["serverRelativeURL"].partition("?")
    assert query.startswith("hash=")
    document = orjson.loads((openapi.answer(registry, path, "") or ("", b""))[1])
    assert "io.k8s.api.apps.v1.Deployment" in document["components"]["schemas"]
    assert openapi.answer(registry, "/openapi/v3/apis/nowhere/v1", "") is None


def test_openapi_v2_has_the_merge_keys_that_clients_patch_by() -> None:
    _, body = openapi.answer(builtin(), "/openapi/v2", "") or ("", b"")
    containers = orjson.loads(body)["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"


KIT = Path(__file__).resolve().parents[4] / "shared" / "conformance" / "openapi"


@pytest.mark.skipif(not KIT.is_dir(), reason="the conformance kit is not beside the project")
def test_every_document_is_the_one_that_the_real_server_publishes() -> None:

    registry = builtin()
    assert discovery.api_groups(registry) == orjson.loads((KIT / "discovery" / "apis.json").read_bytes())
    for core, name in ((True, "api"), (False, "apis")):
        aggregated = orjson.loads((KIT / "discovery" / f"aggregated_{name}.json").read_bytes())
        assert discovery.aggregated(registry, core=core) == {"metadata": {}, **aggregated}
    for name in orjson.loads((KIT / "v3" / "index.json").read_bytes())["paths"]:
        file = KIT / "v3" / f"{name.removeprefix('.').replace('/', '_')}.json.gz"
        answer = openapi.answer(registry, f"/openapi/v3/{name}", "")
        assert answer is not None
        assert orjson.loads(answer[1]) == orjson.loads(gzip.decompress(file.read_bytes()))
