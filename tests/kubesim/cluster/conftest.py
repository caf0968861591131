"""A home for clusters that is removed with everything in it, and clusters that only exist as files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubesim.cluster import pki
from kubesim.cluster.home import ClusterPaths, Home
from kubesim.cluster.pki import PkiFiles
from kubesim.cluster.record import ClusterRecord, Phase, StoreKind, write_record
from kubesim.store.journal import Journal

Make = Callable[..., ClusterPaths]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Short, because the sockets of a node live below it."""
    root = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    monkeypatch.setenv("KUBESIM_HOME", str(root / "kubesim"))
    monkeypatch.setenv("KUBECONFIG", str(root / "kubeconfig"))
    yield Home.from_environment()
    shutil.rmtree(root)


@pytest.fixture
def dead_cluster(home: Home) -> Make:
    """Makes the files of a cluster whose daemon does not live (any more)."""

    def make(
        name: str = "c", *, phase: Phase = Phase.RUNNING, store: StoreKind = StoreKind.DURABLE, port: int = 1
    ) -> ClusterPaths:
        paths = home.cluster(name)
        paths.root.mkdir(parents=True)
        record = ClusterRecord(
            name=name,
            phase=phase,
            store=store,
            process_node=False,
            port=port,
            kubeconfig="",
            version="0",
            created_at="2026-01-01T00:00:00+00:00",
        )
        write_record(paths.record, record)
        pki.make(PkiFiles(paths.pki), name)
        if store is StoreKind.DURABLE:
            Journal(paths.store).close()
        return paths

    return make
