"""Deletion is honest: `down` forgets only what it saw gone; `--purge` forgets in any case and says so."""

import json
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import Server
from whimbrel.model.errors import NotFound


def down(server: Server, cluster: str, *, purge: bool = False) -> dict[str, Any]:
    """The last frame of the request."""
    return server.end_of(server.post(f"clusters/{cluster}/down", {"purge": purge})["request_id"])


def names(server: Server) -> list[str]:
    return [cluster["name"] for cluster in server.get("clusters")["clusters"]]


@pytest.fixture
def context(server: Server) -> Path:
    """The directory of the context in which `c1` is up."""
    server.output_of(server.launch("c1", "echo up; sleep 600"))
    server.until(lambda: "up" in server.logs("c1", 1, "")[0], "the job prints")
    return server.world.root / "one"


def test_a_healthy_cluster_is_removed_with_its_jobs(server: Server, context: Path) -> None:
    assert down(server, "c1")["output"] == {"cluster": "c1", "outcome": "removed", "left": []}
    assert names(server) == []
    assert list((context / "nodes").iterdir()) == []
    text, end = server.logs("c1")
    assert (text, end["status"], end["reason"]) == ("up\n", "CANCELLED", "its cluster was taken down")
    assert down(server, "c1")["output"]["outcome"] == "already_gone"
    with pytest.raises(NotFound, match="no cluster c9"):
        down(server, "c9")


def test_a_context_that_is_gone_refuses_and_a_purge_forgets(server: Server, context: Path) -> None:
    (context / "identity").unlink()
    began = time.monotonic()
    error = down(server, "c1")["error"]
    assert time.monotonic() - began < 10
    assert error["code"] == "ContextNotFound"
    assert "its record is kept" in error["message"]
    assert "--purge" in error["remedy"]
    assert names(server) == ["c1"]
    output = down(server, "c1", purge=True)["output"]
    assert output["outcome"] == "forgotten"
    assert len(output["left"]) == 1
    assert output["left"][0].startswith("Pod default/c1-")
    assert names(server) == []
    assert server.logs("c1", 1, "")[0] == "up\n"
    server.stop()
    with sqlite3.connect(server.home / "state.db") as database:
        kept, line = database.execute("SELECT actor, action, data FROM audit ORDER BY id").fetchall()
        (thing,) = database.execute("SELECT state, forgotten_by, name, labels FROM things").fetchall()
    database.close()
    assert kept[1] == "cluster.down"
    assert json.loads(kept[2])["outcome"] == "kept"
    assert line[1] == "cluster.purge"
    assert output["left"][0] in line[2]
    assert (thing[0], thing[1]) == ("forgotten", line[0])


@pytest.mark.parametrize("fault", ["silent", "refused"])
def test_an_infrastructure_that_does_not_answer_refuses_within_its_time(
    server: Server, context: Path, fault: str
) -> None:
    (context / "fault").write_text(fault)
    began = time.monotonic()
    error = down(server, "c1")["error"]
    assert error["code"] == "Unreachable"
    assert names(server) == ["c1"]
    assert down(server, "c1", purge=True)["output"]["outcome"] == "forgotten"
    assert time.monotonic() - began < 20
    (context / "fault").unlink()
    server.output_of(server.launch("c1", "echo anew"))
    assert server.logs("c1")[0] == "anew\n"


def test_what_will_not_go_is_named_and_the_record_stays(server: Server, context: Path) -> None:
    (context / "sticky").touch()
    error = down(server, "c1")["error"]
    assert error["code"] == "LeftBehind"
    assert "Pod c1-" in error["message"]
    assert names(server) == ["c1"]
    assert server.job("c1")["status"] == "RUNNING"
    (context / "sticky").unlink()
    assert down(server, "c1")["output"]["outcome"] == "removed"


def test_another_cluster_under_the_same_name_is_not_taken_for_the_old_one(
    server: Server, context: Path
) -> None:
    (context / "identity").write_text("somebody else")
    (node,) = (context / "nodes").iterdir()
    error = down(server, "c1")["error"]
    assert error["code"] == "IdentityChanged"
    assert names(server) == ["c1"]
    assert node.exists()
    output = down(server, "c1", purge=True)["output"]
    assert output["outcome"] == "forgotten"
    assert node.exists()


def test_down_does_not_wait_behind_a_launch_that_is_stuck(server: Server) -> None:
    (server.world.root / "one" / "hold").touch()
    request = server.launch("c1")
    server.until_events(request, "waiting for the nodes")
    assert down(server, "c1")["output"]["outcome"] == "removed"
    assert server.end_of(request)["state"] == "cancelled"
    assert names(server) == []


def test_a_down_before_its_launch_has_recorded_anything_is_done(server: Server) -> None:
    (server.world.root / "one" / "fault").write_text("silent")
    request = server.launch("c9")
    server.until(lambda: server.get(f"requests/{request}")["state"] == "running", "it looks for a place")
    assert down(server, "c9")["output"] == {"cluster": "c9", "outcome": "already_gone", "left": []}
    assert server.end_of(request)["state"] == "cancelled"


def test_a_killed_server_finishes_a_down(server: Server, context: Path) -> None:
    (context / "fault").write_text("silent")
    request = server.post("clusters/c1/down", {"purge": False})["request_id"]
    server.until(lambda: server.get(f"requests/{request}")["state"] == "running", "it is being taken down")
    server.kill()
    (context / "fault").unlink()
    server.start()
    assert server.output_of(request)["outcome"] == "removed"


def test_one_dead_context_costs_the_others_nothing(server: Server, context: Path) -> None:
    server.world.add("two")
    server.output_of(server.launch("c2", "sleep 600", infra="k8s/two"))
    (context / "fault").write_text("silent")
    listing = server.get("clusters?refresh=1")
    assert [cluster["name"] for cluster in listing["clusters"]] == ["c1", "c2"]
    assert [error["cluster"] for error in listing["errors"]] == ["c1"]
    assert listing["errors"][0]["error"]["code"] == "Unreachable"
    pending = server.post("clusters/c1/down", {"purge": False})["request_id"]
    began = time.monotonic()
    server.output_of(server.exec("c2", "echo quick"))
    assert server.logs("c2", 2)[0] == "quick\n"
    assert time.monotonic() - began < 2
    results = server.http.call("POST", "/api/v1/check", {"infra": None})["results"]
    assert {result["infra"]: result["usable"] for result in results} == {"k8s/one": False, "k8s/two": True}
    assert server.end_of(pending)["state"] == "failed"


def test_a_removed_world_is_not_mistaken_for_success(server: Server, context: Path) -> None:
    shutil.rmtree(context)
    assert down(server, "c1")["error"]["code"] == "ContextNotFound"
    assert names(server) == ["c1"]
