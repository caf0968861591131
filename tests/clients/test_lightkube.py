"""lightkube: typed, synchronous and asynchronous, over httpx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lightkube import ApiError, Client, KubeConfig, codecs
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import CascadeType, PatchType


@pytest.fixture
def client(kubesim_kubeconfig: Path, kubesim_namespace: str) -> Iterator[Client]:
    config = KubeConfig.from_file(str(kubesim_kubeconfig))
    with Client(config=config, namespace=kubesim_namespace, field_manager="suite") as made:
        yield made


def settings(name: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, labels={"app": "x"}), data=data)


def test_objects_are_created_listed_changed_and_deleted(client: Client) -> None:
    for name in "abc":
        client.create(settings(name, k="1"))
    listed = [one.metadata.name for one in client.list(ConfigMap, labels={"app": "x"}, chunk_size=1)]
    assert listed == ["a", "b", "c"]
    made = client.get(ConfigMap, "a")
    made.data["k"] = "2"
    client.replace(made)
    with pytest.raises(ApiError) as stale:
        client.replace(made)
    assert (stale.value.status.code, stale.value.status.reason) == (409, "Conflict")
    for form in (PatchType.MERGE, PatchType.STRATEGIC):
        client.patch(ConfigMap, "a", {"data": {form.name: "x"}}, patch_type=form)
    client.patch(ConfigMap, "a", [{"op": "remove", "path": "/data/k"}], patch_type=PatchType.JSON)
    assert client.get(ConfigMap, "a").data == {"MERGE": "x", "STRATEGIC": "x"}
    client.deletecollection(ConfigMap)
    assert list(client.list(ConfigMap, labels={"app": "x"})) == []


def test_a_watch_tells_what_is_there_and_what_happens(client: Client) -> None:
    client.create(settings("a", k="1"))
    seen = []
    for kind, found in client.watch(ConfigMap, labels={"app": "x"}, server_timeout=20):
        seen.append((kind, found.data["k"]))
        if seen == [("ADDED", "1")]:
            client.apply(ConfigMap(metadata=ObjectMeta(name="a"), data={"k": "2"}), force=True)
        elif kind == "MODIFIED":
            client.delete(ConfigMap, "a")
        elif kind == "DELETED":
            break
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_two_managers_apply_and_the_second_one_meets_a_conflict(client: Client) -> None:
    wanted = ConfigMap(metadata=ObjectMeta(name="a"), data={"k": "one"})
    client.apply(wanted, field_manager="one")
    other = ConfigMap(metadata=ObjectMeta(name="a"), data={"k": "two"})
    with pytest.raises(ApiError, match='conflict with "one"'):
        client.apply(other, field_manager="two")
    forced = client.apply(other, field_manager="two", force=True)
    assert [one.manager for one in forced.metadata.managedFields] == ["two"]


def test_a_manifest_becomes_pods_that_run(client: Client, manifest: Path) -> None:
    for one in codecs.load_all_yaml(manifest.read_text()):
        client.apply(one)
    ready = client.wait(Deployment, "sleepers", for_conditions=["Available"], raise_for_conditions=[])
    assert ready.status.availableReplicas == 2
    assert {pod.status.phase for pod in client.list(Pod, labels={"app": "sleepers"})} == {"Running"}
    scaled = client.get(Deployment.Scale, "sleepers")
    scaled.spec.replicas = 0
    client.replace(scaled, "sleepers")
    assert client.get(Deployment, "sleepers").spec.replicas == 0
    client.delete(Deployment, "sleepers", cascade=CascadeType.BACKGROUND)


def test_logs_and_exec_reach_the_pod(client: Client, serving_pod: str) -> None:
    assert next(iter(client.log(serving_pod))) == "started\n"
    done = client.exec(
        serving_pod,
        command=["sh", "-c", "cat; echo oops >&2; exit 3"],
        stdin="bread",
        stdout=True,
        stderr=True,
        timeout=20,
    )
    assert (done.stdout, done.stderr, done.exit_code) == ("bread", "oops\n", 3)
