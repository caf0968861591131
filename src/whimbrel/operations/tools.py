"""What operations work with, given to them when the server starts, so that tests can give something else.

`Places` is the whole of what operations know about where clusters can be; `whimbrel.server.services` makes
the real one from `whimbrel.infra`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from whimbrel.infra.base import Infra, NodeShape, Progress
from whimbrel.infra.guard import GuardView
from whimbrel.jobs.logstore import LogStore
from whimbrel.jobs.vault import Vault
from whimbrel.model.config import Config
from whimbrel.operations.blobs import BlobStore
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.engine import Store

Paths = Sequence[str]
"""Kubeconfig files that the client sees."""


class Local(Protocol):
    """The embedded Kubernetes on this machine."""

    @property
    def name(self) -> str:
        """Its infra: "k8s/kubesim-local"."""

    async def running(self) -> bool:
        """Whether it answers now."""

    async def up(self, progress: Progress) -> None:
        """Make it run. Idempotent."""

    async def down(self, progress: Progress) -> None:
        """Remove it with everything in it. Idempotent."""


class Places(Protocol):
    """Where clusters can be."""

    async def get(self, infra: str, kubeconfig: Paths) -> Infra:
        """The place of that name, after a bounded look into the kubeconfig.

        Raises:
            ContextNotFound: there is none, with the names that there are.
        """

    async def candidates(self, wanted: str | None, kubeconfig: Paths, config: Config) -> Sequence[str]:
        """The places that `--infra` means, best first; for None the usual ones, empty when nothing is
        configured.

        Raises:
            ContextNotFound: what is wanted is not there, with the names that there are.
        """

    async def known(self, kubeconfig: Paths, config: Config) -> Sequence[str]:
        """Every place that is configured."""

    def views(self) -> Mapping[str, GuardView]:
        """How the guards of the places stand that were asked for since the start, by name. Makes no call."""

    def view(self, infra: str, kubeconfig: Paths) -> GuardView | None:
        """The same of one place; None when it was not asked for yet."""

    def warnings(self, kubeconfig: Paths) -> Sequence[dict[str, Any]]:
        """What is wrong with files that can be used all the same, as errors for the wire; as they were last read."""

    async def aclose(self) -> None:
        """Close connections."""

    def local(self, kubeconfig: Paths) -> Local:
        """The embedded Kubernetes."""

    def default_shape(self, infra: str) -> NodeShape:
        """What a node gets there when the task does not say."""


class Jobs(Protocol):
    """Whoever keeps the jobs of clusters."""

    def wake(self, uid: str) -> None:
        """Something about this cluster's jobs was written."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Everything that an operation needs beside its `Run`."""

    store: Store
    places: Places
    blobs: BlobStore
    vault: Vault
    logs: LogStore
    jobs: Jobs

    async def infra_of(self, cluster: ClusterRow) -> Infra:
        """The place of a cluster."""
        return await self.places.get(cluster.infra, cluster.kubeconfig)
