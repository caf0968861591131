"""Deletion as a user meets it, on real API servers: what will not go, a context that leads elsewhere, the way back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.house import House, eventually
from kubewire.client import Client
from kubewire.opening import open_client
from kubewire.requests import PatchType
from kubewire.resources import PODS, SERVICE_ACCOUNTS, Resource

ADMISSION = "admissionregistration.k8s.io"
RBAC = "rbac.authorization.k8s.io"
POLICIES = Resource(ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False)
BINDINGS = Resource(
    ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False
)
ROLES = Resource(RBAC, "v1", "clusterroles", "ClusterRole", False)
ROLE_BINDINGS = Resource(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False)


@pytest.fixture
def mine(fresh_house: House) -> Iterator[House]:
    """A house whose current context is a Kubernetes of its own, `k8s/kubesim-mine`, with one node."""
    done = fresh_house.run(
        "kubesim", "create", "cluster", "--name", "mine", "--process-node", "--wait", "60s"
    )
    assert done.returncode == 0, done.stderr
    try:
        yield fresh_house
    finally:
        for name in ("mine", "other"):
            fresh_house.run("kubesim", "delete", "cluster", "--name", name, "--force")


def on_mine(house: House, action: Callable[[Client], Awaitable[Any]], kubeconfig: str = "kubeconfig") -> Any:
    """Do something in the cluster, as its administrator."""

    async def run() -> Any:
        async with open_client("kubesim-mine", paths=[house.root / kubeconfig]) as client:
            return await action(client)

    return asyncio.run(run())


def pods(house: House, kubeconfig: str = "kubeconfig") -> list[str]:
    async def names(client: Client) -> list[str]:
        return sorted(pod["metadata"]["name"] for pod in (await client.list(PODS)).items)

    found: list[str] = on_mine(house, names, kubeconfig)
    return found


def launch(house: House, name: str, *more: str) -> None:
    house.whim("launch", "-y", "-d", "-c", name, "--cpus", "0.1", *more, timeout=90)


async def forbid_deletion(client: Client) -> None:
    """A policy that keeps the pods of `pol`."""
    spec = {
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["pods"]}
            ]
        },
        "matchConditions": [
            {"name": "pol", "expression": "request.name.startsWith('pol-')"},
        ],
        "validations": [{"expression": "false", "message": "pods of pol are kept for the auditors"}],
    }
    await client.create(POLICIES, {"metadata": {"name": "keep"}, "spec": spec})
    binding = {"policyName": "keep", "validationActions": ["Deny"]}
    await client.create(BINDINGS, {"metadata": {"name": "keep"}, "spec": binding})


async def token_of_a_reader(client: Client) -> str:
    """Of a service account that may look and not delete."""
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "reader"}}, "default")
    resources = ["pods", "services", "namespaces", "events"]
    rules = [{"apiGroups": [""], "resources": resources, "verbs": ["get", "list", "watch"]}]
    await client.create(ROLES, {"metadata": {"name": "reader"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": "default"}
    role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "reader"}
    await client.create(
        ROLE_BINDINGS, {"metadata": {"name": "reader"}, "roleRef": role, "subjects": [subject]}
    )
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    made = await client.create(SERVICE_ACCOUNTS, request, "default", name="reader", subresource="token")
    return str(made["status"]["token"])


async def hold(client: Client) -> None:
    """A finalizer that nobody removes."""
    for pod in (await client.list(PODS, "default", label_selector="whimbrel.dev/cluster=fin")).items:
        held = {"metadata": {"finalizers": ["example.com/hold"]}}
        await client.patch(PODS, pod["metadata"]["name"], held, "default", type=PatchType.MERGE)


async def let_go(client: Client) -> None:
    """Mend all of it."""
    await client.delete(BINDINGS, "keep")
    for pod in (await client.list(PODS, "default", label_selector="whimbrel.dev/cluster=fin")).items:
        free = {"metadata": {"finalizers": None}}
        await client.patch(PODS, pod["metadata"]["name"], free, "default", type=PatchType.MERGE)


def test_what_will_not_go_is_listed_with_why_and_a_purge_leaves_a_tombstone_to_reap(mine: House) -> None:
    """A finalizer, an admission policy and RBAC, beside a cluster that goes: four outcomes of one command."""
    house, path = mine, mine.root / "kubeconfig"
    config = yaml.safe_load(path.read_text())
    (context,) = config["contexts"]
    user = next(user for user in config["users"] if user["name"] == context["context"]["user"])
    second = {"name": "limited", "context": {**context["context"], "user": "limited"}}
    config["contexts"].append(second)
    config["users"].append({"name": "limited", "user": user["user"]})
    path.write_text(yaml.safe_dump(config))
    for name in ("fin", "pol", "plain"):
        launch(house, name)
    launch(house, "rbac", "--infra", "k8s/limited")
    on_mine(house, hold)
    on_mine(house, forbid_deletion)
    config["users"][-1]["user"] = {"token": on_mine(house, token_of_a_reader)}
    path.write_text(yaml.safe_dump(config))

    done = house.run("whim", "down", "-y", "fin", "pl*", "pol", "rbac")
    assert done.returncode == 8, done.stderr
    assert done.stdout == "plain: removed.\n"
    assert "waits for the finalizers example.com/hold" in done.stderr
    assert "pods of pol are kept for the auditors" in done.stderr
    assert 'cannot delete resource "pods"' in done.stderr
    assert "1 removed, 3 kept." in done.stderr
    assert [cluster["name"] for cluster in house.json("status")["clusters"]] == ["fin", "pol", "rbac"]

    done = house.run("whim", "down", "-y", "-a", "--purge")
    assert done.returncode == 0, done.stderr
    assert "3 forgotten." in done.stderr
    assert done.stderr.count("may still cost money") == 3
    stones = house.json("status", "--tombstones")["tombstones"]
    assert sorted(stone["name"] for stone in stones) == ["fin", "pol", "rbac"]
    assert all(stone["left"][0]["labels"]["whimbrel.dev/cluster-uid"] == stone["uid"] for stone in stones)
    assert "whim reap" in house.run("whim", "status", "--tombstones").stderr
    assert "3 purged clusters may have left something there: whim reap k8s/kubesim-mine" in (
        house.run("whim", "check").stderr
    )

    still = house.run("whim", "reap", "-y", "k8s/kubesim-mine")
    assert still.returncode == 8, still.stdout + still.stderr
    on_mine(house, let_go)
    assert house.run("whim", "reap").returncode == 2, "nobody is there to be asked"
    mended = house.run("whim", "reap", "-y", "k8s/kubesim-mine")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert pods(house) == []
    assert house.json("status", "--tombstones")["tombstones"] == []


def printed(house: House) -> str:
    """What the newest job of c1 has printed so far."""
    return house.run("whim", "logs", "c1", "--no-follow").stdout


def requests(house: House, cluster: str) -> list[str]:
    """What the components outside of a cluster asked its API server: verb and path, from its audit log."""
    log = house.root / "k" / "clusters" / cluster / "requests.log"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        f"{line['verb']} {line['requestURI'].partition('?')[0]}"
        for line in lines
        if line.get("user", {}).get("username") == "kubernetes-admin"
    ]


def swap(house: House, kubeconfig: str) -> None:
    """Let the context `kubesim-mine` lead where another file says."""
    (house.root / "kubeconfig").write_text((house.root / kubeconfig).read_text())


def test_a_context_that_leads_elsewhere_touches_nothing_there_and_the_way_back_works(mine: House) -> None:
    """Every operation refuses, also where a copy of the pod is; a purge forgets; the old cluster is reaped later."""
    house = mine
    launch(house, "c1", "--infra", "k8s/kubesim-mine", "--env", "WHO=me", "echo began as $WHO; sleep 600")
    eventually(lambda: printed(house) == "began as me\n", "the job runs")
    swap_back = house.root / "mine"
    swap_back.write_text((house.root / "kubeconfig").read_text())
    other = house.root / "other"
    made = house.run(
        "kubesim", "create", "cluster", "--name", "other", "--audit", "--kubeconfig", str(other), "--wait", "60s"
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    config = yaml.safe_load(other.read_text())
    config["contexts"][0]["name"] = config["current-context"] = "kubesim-mine"
    other.write_text(yaml.safe_dump(config))
    on_mine(house, lambda client: _copy_into(client, other))
    copies = pods(house, "other")
    swap(house, "other")
    before = len(requests(house, "other"))

    work = house.root / "file"
    work.write_text("x")
    for command in (
        ("exec", "c1", "true"),
        ("cp", str(work), "c1:/tmp/x"),
        ("launch", "-y", "-c", "c1", "--cpus", "0.1", "true"),
        ("down", "-y", "c1"),
    ):
        errors = house.fails(*command, code=6)
        assert "another Kubernetes cluster" in errors, command
        assert "nothing was touched" in errors, command
    assert "another Kubernetes cluster" in house.fails("status", "-r", code=6)
    house.whim("cancel", "-y", "c1", "-a")
    assert printed(house) == "began as me\n"
    began = time.monotonic()
    done = house.run("whim", "down", "-y", "--purge", "c1")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 5
    assert "may still cost money" in done.stderr
    assert set(requests(house, "other")[before:]) == {"get /api/v1/namespaces/kube-system"}
    assert pods(house, "other") == copies

    assert "another Kubernetes cluster" in house.fails("reap", "-y", code=6)
    swap(house, "mine")
    assert len(pods(house)) == 1
    assert "1 purged cluster may have left something there" in house.run("whim", "check").stderr
    assert "removed from k8s/kubesim-mine" in house.whim("reap", "-y")
    assert pods(house) == []
    told = house.whim("events", "c1")
    for words in ("launch: succeeded", "record kept", "forgotten by a purge", "leftovers removed"):
        assert words in told
    again = house.run("whim", "launch", "-y", "-d", "--from-history", "c1")
    assert again.returncode == 0, again.stderr
    eventually(lambda: printed(house) == "began as me\n", "the job runs again")
    house.whim("down", "-y", "c1")


async def _copy_into(client: Client, other: Path) -> None:
    """Copy the pod of c1 with its name and labels, as a restored backup would."""
    (pod,) = (await client.list(PODS, "default", label_selector="whimbrel.dev/cluster=c1")).items
    metadata = {name: pod["metadata"][name] for name in ("name", "namespace", "labels")}
    spec = {"containers": [{"name": "node", "image": "busybox", "command": ["sleep", "600"]}]}
    async with open_client("kubesim-mine", paths=[other]) as there:
        await there.create(PODS, {"metadata": metadata, "spec": spec}, "default")


def test_a_launch_is_repeated_from_history_with_its_files_and_without_its_secrets(house: House) -> None:
    """Workdir from what the server kept; secrets are asked for by name; stop is refused with what there is instead."""
    work = house.root / "history"
    work.mkdir()
    (work / "data.txt").write_text("from the workdir\n")
    command = (
        "launch",
        "-y",
        "-c",
        "hist",
        "--workdir",
        str(work),
        "--env",
        "GREETING=hello",
        "--secret",
        "KEY=s3cret",
    )
    first = house.whim(*command, 'cat data.txt; echo "$GREETING ${#KEY}"')
    assert first == "from the workdir\nhello 6\n"
    errors = house.fails("stop", "-y", "hist", code=3)
    assert "a pod ends with its disk" in errors
    assert "whim down hist" in errors
    house.whim("down", "-y", "hist")
    assert "hist: was already gone" in house.whim("down", "-y", "hist")
    (work / "data.txt").unlink()
    work.rmdir()
    errors = house.fails("launch", "-y", "--from-history", "hist", code=3)
    assert "KEY must be given again" in errors
    again = ("launch", "-y", "--from-history", "hist", "--secret", "KEY=12345678", "--env", "GREETING=again")
    assert house.whim(*again) == "from the workdir\nagain 8\n"
    (digest,) = (path for path in (house.root / "w" / "blobs").rglob("*") if _is(path, b"from the workdir\n"))
    digest.unlink()
    errors = house.fails(*again, code=3)
    assert "does not keep its workdir" in errors
    assert "--workdir DIR" in errors
    work.mkdir()
    (work / "data.txt").write_text("another day\n")
    assert house.whim(*again, "--workdir", str(work)).startswith("another day\n")
    house.whim("down", "-y", "hist")
    assert "There is no history" in house.fails("launch", "-y", "--from-history", "never-was", code=4)


def _is(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
