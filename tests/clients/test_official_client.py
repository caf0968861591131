"""`kubernetes`, the official Python client."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

from .conftest import web_server


@pytest.fixture
def api(kubesim_kubeconfig: Path) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(config_file=str(kubesim_kubeconfig)) as made:
        yield made


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


def settings(name: str, **data: str) -> client.V1ConfigMap:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"app": "x"}), data=data)


def test_objects_are_created_listed_changed_and_deleted(
    core: client.CoreV1Api, kubesim_namespace: str
) -> None:
    made = core.create_namespaced_config_map(kubesim_namespace, settings("a", k="1"))
    assert made.metadata.uid
    listed = core.list_namespaced_config_map(kubesim_namespace, label_selector="app=x", limit=1)
    assert [one.metadata.name for one in listed.items] == ["a"]
    made.data["k"] = "2"
    replaced = core.replace_namespaced_config_map("a", kubesim_namespace, made)
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_config_map("a", kubesim_namespace, made)
    assert (stale.value.status, "Conflict" in stale.value.body) == (409, True)
    patched = core.patch_namespaced_config_map("a", kubesim_namespace, {"data": {"more": "3"}})
    assert patched.data == {"k": "2", "more": "3"}
    assert int(patched.metadata.resource_version) > int(replaced.metadata.resource_version)
    core.delete_namespaced_config_map("a", kubesim_namespace)
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("a", kubesim_namespace)
    assert gone.value.status == 404


def test_a_watch_tells_what_happened_since_the_list(core: client.CoreV1Api, kubesim_namespace: str) -> None:
    version = core.list_namespaced_config_map(kubesim_namespace).metadata.resource_version
    core.create_namespaced_config_map(kubesim_namespace, settings("a", k="1"))
    core.patch_namespaced_config_map("a", kubesim_namespace, {"data": {"k": "2"}})
    core.delete_namespaced_config_map("a", kubesim_namespace)
    seen = []
    watching = watch.Watch()
    for event in watching.stream(
        core.list_namespaced_config_map, kubesim_namespace, resource_version=version, timeout_seconds=20
    ):
        if event["object"].metadata.name == "a":
            seen.append((event["type"], event["object"].data["k"]))
        if event["type"] == "DELETED":
            watching.stop()
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_two_managers_apply_and_the_second_one_meets_a_conflict(
    api: client.ApiClient, kubesim_namespace: str
) -> None:
    found = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "one"}}
    found.server_side_apply(body=body, namespace=kubesim_namespace, field_manager="one")
    other = {**body, "data": {"k": "two"}}
    with pytest.raises(dynamic.exceptions.ConflictError):
        found.server_side_apply(body=other, namespace=kubesim_namespace, field_manager="two")
    forced = found.server_side_apply(
        body=other, namespace=kubesim_namespace, field_manager="two", force_conflicts=True
    )
    assert forced.data.k == "two"
    assert {one.manager for one in forced.metadata.managedFields} == {"two"}


def test_a_manifest_becomes_pods_that_run(
    api: client.ApiClient, core: client.CoreV1Api, kubesim_namespace: str, manifest: Path
) -> None:
    utils.create_from_yaml(api, str(manifest), namespace=kubesim_namespace)
    watching = watch.Watch()
    apps = client.AppsV1Api(api)
    for event in watching.stream(apps.list_namespaced_deployment, kubesim_namespace, timeout_seconds=20):
        if event["object"].status.available_replicas == 2:
            watching.stop()
    pods = core.list_namespaced_pod(kubesim_namespace, label_selector="app=sleepers").items
    assert [pod.status.phase for pod in pods] == ["Running", "Running"]
    apps.patch_namespaced_deployment_scale("sleepers", kubesim_namespace, {"spec": {"replicas": 0}})
    apps.delete_namespaced_deployment("sleepers", kubesim_namespace, propagation_policy="Foreground")


def test_logs_exec_and_port_forward_reach_the_pod(
    core: client.CoreV1Api, kubesim_namespace: str, serving_pod: str
) -> None:
    assert core.read_namespaced_pod_log(serving_pod, kubesim_namespace).startswith("started\n")
    said = stream(
        core.connect_get_namespaced_pod_exec,
        serving_pod,
        kubesim_namespace,
        command=["sh", "-c", "read word; echo got $word; echo oops >&2; exit 3"],
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    said.write_stdin("bread\n")
    said.run_forever(timeout=20)
    assert (said.read_stdout(), said.read_stderr(), said.returncode) == ("got bread\n", "oops\n", 3)
    said.close()
    forwarded = portforward(
        core.connect_get_namespaced_pod_portforward, serving_pod, kubesim_namespace, ports="8080"
    )
    connection: socket.socket = forwarded.socket(8080)
    connection.settimeout(20)
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := connection.recv(4096):
        answer += chunk
    connection.close()
    assert answer.endswith(b"hello\n")


def test_a_pod_is_deleted_in_its_own_time(core: client.CoreV1Api, kubesim_namespace: str) -> None:
    core.create_namespaced_pod(kubesim_namespace, web_server("short"))
    core.delete_namespaced_pod("short", kubesim_namespace)
    watching = watch.Watch()
    left = {pod.metadata.name for pod in core.list_namespaced_pod(kubesim_namespace).items}
    for event in (
        watching.stream(core.list_namespaced_pod, kubesim_namespace, timeout_seconds=20) if left else ()
    ):
        if event["type"] == "DELETED":
            left.discard(event["object"].metadata.name)
            watching.stop()
    assert not left
