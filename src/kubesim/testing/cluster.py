"""What a test needs of a cluster, wherever that is: a kubeconfig, a client, namespaces that come and go, nodes."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from kubesim.testing.blocking import BlockingClient
from kubesim.testing.loopthread import LoopThread
from kubewire import kubeconfig
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.http import HttpTransport
from kubewire.requests import JsonObject
from kubewire.resources import NAMESPACES, NODES, SERVICE_ACCOUNTS

_ACCOUNT = 30.0  # seconds for the controllers to make a namespace usable
_CLOSE = 10.0
_LONGEST_HINT = 40
_READY = {
    "type": "Ready",
    "status": "True",
    "reason": "KubeletReady",
    "message": "made by a test: nothing runs here",
}
CAPACITY: Mapping[str, str] = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "110"}


class Cluster:
    """One context of one kubeconfig file."""

    def __init__(self, path: Path, context: str, loop: LoopThread) -> None:
        self.kubeconfig = path
        """A file that holds nothing but this cluster, for kubectl, helm and every client."""
        self.context = context
        self.loop = loop
        self._connection = kubeconfig.load([path]).connection(context)
        self.server = self._connection.server
        self.client = BlockingClient(loop, self.connect())
        """kubewire, without async."""

    def connect(self) -> Client:
        """kubewire for the event loop of the test: `async with cluster.connect() as client`."""
        return Client(HttpTransport(self._connection))

    def close(self) -> None:
        """Leave nothing behind."""
        self.loop.run(self.client.client.aclose(), _CLOSE)

    @contextlib.contextmanager
    def namespace(self, hint: str = "test") -> Iterator[str]:
        """A fresh namespace in which pods can be created. Its removal is asked for, not waited for."""
        name = f"{_label(hint)}-{secrets.token_hex(3)}"
        self.client.create(NAMESPACES, {"metadata": {"name": name, "labels": {"kubesim.dev/test": "true"}}})
        try:
            self.client.wait_for(
                SERVICE_ACCOUNTS, name, lambda one: one["metadata"]["name"] == "default", timeout=_ACCOUNT
            )
            yield name
        finally:
            with contextlib.suppress(NotFound):
                self.client.delete(NAMESPACES, name)

    @contextlib.contextmanager
    def nodes(
        self, count: int, *, labels: Mapping[str, str] | None = None, **capacity: str
    ) -> Iterator[list[str]]:
        """Nodes that are Ready and on which nothing runs: pods are scheduled there and stay Pending. `capacity` is
        that of each: `cpu="2"`, or `**{"nvidia.com/gpu": "8"}`. They are removed afterwards."""
        run = secrets.token_hex(2)
        names = [f"node-{run}-{number}" for number in range(count)]
        try:
            for name in names:
                self._add_node(name, dict(labels or {}), {**CAPACITY, **capacity})
            yield names
        finally:
            for name in names:
                with contextlib.suppress(NotFound):
                    self.client.delete(NODES, name)

    def _add_node(self, name: str, labels: dict[str, str], capacity: dict[str, str]) -> None:
        node: JsonObject = {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
            "status": {"capacity": capacity, "allocatable": capacity, "conditions": [_READY]},
        }
        self.client.create(NODES, node)
        # a node is born with the taint not-ready, which whoever knows that it is ready takes away
        self.client.patch(NODES, name, {"spec": {"taints": None}})


def _label(hint: str) -> str:
    """The hint as a part of a DNS label."""
    return re.sub(r"[^a-z0-9]+", "-", hint.lower())[:_LONGEST_HINT].strip("-") or "test"
