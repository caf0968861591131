"""Clusters as fixtures, for authors of Kubernetes tools. Installed with the package, as the pytest plugin `kubesim`.

    def test_it(kubesim_namespace, kubesim_kubeconfig): ...

A run that uses no fixture pays for nothing: this module imports pytest and no other part of kubesim, which the first
fixture does. The cluster is one per session (with pytest-xdist: one per worker), in memory, in a thread of the test
process. With `--kubesim-context NAME` the same tests run against a real cluster; those that need what only an embedded
one can do are skipped and say so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from kubesim.cluster.pki import PkiFiles
    from kubesim.faults import Faults
    from kubesim.testing import BlockingClient, Cluster, ClusterClock, EmbeddedCluster

CONTEXT_VARIABLE = "KUBESIM_TEST_CONTEXT"
STORES = ("memory", "durable")


class FreshCluster(Protocol):
    """Makes an empty cluster of one's own; it ends with the test."""

    def __call__(
        self,
        *,
        store: str = "memory",
        process_node: bool = False,
        seed: int | None = None,
        start: datetime | None = None,
    ) -> EmbeddedCluster:
        """`store="durable"`, `process_node=True` (this machine runs pods as processes), `seed=1` (the same names and
        uids each time), `start=datetime(...)` (what time it is in the cluster)."""


class AddNodes(Protocol):
    """Makes nodes that are Ready and on which nothing runs; they go with the test."""

    def __call__(self, count: int, *, labels: dict[str, str] | None = None, **capacity: str) -> list[str]:
        """Their names."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the command line and of pytest's configuration file."""
    group = parser.getgroup("kubesim", "clusters of kubesim")
    group.addoption(
        "--kubesim-context",
        metavar="NAME",
        help=f"run against this context of your kubeconfig instead of an embedded cluster (or ${CONTEXT_VARIABLE})",
    )
    group.addoption("--kubesim-store", choices=STORES, help="where the session's cluster keeps its objects")
    group.addoption(
        "--kubesim-process-node",
        action="store_true",
        default=None,
        help="make this machine a node of the session's cluster, which runs pods as local processes",
    )
    parser.addini("kubesim_store", "where the session's cluster keeps its objects", default="memory")
    parser.addini("kubesim_process_node", "make this machine a node", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """A mistake in the configuration is said before anything runs."""
    _store(config)


def _context(config: pytest.Config) -> str | None:
    return config.getoption("--kubesim-context") or os.environ.get(CONTEXT_VARIABLE) or None


def _store(config: pytest.Config) -> str:
    store = str(config.getoption("--kubesim-store") or config.getini("kubesim_store"))
    if store not in STORES:
        raise pytest.UsageError(f"kubesim_store is {store!r}: choose one of {', '.join(STORES)}")
    return store


def _process_node(config: pytest.Config) -> bool:
    chosen = config.getoption("--kubesim-process-node")
    return bool(config.getini("kubesim_process_node") if chosen is None else chosen)


@pytest.fixture(scope="session")
def _kubesim_pki(tmp_path_factory: pytest.TempPathFactory) -> PkiFiles:
    """One authority for all clusters of the session."""
    from kubesim.cluster import pki

    files = pki.PkiFiles(tmp_path_factory.mktemp("kubesim") / "pki")
    pki.make(files, "test")
    return files


@pytest.fixture(scope="session")
def kubesim_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The session's cluster: `kubeconfig`, `context`, `server`, `client`, `connect()`, `namespace()`, `nodes()`; an
    embedded one also has `clock` and `faults`."""
    from kubesim import testing

    context = _context(request.config)
    cluster: Cluster
    if context is not None:
        cluster = testing.ForeignCluster(context, tmp_path_factory.mktemp("kubesim"))
    else:
        files = request.getfixturevalue("_kubesim_pki")
        cluster = testing.EmbeddedCluster(
            files, _options(store=_store(request.config), process_node=_process_node(request.config))
        )
    yield cluster
    cluster.close()


def _options(**chosen: Any) -> Any:
    from kubesim.testing import Options

    return Options(**chosen)


def _embedded(cluster: Cluster, what: str) -> EmbeddedCluster:
    """The cluster, if it is ours; a test that cannot do without is skipped."""
    from kubesim.testing import EmbeddedCluster

    if not isinstance(cluster, EmbeddedCluster):
        pytest.skip(
            f"needs {what} of an embedded cluster; this run is against the context {cluster.context!r}"
        )
    return cluster


@pytest.fixture
def kubesim_namespace(request: pytest.FixtureRequest, kubesim_cluster: Cluster) -> Iterator[str]:
    """A fresh namespace in which pods can be created. Afterwards it is deleted, which nobody waits for."""
    with kubesim_cluster.namespace(request.node.name) as name:
        yield name


@pytest.fixture
def kubesim_kubeconfig(kubesim_cluster: Cluster) -> Path:
    """A kubeconfig file that holds nothing but the session's cluster. Fixtures of a wider scope take
    `kubesim_cluster.kubeconfig`: this one is per test, so that a directory may have a `kubesim_cluster` of its own."""
    return kubesim_cluster.kubeconfig


@pytest.fixture
def kubesim_client(kubesim_cluster: Cluster) -> BlockingClient:
    """kubewire on the session's cluster, without async, with `wait_for` and `wait_gone`."""
    return kubesim_cluster.client


@pytest.fixture
def kubesim_nodes(kubesim_cluster: Cluster) -> Iterator[AddNodes]:
    """`kubesim_nodes(5, cpu="4")`: nodes that are Ready and on which nothing runs; they go with the test."""
    _embedded(kubesim_cluster, "the nodes")
    with ExitStack() as stack:

        def add(count: int, *, labels: dict[str, str] | None = None, **capacity: str) -> list[str]:
            return stack.enter_context(kubesim_cluster.nodes(count, labels=labels, **capacity))

        yield add


@pytest.fixture
def kubesim_clock(kubesim_cluster: Cluster) -> ClusterClock:
    """The clock of the session's cluster: `now()` and `advance(seconds)`. It does not go back after the test; a test
    to which the time of day matters takes a fresh cluster and its `clock`."""
    return _embedded(kubesim_cluster, "the clock").clock


@pytest.fixture
def kubesim_faults(request: pytest.FixtureRequest, kubesim_cluster: Cluster) -> Iterator[Faults]:
    """What goes wrong on the way to the session's cluster: `with kubesim_faults.inject("hang", verbs=["list"]): ...`,
    or `add`, `list`, `remove`, `clear`. All that are left are removed after the test."""
    for name in ("kubesim_namespace", "kubesim_nodes"):
        if name in request.fixturenames:
            request.getfixturevalue(name)  # made before, so that it is removed when no fault is left
    faults = _embedded(kubesim_cluster, "the faults").faults
    yield faults
    faults.clear()


@pytest.fixture
def kubesim_fresh_cluster(request: pytest.FixtureRequest) -> Iterator[FreshCluster]:
    """`kubesim_fresh_cluster()`: an empty cluster of one's own, in some twenty milliseconds; it ends with the test."""
    context = _context(request.config)
    if context is not None:
        pytest.skip(f"needs a fresh embedded cluster; this run is against the context {context!r}")
    from kubesim.testing import EmbeddedCluster

    files = request.getfixturevalue("_kubesim_pki")
    with ExitStack() as stack:

        def make(**chosen: Any) -> EmbeddedCluster:
            cluster: AbstractContextManager[EmbeddedCluster] = EmbeddedCluster(files, _options(**chosen))
            return stack.enter_context(cluster)

        yield make
