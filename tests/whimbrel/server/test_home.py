"""A home belongs to one server at a time, and only to its user."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from whimbrel.model.errors import ServerUnavailable
from whimbrel.server.home import SOCKET_PATH_LIMIT, Home, boot_id, process_start_time


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    shutil.rmtree(directory)


def test_a_second_server_is_refused_and_told_who_has_the_home(tmp_path: Path) -> None:
    home = Home(root=tmp_path)
    home.prepare()
    lock = home.claim()
    with pytest.raises(ServerUnavailable, match=f"pid {os.getpid()}"):
        home.claim()
    os.close(lock)
    os.close(home.claim())


def test_everything_below_the_home_is_for_its_user_only(tmp_path: Path) -> None:
    home = Home(root=tmp_path / "home")
    home.prepare()
    home.write_record(address="unix:/x", state="ready")
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert home.record.stat().st_mode & 0o777 == 0o600
    assert all(path.stat().st_mode & 0o077 == 0 for path in home.root.iterdir())


def test_the_record_names_the_process_beyond_its_pid(tmp_path: Path) -> None:
    home = Home(root=tmp_path)
    home.write_record(address="unix:/x/api.sock", state="starting")
    record = json.loads(home.record.read_text())
    assert record["pid"] == os.getpid()
    assert record["start_time"] == process_start_time(os.getpid()) is not None
    assert record["boot_id"] == boot_id()
    assert (record["address"], record["state"]) == ("unix:/x/api.sock", "starting")
    home.remove_record()
    home.remove_record()
    assert not home.record.exists()


def test_the_socket_is_in_the_runtime_directory_and_differs_by_home(runtime: Path, tmp_path: Path) -> None:
    one = Home(root=tmp_path / "one").socket_path()
    two = Home(root=tmp_path / "two").socket_path()
    assert one.parent.parent == two.parent.parent == runtime
    assert one != two
    assert one.parent.stat().st_mode & 0o777 == 0o700


def test_a_long_or_open_runtime_directory_is_not_used(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = runtime / ("x" * 90)
    long.mkdir(mode=0o700)
    for directory, mode in ((long, 0o700), (runtime, 0o755)):
        directory.chmod(mode)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        path = Home(root=tmp_path).socket_path()
        assert str(path).startswith(f"/tmp/whimbrel-{os.getuid()}-")
        assert len(os.fsencode(path)) <= SOCKET_PATH_LIMIT
        path.parent.rmdir()


def test_a_socket_directory_that_others_can_open_is_refused(runtime: Path, tmp_path: Path) -> None:
    home = Home(root=tmp_path)
    home.socket_path().parent.chmod(0o755)
    with pytest.raises(ServerUnavailable, match="only you can open"):
        home.socket_path()
