"""Where the tests of the Kubernetes path run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from e2e.house import House
from kubewire.client import Client
from kubewire.opening import open_client


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the tests run: a home of their own, and the context."""

    house: House
    context: str
    paths: tuple[Path, ...]
    namespace: str

    @property
    def infra(self) -> str:
        """Its name for `whim`."""
        return f"k8s/{self.context}"

    def client(self) -> Client:
        """A way to it beside whim's."""
        return open_client(self.context, paths=self.paths)

    def launch(self, cluster: str, *argv: str) -> str:
        """Launch on it, with time for images to be pulled and machines to come."""
        return self.house.whim(
            "launch", "-c", cluster, "-y", "--cpus", "0.1", "--infra", self.infra, *argv, timeout=600
        )
