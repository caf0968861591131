"""A KubernetesInfra on a fake API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubewire.client import Client
from kubewire.deadlines import Deadlines
from whimbrel.infra.base import ClusterSpec, NodeShape
from whimbrel.infra.kubernetes.contexts import Contexts
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.infra.kubernetes.settings import KubernetesSettings

from .fake_api import FakeApi, machine

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: fake
clusters:
- {name: c, cluster: {server: "http://127.0.0.1:1"}}
users:
- {name: u, user: {token: t}}
contexts:
- {name: fake, context: {cluster: c, user: u}}
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """A kubeconfig with the context `fake`."""
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    return path


@pytest.fixture
def api() -> FakeApi:
    """An API server with one machine."""
    fake = FakeApi()
    fake.put("nodes", "", machine("m1"))
    return fake


@pytest.fixture
async def infra(api: FakeApi, kubeconfig: Path) -> AsyncIterator[KubernetesInfra]:
    """The infra of that server."""
    settings = KubernetesSettings(
        command=["sh", "-c", "wait"], deadlines=Deadlines(probe=1, read=1, change=1, page=1)
    )
    made = KubernetesInfra(
        "fake",
        Contexts([kubeconfig]),
        settings,
        opener=lambda connection, table: Client(api, table.deadlines),
    )
    yield made
    await made.aclose()


@pytest.fixture
def spec() -> ClusterSpec:
    """Two nodes."""
    return ClusterSpec(
        name="c1", uid="0123456789abcdef", num_nodes=2, shape=NodeShape(cpus=1.5), user="Alice Müller"
    )


@pytest.fixture
def one() -> ClusterSpec:
    """One node."""
    return ClusterSpec(
        name="c1", uid="0123456789abcdef", num_nodes=1, shape=NodeShape(cpus=0.1), user="alice"
    )
