"""The user's kubeconfig: ours is added and removed, everything else stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from kubesim.cluster import contexts
from kubesim.cluster.errors import KubeconfigRefused
from kubesim.cluster.home import ClusterPaths
from kubesim.cluster.record import ClusterRecord, read_record
from kubewire import kubeconfig

Make = Callable[..., ClusterPaths]
OTHERS = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "prod",
    "clusters": [{"name": "prod", "cluster": {"server": "https://prod"}}],
    "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "me"}}],
    "users": [{"name": "me", "user": {"token": "t"}}],
}


def with_file(paths: ClusterPaths, file: Path, port: int = 1) -> ClusterRecord:
    found = read_record(paths.record)
    assert found is not None
    return replace(found, kubeconfig=str(file), port=port)


def test_a_context_can_be_used_and_is_current(dead_cluster: Make, tmp_path: Path) -> None:
    paths, file = dead_cluster(), tmp_path / "new" / "config"
    contexts.add(paths, with_file(paths, file), make_current=True)
    loaded = kubeconfig.load([file])
    assert loaded.current == "kubesim-c"
    assert loaded.connection("kubesim-c").server == "https://127.0.0.1:1"
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_current_context_is_kept_where_that_was_asked_for(dead_cluster: Make, tmp_path: Path) -> None:
    paths, file = dead_cluster(), tmp_path / "config"
    file.write_text(yaml.safe_dump(OTHERS))
    contexts.add(paths, with_file(paths, file), make_current=False)
    assert kubeconfig.load([file]).current == "prod"


def test_removing_leaves_what_is_not_ours(dead_cluster: Make, tmp_path: Path) -> None:
    paths, file = dead_cluster(), tmp_path / "config"
    file.write_text(yaml.safe_dump(OTHERS))
    record = with_file(paths, file)
    contexts.add(paths, record, make_current=False)
    assert contexts.remove(paths, record) == []
    assert yaml.safe_load(file.read_text()) == OTHERS
    assert contexts.remove(paths, record) == []  # nothing to remove is as good


def test_a_namesake_that_leads_elsewhere_is_left_alone(dead_cluster: Make, tmp_path: Path) -> None:
    paths, file = dead_cluster(), tmp_path / "config"
    contexts.add(paths, with_file(paths, file, port=2), make_current=True)
    [line] = contexts.remove(paths, with_file(paths, file, port=1))
    assert "another cluster" in line
    assert kubeconfig.load([file]).contexts() == ["kubesim-c"]


def test_a_kubeconfig_that_is_none_is_refused_and_kept(dead_cluster: Make, tmp_path: Path) -> None:
    paths, file = dead_cluster(), tmp_path / "config"
    file.write_text("{not: [yaml")
    with pytest.raises(KubeconfigRefused):
        contexts.add(paths, with_file(paths, file), make_current=True)
    assert file.read_text() == "{not: [yaml"


def test_a_kubeconfig_of_one_cluster_stands_alone(dead_cluster: Make, tmp_path: Path) -> None:
    paths, file = dead_cluster(), tmp_path / "alone"
    record = with_file(paths, file)
    file.write_text(yaml.safe_dump(contexts.whole(paths, record)))
    assert kubeconfig.load([file]).connection(None).context == "kubesim-c"


def test_no_context_is_written_where_none_is_wanted(dead_cluster: Make, home: object) -> None:
    paths = dead_cluster()
    record = read_record(paths.record)
    assert record is not None
    contexts.add(paths, record, make_current=True)
    assert not Path(contexts.default_file()).exists()
    assert contexts.remove(paths, record) == []
