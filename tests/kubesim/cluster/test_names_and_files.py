"""Names that are refused, files that are whole or not there, locks that die with their holder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kubesim.cluster.errors import ClusterBusy, InvalidName
from kubesim.cluster.exitcodes import ExitCode
from kubesim.cluster.files import command_lock, try_lock, write_whole
from kubesim.cluster.home import Home, check_name
from kubesim.cluster.record import RecordUnreadable, read_record


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a.b", "../x", "a/b", "x" * 51, "ä"])
def test_a_name_that_kubernetes_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(InvalidName) as error:
        check_name(name)
    assert error.value.remedy
    assert error.value.exit_code is ExitCode.INVALID


@pytest.mark.parametrize("name", ["a", "dev", "test-1", "0", "x" * 50])
def test_a_good_name_is_taken(name: str) -> None:
    assert check_name(name) == name


def test_the_home_can_be_moved_by_a_variable(tmp_path: Path) -> None:
    assert Home.from_environment({"KUBESIM_HOME": str(tmp_path)}).root == tmp_path
    assert Home.from_environment({}).root == Path.home() / ".kubesim"


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "garbage", "[]", "{}", '{"name": "c", "phase": "flying"}', "\0\xff"])
def test_a_damaged_record_is_an_error_and_not_an_absent_cluster(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cluster.json"
    assert read_record(path) is None
    path.write_text(content, encoding="latin-1")
    with pytest.raises(RecordUnreadable, match=r"cluster\.json"):
        read_record(path)


def test_two_commands_do_not_work_on_one_cluster_at_once(home: Home) -> None:
    paths = home.cluster("c")
    with command_lock(paths), pytest.raises(ClusterBusy), command_lock(paths, patience=0.0):
        pass
    with command_lock(paths, patience=0.0):  # it is free again, and its file goes with the cluster
        pass
    assert not paths.command_lock.exists()


def test_a_lock_is_free_when_its_holder_was_killed(home: Home) -> None:
    path = home.root / "lock"
    path.parent.mkdir(parents=True)
    code = (
        "import sys, time; from pathlib import Path; from kubesim.cluster.files import try_lock; "
        "print(try_lock(Path(sys.argv[1])), flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip().isdigit()
        assert try_lock(path) is None
        holder.kill()
    assert try_lock(path) is not None
