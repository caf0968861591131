"""What is saved comes back: in full as it was, and as objects under new uids, in the form that kwokctl uses too."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kubesim.apiserver import snapshotting
from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.apiserver.snapshotting import SnapshotUnreadable
from kubesim.cluster.errors import InvalidOption, SnapshotRefused
from kubesim.cluster.exitcodes import ExitCode
from kubesim.cluster.home import Home
from kubesim.cluster.snapshot import files, saving
from kubesim.cluster.snapshot.restoring import Outcome, Restore
from kubesim.store import Compacted, open_store, replace_store
from kubesim.store.database import DATABASE
from kubewire import resources
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.resources import CUSTOM_RESOURCE_DEFINITIONS, Resource

pytestmark = pytest.mark.anyio

Object = dict[str, Any]
THINGS = Resource("example.com", "v1", "things", "Thing")


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[Client, ApiServer]]:
    """An API server without controllers; the account that pods need is there."""
    store = open_store("memory")
    api = ApiServer(store)
    await api.start()
    client = Client(InProcessTransport(api, user="admin"))
    await client.create(resources.SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "default")
    yield client, api
    api.drain()
    await store.close()


def owned_by(owner: Object, controller: bool = True) -> list[Object]:
    return [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": controller,
        }
    ]


def schema(**properties: Object) -> Object:
    return {"type": "object", "properties": properties}


async def define_things(client: Client) -> None:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": schema(spec=schema(n={"type": "integer"}), status=schema(m={"type": "string"}))
        },
    }
    spec = {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
        "versions": [version],
    }
    await client.create(
        CUSTOM_RESOURCE_DEFINITIONS, {"metadata": {"name": "things.example.com"}, "spec": spec}
    )
    async with asyncio.timeout(10):
        while True:
            try:
                await client.list(THINGS, "default")
                return
            except NotFound:
                await asyncio.sleep(0.01)


async def fill(client: Client) -> None:
    """A workload as controllers would leave it: owners, pods with status, a claim and its volume, a custom resource."""
    await define_things(client)
    await client.create(resources.NODES, {"metadata": {"name": "n", "labels": {"zone": "a"}}})
    await client.patch(resources.NODES, "n", {"spec": {"taints": None}})
    container = {"name": "c", "image": "i"}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    workload = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    deployment = await client.create(
        resources.DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": workload}, "default"
    )
    owned = {"name": "web-1", "labels": {"app": "web"}, "ownerReferences": owned_by(deployment)}
    replicas = await client.create(resources.REPLICA_SETS, {"metadata": owned, "spec": workload}, "default")
    pod = await client.create(
        resources.PODS,
        {
            "metadata": {
                "name": "web-1-x",
                "generateName": "web-1-",
                "labels": {"app": "web"},
                "ownerReferences": owned_by(replicas),
                "finalizers": ["example.com/held"],
            },
            "spec": {"nodeName": "n", "containers": [container]},
        },
        "default",
    )
    running = {"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}]}
    await client.patch(
        resources.PODS, pod["metadata"]["name"], {"status": running}, "default", subresource="status"
    )
    job = {
        "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    made = await client.create(resources.JOBS, job, "default")
    labels = {"batch.kubernetes.io/controller-uid": made["metadata"]["uid"]}
    worker = {"name": "j-1", "labels": labels, "ownerReferences": owned_by(made)}
    await client.create(resources.PODS, {"metadata": worker, "spec": {"containers": [container]}}, "default")
    storage = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "volumeName": "v",
    }
    claim = await client.create(
        resources.PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "claim"}, "spec": storage}, "default"
    )
    volume = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/x"},
        "claimRef": {
            "kind": "PersistentVolumeClaim",
            "namespace": "default",
            "name": "claim",
            "uid": claim["metadata"]["uid"],
        },
    }
    await client.create(resources.PERSISTENT_VOLUMES, {"metadata": {"name": "v"}, "spec": volume})
    thing = {"metadata": {"name": "t", "ownerReferences": owned_by(pod, controller=False)}, "spec": {"n": 3}}
    await client.apply(
        THINGS,
        {"apiVersion": "example.com/v1", "kind": "Thing", **thing},
        "default",
        field_manager="somebody",
    )
    await client.patch(THINGS, "t", {"status": {"m": "x"}}, "default", subresource="status")
    tricky = {"metadata": {"name": "c"}, "data": {"yes": "no", "t": "0o7", "n": "2026-01-01"}}
    await client.create(resources.CONFIG_MAPS, tricky, "default")


def comparable(objects: list[Object]) -> list[Object]:
    """Without what a new cluster decides: uids (each becomes the name of its object) and times of creation."""
    text = json.dumps(objects)
    for obj in objects:
        text = text.replace(obj["metadata"]["uid"], f"uid of {obj['kind']} {obj['metadata']['name']}")
    found: list[Object] = json.loads(text)
    for obj in found:
        del obj["metadata"]["creationTimestamp"]
        if obj["kind"] == "CustomResourceDefinition":  # when it was established is the cluster's own
            del obj["status"], obj["metadata"]["managedFields"]
    return found


async def brought_back(client: Client, objects: list[Object], tmp_path: Path) -> Outcome:
    """By way of a file."""
    file = tmp_path / "objects.yaml.gz"
    files.write_objects(file, objects)
    return await Restore(client).run(files.read_objects(file))


async def test_objects_come_back_equal_but_for_uids_and_revisions(tmp_path: Path) -> None:
    async with cluster() as (old, _), cluster() as (new, _):
        await fill(old)
        saved = await saving.collect(old, ())
        outcome = await brought_back(new, saved, tmp_path)
        assert outcome.problems == []
        restored = await saving.collect(new, ())
        assert comparable(restored) == comparable(saved)
        uids = {obj["metadata"]["uid"] for obj in saved}
        assert not uids & {obj["metadata"]["uid"] for obj in restored}
        again = await brought_back(new, saved, tmp_path)
        assert again.problems == []
        assert (again.made, again.replaced) == (0, len(saved))
        assert comparable(await saving.collect(new, ())) == comparable(saved)


async def test_an_object_without_its_owner_is_not_made_and_named(tmp_path: Path) -> None:
    async with cluster() as (old, _), cluster() as (new, _):
        await fill(old)
        pods = await saving.collect(old, ["po"])
        outcome = await brought_back(new, pods, tmp_path)
        assert outcome.made == 0
        assert "Pod default/web-1-x: its owner ReplicaSet web-1 is missing" in outcome.problems
        assert (await new.list(resources.PODS)).items == []
        # in the cluster that they are from their owners are there
        for pod in pods:
            await old.patch(
                resources.PODS, pod["metadata"]["name"], {"metadata": {"finalizers": None}}, "default"
            )
            await old.delete(resources.PODS, pod["metadata"]["name"], "default", grace_period=0)
        back = await brought_back(old, pods, tmp_path)
        assert (back.made, back.problems) == (2, [])


async def test_what_the_cluster_has_besides_is_left_alone_and_what_it_has_too_is_replaced(
    tmp_path: Path,
) -> None:
    async with cluster() as (client, _):
        await client.create(
            resources.CONFIG_MAPS, {"metadata": {"name": "c"}, "data": {"k": "saved"}}, "default"
        )
        saved = await saving.collect(client, ["configmaps"])
        await client.patch(resources.CONFIG_MAPS, "c", {"data": {"k": "changed", "more": "x"}}, "default")
        await client.create(resources.CONFIG_MAPS, {"metadata": {"name": "other"}}, "default")
        outcome = await brought_back(client, saved, tmp_path)
        assert (outcome.made, outcome.replaced, outcome.problems) == (0, 1, [])
        assert (await client.get(resources.CONFIG_MAPS, "c", "default"))["data"] == {"k": "saved"}
        assert await client.get(resources.CONFIG_MAPS, "other", "default")


async def test_what_the_cluster_refuses_or_does_not_know_is_named_and_the_rest_is_made(
    tmp_path: Path,
) -> None:
    objects = [
        {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "default"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Bad Name", "namespace": "default"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "good", "namespace": "default"}},
    ]
    async with cluster() as (client, _):
        outcome = await brought_back(client, objects, tmp_path)
        assert outcome.made == 1
        unknown, refused = outcome.problems
        assert unknown == "Thing default/t: the cluster does not know Thing of example.com/v1"
        assert refused.startswith("ConfigMap default/Bad Name: ")
        assert await client.get(resources.CONFIG_MAPS, "good", "default")


async def test_objects_are_saved_as_of_one_revision_while_others_write() -> None:
    async with cluster() as (client, _):

        async def write(number: int) -> None:
            """Of each pair of objects the Secret is made first: no moment has the ConfigMap alone."""
            await client.create(resources.SECRETS, {"metadata": {"name": f"p-{number}"}}, "default")
            await client.create(resources.CONFIG_MAPS, {"metadata": {"name": f"p-{number}"}}, "default")

        async def writing() -> None:
            for number in range(10_000):
                await write(number)

        writer = asyncio.ensure_future(writing())
        for _ in range(5):
            saved = await saving.collect(client, ["configmaps", "secrets"], page_size=10)
            names: dict[str, set[str]] = {"ConfigMap": set(), "Secret": set()}
            for obj in saved:
                names[obj["kind"]].add(obj["metadata"]["name"])
            assert names["ConfigMap"] <= names["Secret"]
            assert len(names["Secret"]) - len(names["ConfigMap"]) <= 1
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def test_a_kind_that_there_is_not_is_refused_with_the_way_to_find_those_there_are() -> None:
    async with cluster() as (client, _):
        with pytest.raises(InvalidOption, match="'podz'") as caught:
            await saving.collect(client, ["deploy", "podz"])
        assert "kubectl api-resources" in (caught.value.remedy or "")


async def full(api: ApiServer) -> list[bytes]:
    return b"".join([chunk async for chunk in snapshotting.lines(api.core)]).splitlines(keepends=True)


async def test_a_full_snapshot_becomes_the_same_store_whose_revisions_go_on(tmp_path: Path) -> None:
    async with cluster() as (client, api):
        await fill(client)
        lines = await full(api)
        before = {
            (t.resource, s.name): (s.revision, s.created, s.data) for t in api.store.tables() for s in t.all()
        }
        revision = api.store.revision
    snapshot = snapshotting.read(lines)
    target = tmp_path / "store"
    store = open_store("durable", target)
    for number in range(revision + 5):
        await store.create("/pods", f"ns/{number}", lambda r: b"old")
    await store.close()

    newest = replace_store(target, snapshot.objects, snapshot.revision)

    store = open_store("durable", target)
    after = {(t.resource, s.name): (s.revision, s.created, s.data) for t in store.tables() for s in t.all()}
    assert after == before
    assert store.revision == newest > revision + 5
    with pytest.raises(Compacted):
        store.kept(revision + 5)
    await store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


async def test_a_damaged_store_can_be_replaced(tmp_path: Path) -> None:
    async with cluster() as (_, api):
        snapshot = snapshotting.read(await full(api))
    target = tmp_path / "store"
    await open_store("durable", target).close()
    (target / DATABASE).write_bytes(b"nonsense" * 1000)
    replace_store(target, snapshot.objects, snapshot.revision)
    store = open_store("durable", target)
    assert sum(len(table) for table in store.tables()) == len(snapshot.objects)
    await store.close()


async def test_a_full_snapshot_that_is_cut_or_changed_is_refused() -> None:
    async with cluster() as (_, api):
        lines = await full(api)
    with pytest.raises(SnapshotUnreadable, match="breaks off"):
        snapshotting.read(lines[:-1])
    with pytest.raises(SnapshotUnreadable, match="objects, where"):
        snapshotting.read(lines[:5] + lines[6:])
    with pytest.raises(SnapshotUnreadable, match="line 3"):
        snapshotting.read([*lines[:2], lines[2][:50] + b"\n", *lines[3:]])
    with pytest.raises(SnapshotUnreadable, match=r"line 3: .* contradicts"):
        snapshotting.read([*lines[:2], lines[1], *lines[2:]])
    with pytest.raises(SnapshotUnreadable, match="'kubesim/v9'"):
        snapshotting.read([lines[0].replace(b"kubesim/v1", b"kubesim/v9"), *lines[1:]])


def test_a_file_that_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    for content, why in [
        (b"a: b\n", "document 1 is not an object"),
        (b"kind: [\n", "document 1"),
        (b"\n", "no objects"),
        (gzip.compress(b"kind: Pod")[:-9], "cannot be read"),
    ]:
        file.write_bytes(content)
        with pytest.raises(SnapshotRefused, match=why):
            files.read_objects(file)
    with pytest.raises(SnapshotRefused, match="cannot be read"):
        files.read_objects(tmp_path / "missing")


def test_a_snapshot_that_could_not_be_written_whole_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_bytes(b"old")

    def broken() -> Any:
        yield {"kind": "A"}
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        files.write_objects(file, broken())
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def kubesim(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kubesim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def do(*arguments: str) -> str:
    done = kubesim(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


def documents(path: Path) -> list[Object]:
    return comparable(files.read_objects(path))


def test_commands_save_and_restore_running_and_stopped_clusters(home: Home, tmp_path: Path) -> None:
    whole, objects = tmp_path / "whole.jsonl.gz", tmp_path / "objects.yaml"
    try:
        do("create", "cluster", "--name", "a")
        config = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mine"}}
        files.write_objects(objects, [config])
        assert "Restored 1 objects" in do("snapshot", "restore", "--name", "a", "--path", str(objects))
        do("snapshot", "save", "--name", "a", "--path", str(whole))
        do("snapshot", "save", "--name", "a", "--path", str(objects), "--format", "k8s", "--filter", "ns,sa")
        do("stop", "cluster", "--name", "a")
        stopped = tmp_path / "stopped.yaml"
        do("snapshot", "save", "--name", "a", "--path", str(stopped), "--format", "k8s", "--filter", "ns,sa")
        assert "mine" in {obj["metadata"]["name"] for obj in documents(objects)}
        assert documents(stopped) == documents(objects)
        refused = kubesim("snapshot", "restore", "--name", "a", "--path", str(objects))
        assert refused.returncode == ExitCode.CONFLICT
        assert "kubesim start cluster --name a" in refused.stderr

        do("create", "cluster", "--name", "b", "--snapshot", str(objects), "--store", "memory")
        memory = tmp_path / "memory.yaml"
        do("snapshot", "export", "--context", "kubesim-b", "--path", str(memory), "--filter", "namespaces")
        kept = [obj for obj in documents(objects) if obj["kind"] == "Namespace"]
        assert documents(memory) == kept
        refused = kubesim("snapshot", "restore", "--name", "b", "--path", str(whole))
        assert refused.returncode == ExitCode.INVALID
        assert "--format k8s" in refused.stderr

        do("delete", "cluster", "--name", "b")
        assert "Restored" in do("create", "cluster", "--name", "b", "--snapshot", str(whole))
        again = tmp_path / "again.yaml"
        do("snapshot", "save", "--name", "b", "--path", str(again), "--format", "k8s", "--filter", "ns,sa")
        assert files.read_objects(again) == files.read_objects(objects)
    finally:
        kubesim("delete", "cluster", "--all", "--force")


def test_the_form_of_etcd_is_refused_by_name(tmp_path: Path) -> None:
    refused = kubesim("snapshot", "save", "--path", str(tmp_path / "x"), "--format", "etcd")
    assert refused.returncode == ExitCode.USAGE
    assert "kubesim has no etcd" in refused.stderr
