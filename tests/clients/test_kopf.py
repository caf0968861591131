"""kopf: an operator in a process of its own, started as its users start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubesim.testing import BlockingClient
from kubewire.resources import CONFIG_MAPS, EVENTS

OPERATOR = Path(__file__).with_name("operator_of_kopf.py")
FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"


@pytest.fixture
def operator(kubesim_kubeconfig: Path, kubesim_namespace: str, tmp_path: Path) -> Iterator[Path]:
    """What the operator prints."""
    printed = tmp_path / "operator.log"
    command = [sys.executable, "-m", "kopf", "run", "--namespace", kubesim_namespace, "--standalone"]
    with printed.open("wb") as log:
        process = subprocess.Popen(
            [*command, str(OPERATOR)],
            env={**os.environ, "KUBECONFIG": str(kubesim_kubeconfig)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield printed
    finally:
        process.terminate()
        try:
            assert process.wait(20) == 0, printed.read_text()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
            raise


def test_an_operator_mirrors_updates_and_lets_go(
    kubesim_client: BlockingClient, kubesim_namespace: str, operator: Path
) -> None:
    source = {"metadata": {"name": "a", "labels": {"mirror": "yes"}}, "data": {"k": "1"}}
    kubesim_client.create(CONFIG_MAPS, source, kubesim_namespace)

    def twin_has(value: str) -> None:
        kubesim_client.wait_for(
            CONFIG_MAPS,
            kubesim_namespace,
            lambda one: one["metadata"]["name"] == "a-twin" and one["data"]["k"] == value,
            timeout=30,
        )

    twin_has("1")
    handled = kubesim_client.get(CONFIG_MAPS, "a", kubesim_namespace)
    assert handled["metadata"]["finalizers"] == [FINALIZER]
    kubesim_client.patch(CONFIG_MAPS, "a", {"data": {"k": "2"}}, kubesim_namespace)
    twin_has("2")
    kubesim_client.wait_for(EVENTS, kubesim_namespace, lambda event: event["reason"] == "Mirrored")
    kubesim_client.delete(CONFIG_MAPS, "a", kubesim_namespace)
    kubesim_client.wait_gone(CONFIG_MAPS, "a", kubesim_namespace, timeout=20)
    kubesim_client.wait_gone(CONFIG_MAPS, "a-twin", kubesim_namespace, timeout=20)
    assert "forgotten" in operator.read_text()
