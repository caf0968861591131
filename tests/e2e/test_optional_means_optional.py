"""No command needs a module that is not among whimbrel's own requirements, and none ends in the middle for one that is
missing or broken: clouds' SDKs, other Kubernetes clients, database drivers, telemetry, a faster event loop.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.house import House

OPTIONAL = (
    "asyncpg", "asyncssh", "azure", "boto3", "botocore", "google", "grpc", "kr8s", "kubernetes", "kubernetes_asyncio",
    "lightkube", "libcloud", "oci", "paramiko", "prometheus_client", "psycopg", "ray", "uvloop",
)  # fmt: skip
HOOK = '''
import importlib.abc, importlib.machinery, sys

def asked(name):
    if name.partition(".")[0] not in {names!r}:
        return False
    with open({log!r}, "a") as file:
        file.write(name + "\\n")
    return True

class Missing(importlib.machinery.PathFinder):
    """Instead of the finder of files."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if asked(name) else super().find_spec(name, path, target)

class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Before every other finder."""

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if asked(name) else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        raise RuntimeError(f"{{module.__name__}} is installed and broken")

if {mode!r} == "missing":
    sys.meta_path = [Missing if one is importlib.machinery.PathFinder else one for one in sys.meta_path]
else:
    sys.meta_path.insert(0, Broken())
'''


EVERY_HELP = """
import click
from whimbrel.cli.main import cli

def walk(command, context):
    assert command.get_help(context)
    print(context.command_path)
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        below = command.get_command(context, name)
        walk(below, click.Context(below, info_name=name, parent=context))

walk(cli, click.Context(cli, info_name="whim"))
"""


@pytest.fixture(params=["missing", "broken"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    """A home in which every Python process has these modules missing, or broken."""
    house = House.build()
    hook = house.root / "hook"
    hook.mkdir()
    text = HOOK.format(names=set(OPTIONAL), log=str(house.root / "tried"), mode=request.param)
    (hook / "sitecustomize.py").write_text(text)
    house.env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH", "")]))
    try:
        yield house
    finally:
        house.close()


def tried(house: House) -> set[str]:
    """Which of the modules anybody asked for."""
    path = house.root / "tried"
    return set(path.read_text().split()) if path.exists() else set()


def test_every_command_works_without_any_of_them(house: House) -> None:
    done = house.run(sys.executable, "-c", EVERY_HELP)
    assert done.returncode == 0, done.stderr
    assert "gpus list" in done.stdout
    assert tried(house) == set(), "not one of them on the way to a help"
    assert "H100" in house.whim("gpus", "list")
    assert tried(house) == set(), "nor for a list of accelerators"
    assert "No clusters" in house.whim("status")
    assert json.loads(house.whim("check", "--json"))["results"] == []
    assert "k8s/kubesim-local" in house.whim("launch", "--dryrun", "--cpus", "0.1", "echo hi")
    house.whim("api", "info")
    assert tried(house) <= {"uvloop"}, "the server looks for a faster loop and for nothing else"
    (house.root / "kubeconfig").write_text("{}")
    assert "H100" in house.whim("gpus", "list")
    assert "No Kubernetes context" in house.whim("check")


def test_a_credential_plugin_that_is_not_installed_is_a_line_with_what_to_install(house: House) -> None:
    """The one thing that a context may need and that is not ours."""
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "no-such-plugin",
        "interactiveMode": "Never",
        "installHint": "curl -fsSL https://example.com/plugin | sh",
    }
    (house.root / "kubeconfig").write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"exec": plugin}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    listed = house.run("whim", "gpus", "list")
    assert listed.returncode == 0
    assert "H100" in listed.stdout
    assert "no-such-plugin" in listed.stderr
    assert "https://example.com/plugin" in listed.stderr
    said = house.fails("check", code=6)
    assert "no-such-plugin" in said
    assert "https://example.com/plugin" in said
    assert "no-such-plugin" in house.fails("launch", "--dryrun", "--infra", "k8s/x", "echo hi", code=9)


def test_the_list_names_nothing_that_whimbrel_requires() -> None:
    """Else the tests above would prove nothing."""
    import tomllib

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    required = {re.split(r"[>=<;\[ ]", line)[0] for line in tomllib.loads(text)["project"]["dependencies"]}
    assert required & set(OPTIONAL) == {"uvloop"}, "which is required only where it can be had"
