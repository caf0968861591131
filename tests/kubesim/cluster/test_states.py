"""What state a cluster is in follows from what is seen, and from nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kubesim.cluster.daemonfile import DaemonFile, write_daemon_file
from kubesim.cluster.home import ClusterPaths, Home
from kubesim.cluster.inspect import Facts, State, look
from kubesim.cluster.record import ClusterRecord, Phase, StoreKind, read_record, write_record
from kubesim.kubelet.proc import Identity, boot_id, identify

Make = Callable[..., ClusterPaths]


def record(phase: Phase) -> ClusterRecord:
    return ClusterRecord(
        name="c",
        phase=phase,
        store=StoreKind.MEMORY,
        process_node=False,
        port=1,
        kubeconfig="",
        version="0",
        created_at="",
    )


@pytest.mark.parametrize(
    ("phase", "alive", "state"),
    [
        (Phase.CREATING, False, State.CREATING),
        (Phase.CREATING, True, State.CREATING),
        (Phase.RUNNING, True, State.RUNNING),
        (Phase.RUNNING, False, State.DEAD),
        (Phase.STOPPED, False, State.STOPPED),
        (Phase.STOPPED, True, State.RUNNING),
        (Phase.DELETING, False, State.DELETING),
        (Phase.DELETING, True, State.DELETING),
    ],
)
def test_the_state_is_what_was_wanted_and_what_lives(phase: Phase, alive: bool, state: State) -> None:
    daemon = Identity(1, 1, "boot") if alive else None
    assert Facts(exists=True, record=record(phase), daemon=daemon).state is state


def test_damage_and_silence_make_a_cluster_unavailable_whatever_else_is_so() -> None:
    assert Facts(exists=True, record=record(Phase.RUNNING), damage=("x",)).state is State.UNAVAILABLE
    assert Facts(exists=True, record=record(Phase.STOPPED), silence="x").state is State.UNAVAILABLE
    assert Facts(exists=False).state is State.ABSENT


def test_a_cluster_whose_daemon_died_is_dead_and_available(dead_cluster: Make) -> None:
    facts = look(dead_cluster(), deep=True)
    assert (facts.state, facts.problems) == (State.DEAD, ())


def test_an_empty_directory_is_an_interrupted_creation(home: Home) -> None:
    paths = home.cluster("c")
    assert look(paths).state is State.ABSENT
    paths.root.mkdir(parents=True)
    assert look(paths).state is State.CREATING


def test_a_pid_that_was_reused_is_not_the_daemon(dead_cluster: Make) -> None:
    paths = dead_cluster()
    mine = identify(1)
    assert mine is not None
    for stranger in (
        Identity(1, mine.start_time + 1, boot_id()),
        Identity(1, mine.start_time, "another boot"),
    ):
        write_daemon_file(paths.daemon, DaemonFile(process=stranger, version="0"))
        assert look(paths).daemon is None


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def _truncate(path: Path) -> None:
    path.write_bytes(b"")


def _unlink(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_garbage, _truncate, _unlink])
@pytest.mark.parametrize("file", ["cluster.json", "pki/ca.crt", "pki/admin.key", "store/objects.db"])
def test_every_file_whose_damage_matters_is_noticed_and_named(
    dead_cluster: Make, file: str, damage: Callable[[Path], None]
) -> None:
    paths = dead_cluster()
    damage(paths.root / file)
    facts = look(paths)
    assert facts.state is State.UNAVAILABLE
    assert file.rpartition("/")[2] in " ".join(facts.problems)


def test_a_damaged_daemon_file_is_noticed(dead_cluster: Make) -> None:
    paths = dead_cluster()
    _garbage(paths.daemon)
    assert look(paths).state is State.UNAVAILABLE


def test_the_record_of_another_cluster_is_not_taken_for_this_one(dead_cluster: Make) -> None:
    one, other = dead_cluster("one"), dead_cluster("other")
    shutil.copy(one.record, other.record)
    assert "belongs to a cluster named 'one'" in " ".join(look(other).problems)


def test_a_look_into_the_store_finds_damage_inside_it_and_changes_nothing(dead_cluster: Make) -> None:
    paths = dead_cluster()
    database = paths.store / "objects.db"
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO log VALUES (1, 0, '/configmaps', 'd/a', 1, x'00', 12345)")
        connection.execute("UPDATE meta SET value = 1 WHERE name = 'revision'")
    connection.close()
    before = {path.name: path.read_bytes() for path in paths.store.iterdir()}
    assert look(paths).state is State.DEAD
    facts = look(paths, deep=True)
    assert facts.state is State.UNAVAILABLE
    assert str(paths.store) in facts.problems[0]
    assert "checksum" in facts.problems[0]
    assert {path.name: path.read_bytes() for path in paths.store.iterdir()} == before


def test_half_created_and_half_deleted_clusters_may_lack_anything(dead_cluster: Make) -> None:
    paths = dead_cluster()
    whole = read_record(paths.record)
    assert whole is not None
    shutil.rmtree(paths.pki)
    shutil.rmtree(paths.store)
    for phase, state in ((Phase.CREATING, State.CREATING), (Phase.DELETING, State.DELETING)):
        write_record(paths.record, replace(whole, phase=phase))
        assert look(paths, deep=True).state is state
