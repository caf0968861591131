"""Changing kubeconfigs: under the lock, in one step, losing nothing of others."""

import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewire.errors import KubeconfigInvalid, KubeconfigLocked
from kubewire.kubeconfig import load
from kubewire.kubeconfig_file import add_context, default_target, remove_context, use_context

CLUSTER = {"server": "https://127.0.0.1:1"}
USER = {"token": "t"}


def read(path: Path) -> Any:
    """The file as it is."""
    return yaml.safe_load(path.read_text())


def foreign(path: Path) -> dict[str, Any]:
    """A file that somebody else wrote, with things that we do not know."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {"colors": True},
        "current-context": "theirs",
        "clusters": [{"name": "theirs", "cluster": {"server": "https://x:1", "unknown-field": [1]}}],
        "users": [{"name": "theirs", "user": {"auth-provider": {"name": "gcp"}}}],
        "contexts": [{"name": "theirs", "context": {"cluster": "theirs", "user": "theirs"}}],
        "extensions": [{"name": "e", "extension": {}}],
    }
    path.write_text(yaml.safe_dump(document))
    return document


def test_a_new_file_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / ".kube" / "config"
    add_context(path, "kubesim-a", cluster=CLUSTER, user=USER, namespace="n")
    connection = load([path], environ={}).connection()
    assert (connection.context, connection.server, connection.token) == ("kubesim-a", CLUSTER["server"], "t")
    assert connection.namespace == "n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["config"]


def test_what_others_wrote_stays(tmp_path: Path) -> None:
    path = tmp_path / "config"
    before = foreign(path)
    add_context(path, "ours", cluster=CLUSTER, user=USER, make_current=False)
    after = read(path)
    assert after["current-context"] == "theirs"
    for key in ("preferences", "extensions"):
        assert after[key] == before[key]
    for section in ("clusters", "users", "contexts"):
        assert after[section][0] == before[section][0]
        assert after[section][1]["name"] == "ours"
    assert remove_context(path, "ours")
    assert read(path) == before


def test_without_a_current_context_the_new_one_becomes_it(tmp_path: Path) -> None:
    path = tmp_path / "config"
    add_context(path, "a", cluster=CLUSTER, user=USER, make_current=False)
    assert read(path)["current-context"] == "a"
    add_context(path, "b", cluster=CLUSTER, user=USER, make_current=False)
    assert read(path)["current-context"] == "a"
    add_context(path, "c", cluster=CLUSTER, user=USER)
    assert read(path)["current-context"] == "c"
    use_context(path, "b")
    assert read(path)["current-context"] == "b"


def test_adding_twice_replaces(tmp_path: Path) -> None:
    path = tmp_path / "config"
    add_context(path, "a", cluster=CLUSTER, user=USER)
    add_context(path, "a", cluster={"server": "https://127.0.0.1:2"}, user=USER)
    assert load([path], environ={}).connection("a").server == "https://127.0.0.1:2"
    assert len(read(path)["clusters"]) == 1


def test_removing_takes_what_nobody_else_uses_and_clears_the_current_context(tmp_path: Path) -> None:
    path = tmp_path / "config"
    add_context(path, "a", cluster=CLUSTER, user=USER)
    document = read(path)
    document["contexts"].append({"name": "b", "context": {"cluster": "a", "user": "other"}})
    path.write_text(yaml.safe_dump(document))
    assert remove_context(path, "a")
    after = read(path)
    assert [entry["name"] for entry in after["contexts"]] == ["b"]
    assert [entry["name"] for entry in after["clusters"]] == ["a"]
    assert after["users"] == []
    assert after["current-context"] == ""


def test_removing_what_is_not_there_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config"
    assert not remove_context(path, "a")
    assert not path.exists()
    foreign(path)
    before = path.read_bytes()
    assert not remove_context(path, "a")
    assert path.read_bytes() == before


def test_a_broken_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("a: [1")
    with pytest.raises(KubeconfigInvalid):
        add_context(path, "a", cluster=CLUSTER, user=USER)
    with pytest.raises(KubeconfigInvalid):
        remove_context(path, "a", force=True)
    path.write_text("clusters: [1]")
    with pytest.raises(KubeconfigInvalid, match="must be a list of entries"):
        add_context(path, "a", cluster=CLUSTER, user=USER)
    assert os.listdir(tmp_path) == ["config"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "config", tmp_path / "config"
    foreign(target)
    link.symlink_to(target)
    add_context(link, "a", cluster=CLUSTER, user=USER)
    assert link.is_symlink()
    assert len(read(target)["contexts"]) == 2


def test_a_held_lock_is_waited_for_and_then_named(tmp_path: Path) -> None:
    path, lock = tmp_path / "config", tmp_path / "config.lock"
    lock.touch()
    started = time.monotonic()
    with pytest.raises(KubeconfigLocked, match=r"config\.lock is held") as caught:
        add_context(path, "a", cluster=CLUSTER, user=USER, timeout=0.2)
    assert caught.value.remedy is not None
    assert 0.2 <= time.monotonic() - started < 5.0
    assert lock.exists()
    release = threading.Timer(0.2, lock.unlink)
    release.start()
    add_context(path, "a", cluster=CLUSTER, user=USER, timeout=10.0)
    release.join()
    assert not lock.exists()


def test_a_lock_left_behind_is_broken_only_by_force(tmp_path: Path) -> None:
    path, lock = tmp_path / "config", tmp_path / "config.lock"
    add_context(path, "a", cluster=CLUSTER, user=USER)
    lock.touch()
    os.utime(lock, (time.time() - 3600, time.time() - 3600))
    with pytest.raises(KubeconfigLocked):
        remove_context(path, "a", timeout=0.1)
    assert remove_context(path, "a", force=True, timeout=0.1)
    lock.touch()
    with pytest.raises(KubeconfigLocked):
        remove_context(path, "a", force=True, timeout=0.1)


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config"
    writers = [
        threading.Thread(
            target=add_context, args=(path, f"c{n}"), kwargs={"cluster": CLUSTER, "user": USER, "timeout": 30}
        )
        for n in range(12)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(load([path], environ={}).contexts()) == sorted(f"c{n}" for n in range(12))
    assert os.listdir(tmp_path) == ["config"]


def test_a_directory_that_is_not_ours_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KubeconfigInvalid, match="cannot be changed"):
        use_context(tmp_path / "file" / "config", "a")


def test_a_new_context_goes_where_kubectl_would_put_it(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    environ = {"KUBECONFIG": f"{first}:{second}", "HOME": str(tmp_path)}
    assert default_target(environ) == second
    second.touch()
    assert default_target(environ) == second
    first.touch()
    assert default_target(environ) == first
    assert default_target({"HOME": str(tmp_path)}) == tmp_path / ".kube" / "config"
