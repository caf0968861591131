"""Every code of the registry ends some command here; what each means to a script is proven, not promised."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from e2e.house import House
from kubewire.opening import open_client
from kubewire.resources import PODS
from whimbrel.model.exitcodes import ExitCode


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_documented_code_has_a_test_that_ends_with_it(code: ExitCode) -> None:
    """In one of the files beside this one."""
    text = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert re.search(rf"code={int(code)}\b|returncode == {int(code)}\b", text) or code is ExitCode.OK


def test_1_what_could_not_be_printed_did_not_happen(house: House) -> None:
    """A full disk behind the redirection."""
    done = house.run("bash", "-c", "whim status --json > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "Error: The output could not be written: No space left on device.\n"


def test_8_what_is_kept_by_somebody_else_is_named_and_the_record_stays(house: House) -> None:
    """A finalizer holds a pod; once it is gone, the same command finishes."""
    house.whim("launch", "-c", "held", "-y", "true")

    async def finalizers(value: list[str] | None) -> None:
        async with open_client("kubesim-local", paths=[house.root / "kubeconfig"]) as client:
            pods = (await client.list(PODS, "default", label_selector="whimbrel.dev/cluster=held")).items
            for pod in pods:
                body = {"metadata": {"finalizers": value}}
                await client.patch(PODS, pod["metadata"]["name"], body, "default")

    asyncio.run(finalizers(["example.org/keep"]))
    errors = house.fails("down", "-y", "held", code=8)
    assert "example.org/keep" in errors
    assert "held" in [cluster["name"] for cluster in house.json("status")["clusters"]]
    asyncio.run(finalizers(None))
    house.whim("down", "-y", "held")


def test_9_a_credential_plugin_that_is_not_installed_is_named_with_its_install_hint(
    fresh_house: House,
) -> None:
    """The kubeconfig says how to get it."""
    (fresh_house.root / "kubeconfig").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: cloud\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "contexts: [{name: cloud, context: {cluster: c, user: u}}]\n"
        "users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin,\n"
        "  interactiveMode: Never, installHint: 'pip install the-plugin'}}}]\n"
    )
    errors = fresh_house.fails("launch", "-c", "c1", "-y", "true", code=9)
    assert "no-such-plugin" in errors
    assert "pip install the-plugin" in errors


def test_10_a_server_that_cannot_start_says_why_and_nothing_of_the_last_one(fresh_house: House) -> None:
    """Its database is none."""
    fresh_house.fails("api", "info", code=10)
    fresh_house.whim("status")
    fresh_house.whim("api", "stop")
    (fresh_house.root / "w" / "state.db").write_bytes(b"not a database" * 1000)
    errors = fresh_house.fails("status", code=10)
    assert "state.db" in errors
    assert "draining" not in errors, "that was the server before"


def test_141_a_reader_that_leaves_is_not_an_error_of_ours(house: House) -> None:
    """As shells expect of every program."""
    done = house.run("bash", "-c", "set -o pipefail; whim status --json | true")
    assert done.returncode == 141
    assert done.stderr == ""
