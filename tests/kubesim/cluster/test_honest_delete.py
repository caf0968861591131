"""Delete forgets only what it saw gone; by force it goes all the way through and says what failed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubesim.cluster import delete as deleting
from kubesim.cluster.daemonfile import DaemonFile, write_daemon_file
from kubesim.cluster.delete import Outcome, delete
from kubesim.cluster.errors import LeftBehind, RuntimeUnavailable
from kubesim.cluster.exitcodes import ExitCode
from kubesim.cluster.home import ClusterPaths, Home
from kubesim.cluster.record import Phase, read_record
from kubesim.kubelet.proc import identify

Make = Callable[..., ClusterPaths]


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def audit(home: Home) -> list[dict[str, object]]:
    return [json.loads(line) for line in home.audit.read_text().splitlines()] if home.audit.exists() else []


@pytest.fixture
def deaf_daemon() -> Iterator[subprocess.Popen[str]]:
    """A process that neither answers nor ends on SIGTERM."""
    code = (
        "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print('up', flush=True); time.sleep(120)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_dead_cluster_with_whole_data_is_deleted_and_leaves_an_audit_line(
    home: Home, dead_cluster: Make
) -> None:
    paths = dead_cluster()
    assert delete(home, "c", force=False, say=lambda _: None) is Outcome.DELETED
    assert not paths.root.exists()
    assert not paths.command_lock.exists()
    [line] = audit(home)
    assert (line["cluster"], line["outcome"], line["force"]) == ("c", "deleted", False)


def test_what_is_not_there_is_no_error_and_leaves_no_line(home: Home) -> None:
    assert delete(home, "c", force=False, say=lambda _: None) is Outcome.WAS_GONE
    assert audit(home) == []


@pytest.mark.parametrize("file", ["cluster.json", "store/objects.db", "pki/ca.crt", "daemon.json"])
def test_corrupt_data_is_kept_to_the_last_byte_until_forced(
    home: Home, dead_cluster: Make, file: str
) -> None:
    paths = dead_cluster()
    (paths.root / file).write_bytes(b"\0corrupt\xff" * 500)
    before = content(paths.root)
    with pytest.raises(RuntimeUnavailable) as error:
        delete(home, "c", force=False, say=lambda _: None)
    assert error.value.exit_code is ExitCode.UNAVAILABLE
    assert "--force" in str(error.value.remedy)
    assert content(paths.root) == before
    assert audit(home) == []
    assert delete(home, "c", force=True, say=lambda _: None) is Outcome.DELETED
    assert not paths.root.exists()
    assert audit(home)[0]["force"] is True


def test_a_record_that_is_a_directory_does_not_withstand_force(home: Home, dead_cluster: Make) -> None:
    paths = dead_cluster()
    paths.record.unlink()
    paths.record.mkdir()
    (paths.record / "x").write_text("x")
    with pytest.raises(RuntimeUnavailable):
        delete(home, "c", force=False, say=lambda _: None)
    assert delete(home, "c", force=True, say=lambda _: None) is Outcome.DELETED
    assert not paths.root.exists()


def test_a_daemon_that_does_not_answer_is_left_alone_until_forced(
    home: Home, dead_cluster: Make, deaf_daemon: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubesim.cluster.control.FORCED_STOP_TIMEOUT", 0.2)
    paths = dead_cluster()
    process = identify(deaf_daemon.pid)
    assert process is not None
    write_daemon_file(paths.daemon, DaemonFile(process=process, version="0"))
    before = content(paths.root)
    with pytest.raises(RuntimeUnavailable, match="does not answer"):
        delete(home, "c", force=False, say=lambda _: None)
    assert content(paths.root) == before
    assert process.is_alive()
    assert delete(home, "c", force=True, say=lambda _: None) is Outcome.DELETED
    assert not process.is_alive()
    assert not paths.root.exists()


def test_by_force_a_failing_step_is_reported_and_does_not_end_the_others(
    home: Home, dead_cluster: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleting, "stop_all", lambda node: ["process 4711 did not end"])
    paths, said = dead_cluster(), list[str]()
    with pytest.raises(LeftBehind) as error:
        delete(home, "c", force=True, say=said.append)
    assert error.value.exit_code is ExitCode.LEFT_BEHIND
    assert "process 4711 did not end" in error.value.message
    assert any("4711" in line for line in said)
    assert not paths.root.exists()
    assert audit(home)[0]["problems"] == [
        "the processes of its pods: processes of its pods do not end: process 4711 did not end"
    ]


def test_without_force_a_failing_step_ends_the_command_and_repeating_it_goes_on(
    home: Home, dead_cluster: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = dead_cluster()
    with monkeypatch.context() as broken:
        broken.setattr(deleting, "stop_all", lambda node: ["process 4711 did not end"])
        with pytest.raises(RuntimeUnavailable, match="kept"):
            delete(home, "c", force=False, say=lambda _: None)
    record = read_record(paths.record)
    assert record is not None
    assert record.phase is Phase.DELETING
    assert paths.store.exists()
    assert delete(home, "c", force=False, say=lambda _: None) is Outcome.DELETED
    assert not paths.root.exists()


def test_a_delete_that_was_killed_half_way_is_finished_by_the_next(home: Home, dead_cluster: Make) -> None:
    paths = dead_cluster(phase=Phase.DELETING)
    (paths.store / "objects.db").unlink()
    (paths.pki / "ca.key").unlink()
    assert delete(home, "c", force=False, say=lambda _: None) is Outcome.DELETED
    assert not paths.root.exists()


def test_all_clusters_are_named_before_they_are_deleted(home: Home, dead_cluster: Make) -> None:
    """Others may have made them: `local` is whim's."""
    dead_cluster("dev")
    dead_cluster("local")
    done = subprocess.run(
        [sys.executable, "-m", "kubesim", "delete", "cluster", "--all"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Deleting all clusters of this machine: dev, local.\n")
    assert home.names() == []


def test_help_of_kubectl_needs_no_cluster(home: Home) -> None:
    """Ours; kubectl's own comes after two dashes."""
    done = subprocess.run(
        [sys.executable, "-m", "kubesim", "kubectl", "-h"], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "kubesim kubectl -- --help" in done.stdout
