"""Clients of others, unmodified, against a whole cluster whose node is this machine; one cluster per test process."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubesim.cluster.pki import PkiFiles
from kubesim.testing import BlockingClient, EmbeddedCluster, Options
from kubewire.resources import PODS

HERE = Path(__file__).parent
SERVER = 'echo started; echo hello > index.html; exec python3 -m http.server 8080 --bind "$POD_IP"'


@pytest.fixture(scope="session")
def kubesim_cluster(_kubesim_pki: PkiFiles) -> Iterator[EmbeddedCluster]:
    """In place of the plugin's, which has no node unless it is asked for."""
    with EmbeddedCluster(_kubesim_pki, Options(process_node=True)) as cluster:
        yield cluster


def web_server(name: str) -> dict[str, Any]:
    """A pod that says `started` and then serves one page on its port 8080."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": "any",
                    "command": ["sh", "-c", SERVER],
                    "env": [
                        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        {"name": "PYTHONUNBUFFERED", "value": "1"},
                    ],
                    "ports": [{"containerPort": 8080}],
                }
            ],
        },
    }


@pytest.fixture
def serving_pod(
    kubesim_client: BlockingClient, kubesim_namespace: str, wait_until: Callable[..., None]
) -> str:
    """The name of a web server that answers."""
    kubesim_client.create(PODS, web_server("web"), kubesim_namespace)

    def is_up() -> bool:
        async def printed() -> bytes:
            return b"".join([part async for part in kubesim_client.client.logs("web", kubesim_namespace)])

        return b"Serving HTTP" in kubesim_client.loop.run(printed(), 10)

    kubesim_client.wait_for(PODS, kubesim_namespace, lambda pod: pod["status"]["phase"] == "Running")
    wait_until(is_up, "the web server has bound its port")
    return "web"


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Look again and again until something is so."""

    def wait(test: Callable[[], object], what: str, deadline: float = 20.0) -> None:
        end = time.monotonic() + deadline
        while not test():
            assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
            time.sleep(0.02)

    return wait


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A Deployment of two pods that sleep, as a file."""
    path = tmp_path / "deployment.yaml"
    path.write_text(
        """
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleepers}
spec:
  replicas: 2
  selector: {matchLabels: {app: sleepers}}
  template:
    metadata: {labels: {app: sleepers}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: any, command: [sleep, "1000"]}]
"""
    )
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What other people's clients warn about, or leave for the garbage collector to close, is not our failure."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """Have the sockets that a client has left open collected here, before somebody else's test meets the warning."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
