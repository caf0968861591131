"""The plugin as a stranger's project meets it: runs of pytest in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubesim.pytest_plugin import FreshCluster

TESTS = """
import os
from pathlib import Path

def test_namespace(kubesim_namespace, kubesim_client, kubesim_cluster, kubesim_kubeconfig):
    from kubewire.resources import NAMESPACES
    phase = kubesim_client.get(NAMESPACES, kubesim_namespace)["status"]["phase"]
    assert phase == "Active"
    with Path(os.environ["SEEN"]).open("a") as seen:
        seen.write(kubesim_cluster.server + "\\n")

def test_another(kubesim_namespace, kubesim_cluster):
    with Path(os.environ["SEEN"]).open("a") as seen:
        seen.write(kubesim_cluster.server + "\\n")

def test_clock(kubesim_clock): kubesim_clock.advance(1)
def test_nodes(kubesim_nodes): kubesim_nodes(1)
def test_faults(kubesim_faults): kubesim_faults.add("hang", seconds=1)
def test_fresh(kubesim_fresh_cluster): kubesim_fresh_cluster()
"""


def run(directory: Path, *options: str, **env: str) -> tuple[int, str, list[str]]:
    """Exit code, what was printed, the servers that the tests met."""
    (directory / "test_it.py").write_text(TESTS)
    seen = directory / "seen"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rs",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
            *options,
            ".",
        ],
        cwd=directory,
        env={**os.environ, "SEEN": str(seen), **env},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr, seen.read_text().split() if seen.exists() else []


def test_a_run_that_uses_no_fixture_imports_nothing_but_the_plugin() -> None:
    program = (
        "import sys, kubesim.pytest_plugin as p; print([m for m in sys.modules if m[:4] in ('kube', 'cryp')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "['kubesim', 'kubesim.pytest_plugin']"


def test_the_session_has_one_cluster_and_each_worker_its_own(tmp_path: Path) -> None:
    code, printed, servers = run(tmp_path, "-n", "2", "--dist", "each")
    assert code == 0, printed
    assert len(servers) == 4
    assert len(set(servers)) == 2


def test_the_same_tests_run_against_another_cluster_and_say_what_they_skip(
    tmp_path: Path, kubesim_fresh_cluster: FreshCluster
) -> None:
    other = kubesim_fresh_cluster()
    code, printed, servers = run(
        tmp_path, KUBESIM_TEST_CONTEXT=other.context, KUBECONFIG=str(other.kubeconfig)
    )
    assert (code, set(servers)) == (0, {other.server}), printed
    assert "2 passed, 4 skipped" in printed
    assert (
        f"needs the clock of an embedded cluster; this run is against the context '{other.context}'"
        in printed
    )
    assert "needs a fresh embedded cluster" in printed


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--kubesim-context", "nowhere"), "nowhere"),
        (("-o", "kubesim_store=tape"), "kubesim_store is 'tape': choose one of memory, durable"),
    ],
)
def test_what_cannot_be_is_said(
    tmp_path: Path, kubesim_cluster: object, options: tuple[str, ...], complaint: str
) -> None:
    code, printed, _ = run(tmp_path, *options, "-k", "namespace", KUBECONFIG=str(tmp_path / "none"))
    assert code != 0
    assert complaint in printed
