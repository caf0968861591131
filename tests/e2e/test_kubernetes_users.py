"""Kubernetes as its users run it: the least rights of the documentation, ports, volumes, settings, on an API server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.house import House

DOCS = Path(__file__).parents[2] / "docs" / "kubernetes.md"
pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl on this machine")


def role_of_the_docs() -> dict[str, Any]:
    (text,) = re.findall(r"```yaml\n(apiVersion: rbac[^`]*?kind: Role\n.*?)```", DOCS.read_text(), re.DOTALL)
    role: dict[str, Any] = yaml.safe_load(text)
    return role


def kubectl(house: House, *argv: str, stdin: str | None = None) -> str:
    if stdin is not None:
        path = house.root / "object.json"
        path.write_text(stdin)
        argv = (*argv, "-f", str(path))
    done = house.run("kubectl", "--context", "kubesim-local", *argv)
    assert done.returncode == 0, done.stderr
    return done.stdout


def limited(house: House, role: dict[str, Any], name: str) -> None:
    """A context of that name, whose user has this role in a namespace of the same name, and nothing else."""
    kubectl(house, "create", "namespace", name)
    kubectl(house, "-n", name, "create", "serviceaccount", "user")
    kubectl(house, "apply", stdin=json.dumps({**role, "metadata": {"name": "whimbrel", "namespace": name}}))
    kubectl(
        house, "-n", name, "create", "rolebinding", "w", "--role=whimbrel", f"--serviceaccount={name}:user"
    )
    token = kubectl(house, "-n", name, "create", "token", "user").strip()
    path = Path(house.env["KUBECONFIG"])
    config = yaml.safe_load(path.read_text())
    cluster = next(one["context"]["cluster"] for one in config["contexts"] if one["name"] == "kubesim-local")
    config["users"].append({"name": name, "user": {"token": token}})
    config["contexts"].append(
        {"name": name, "context": {"cluster": cluster, "user": name, "namespace": name}}
    )
    path.write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def home() -> Iterator[House]:
    """A home with a local Kubernetes, and the context `least`."""
    house = House.build()
    try:
        house.whim("local", "up")
        limited(house, role_of_the_docs(), "least")
        yield house
    finally:
        house.close()


def test_everything_works_under_the_role_of_the_documentation(home: House) -> None:
    home.whim("volumes", "apply", "-n", "data", "--infra", "k8s/least", "--size", "1", "-y")
    task = home.root / "task.yaml"
    task.write_text(
        "num_nodes: 2\nresources: {infra: k8s/least, cpus: 0.1, ports: [8080], labels: {team: a}}\n"
        "volumes: {/mnt/data: data}\n"
        "config: {kubernetes: {ports: nodeport, pod_config: {spec: {containers: [{env: [{name: X, value: y}]}]}}}}\n"
        "run: 'echo $X; echo kept > $KUBESIM_ROOT/mnt/data/kept'\n"
    )
    home.whim("launch", "-y", "-c", "c1", str(task))
    assert "y" in home.whim("logs", "c1")
    assert home.json("status", "c1", "-r")["errors"] == []
    (end,) = home.json("endpoints", "c1")["endpoints"]
    assert re.fullmatch(r"[0-9.]+:3[0-9]{4}", end["url"]), end
    assert home.whim("status", "--endpoint", "8080", "c1").strip() == end["url"]
    pods = json.loads(kubectl(home, "-n", "least", "get", "pods", "-o", "json"))["items"]
    assert {pod["metadata"]["labels"]["team"] for pod in pods} == {"a"}

    refused = home.fails("volumes", "delete", "data", "-y", code=5)
    assert "The volume data is in use by the cluster c1." in refused
    assert home.json("volumes", "ls", "-r")["volumes"][0]["phase"] == "Bound"
    home.whim("down", "c1", "-y")
    home.whim("launch", "-y", "-c", "c2", str(task.rename(home.root / "again.yaml")), "--num-nodes", "1")
    home.whim("exec", "c2", "test -e $KUBESIM_ROOT/mnt/data/kept")
    home.whim("down", "c2", "-y")
    home.whim("volumes", "delete", "data", "-y")
    assert home.json("volumes", "ls")["volumes"] == []
    left = kubectl(home, "-n", "least", "get", "pods,services,pvc", "-o", "name").split()
    assert left == []


@pytest.mark.parametrize(
    ("resource", "words", "code"),
    [("pods", 'cannot create resource "pods"', 6), ("pods/exec", 'cannot create resource "pods/exec"', 100)],
)
def test_a_missing_right_is_named(home: House, resource: str, words: str, code: int) -> None:
    role = role_of_the_docs()
    name = f"less-{resource.replace('/', '-')}"
    for rule in role["rules"]:
        if rule["resources"] == [resource]:
            rule["verbs"] = [verb for verb in rule["verbs"] if verb == "list"] or ["watch"]
    limited(home, role, name)
    said = home.run("whim", "launch", "-y", "-c", name, "--infra", f"k8s/{name}", "--cpus", "0.1", "true")
    assert said.returncode == code
    assert f"k8s/{name} refused" in said.stderr + said.stdout
    assert words in said.stderr + said.stdout
    home.whim("down", "--purge", name, "-y")


def test_a_broken_configuration_is_refused_by_what_needs_it_and_by_nothing_else(home: House) -> None:
    config = Path(home.env["WHIMBREL_HOME"]) / "config.yaml"
    config.write_text("kubernetes:\n  alowed_contexts: [least]\n")
    try:
        said = home.fails("launch", "-y", "-c", "never", "true", code=3)
        assert f"{config}:2:3: unknown field 'alowed_contexts'; did you mean 'allowed_contexts'?" in said
        home.whim("status")
        config.write_text("kubernetes:\n  allowed_contexts: [least]\n")
        said = home.fails("launch", "-y", "-c", "never", "--infra", "k8s/less-pods", "true", code=6)
        assert "is not among the contexts that" in said
        assert [row["infra"] for row in home.json("check")["results"]] == ["k8s/least"]
    finally:
        config.unlink()


def test_a_silent_context_is_passed_over_when_another_one_has_room(home: House) -> None:
    config = Path(home.env["WHIMBREL_HOME"]) / "config.yaml"
    config.write_text("kubernetes:\n  allowed_contexts: [gone, least]\n")
    try:
        plan = home.json("launch", "--dryrun", "--infra", "k8s", "--cpus", "0.1", "true")
        assert [(one["infra"], one["chosen"]) for one in plan["offers"]] == [
            ("k8s/gone", False),
            ("k8s/least", True),
        ]
        assert "gone" in plan["offers"][0]["reason"]
        home.whim("launch", "-y", "-c", "over", "--infra", "k8s", "--cpus", "0.1", "true")
        home.whim("down", "over", "-y")
    finally:
        config.unlink()
