"""What a purge leaves behind is kept as a tombstone, noticed when its infrastructure answers again, and reaped."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import Server
from whimbrel.model.errors import NotFound


def down(server: Server, cluster: str, *, purge: bool = False) -> dict[str, Any]:
    return server.end_of(server.post(f"clusters/{cluster}/down", {"purge": purge})["request_id"])


def look(server: Server, *infra: str) -> list[dict[str, Any]]:
    body = {"infra": list(infra) or None}
    found: list[dict[str, Any]] = server.http.call("POST", "/api/v1/tombstones/look", body)["tombstones"]
    return found


def reap(server: Server, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    items = [{name: one[name] for name in ("uid", "infra", "kubeconfig")} for one in found]
    request = server.post("tombstones/reap", {"tombstones": items})["request_id"]
    outcomes: list[dict[str, Any]] = server.output_of(request)["tombstones"]
    return outcomes


def stones(server: Server, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get(f"tombstones{query}")["tombstones"]
    return found


def told(server: Server, name: str) -> list[str]:
    return [
        frame["text"] for frame in server.frames(f"/api/v1/events?name={name}") if frame["kind"] == "event"
    ]


def leftovers_in_check(server: Server) -> dict[str, int]:
    results = server.http.call("POST", "/api/v1/check", {"infra": None})["results"]
    return {result["infra"]: result["leftovers"] for result in results}


@pytest.fixture
def purged(server: Server) -> Path:
    """A context that answers again after `c1`, which is still there, was purged while it was silent."""
    context = server.world.root / "one"
    server.output_of(server.launch("c1", "sleep 600", envs={"WHO": "me"}, num_nodes=2))
    (context / "fault").write_text("refused")
    output = down(server, "c1", purge=True)["output"]
    assert (output["outcome"], len(output["left"])) == ("forgotten", 2)
    (context / "fault").unlink()
    return context


def test_a_tombstone_has_where_what_the_spec_who_and_why(server: Server, purged: Path) -> None:
    (stone,) = stones(server)
    assert (stone["name"], stone["infra"], stone["identity"]) == ("c1", "k8s/one", "one")
    assert (stone["num_nodes"], stone["task"]["envs"]) == (2, {"WHO": "me"})
    assert stone["buried_by"]
    assert "refused the connection" in stone["reason"]
    assert [thing["name"] for thing in stone["left"]] == sorted(
        node.name for node in (purged / "nodes").iterdir()
    )
    assert leftovers_in_check(server) == {"k8s/one": 1}


def test_reaping_shows_what_is_there_removes_it_and_closes_the_tombstone(
    server: Server, purged: Path
) -> None:
    (found,) = look(server)
    assert len(found["there"]) == 2
    assert len(list((purged / "nodes").iterdir())) == 2, "looking removes nothing"
    (outcome,) = reap(server, [found])
    assert outcome["outcome"] == "reaped"
    assert list((purged / "nodes").iterdir()) == []
    assert stones(server) == []
    (closed,) = stones(server, "?reaped=1")
    assert closed["reaped_by"]
    assert leftovers_in_check(server) == {"k8s/one": 0}
    assert look(server) == []
    assert told(server, "c1")[-1].startswith("leftovers removed from k8s/one")


def test_what_was_gone_already_only_closes_the_tombstone(server: Server, purged: Path) -> None:
    server.world.end()
    shutil.rmtree(purged / "nodes")
    (purged / "nodes").mkdir()
    (found,) = look(server)
    assert found["there"] == []
    assert reap(server, [found])[0]["outcome"] == "nothing_left"
    assert stones(server) == []


def test_what_does_not_answer_is_listed_beside_what_does(server: Server, purged: Path) -> None:
    server.world.add("two")
    server.output_of(server.launch("c2", "sleep 600", infra="k8s/two"))
    (server.world.root / "two" / "fault").write_text("silent")
    assert down(server, "c2", purge=True)["output"]["outcome"] == "forgotten"
    found = {one["name"]: one for one in look(server)}
    assert found["c1"]["error"] is None
    assert found["c2"]["error"]["code"] == "Unreachable"
    assert [one["name"] for one in look(server, "k8s/one")] == ["c1"]


def test_only_the_cluster_that_was_recorded_is_touched(server: Server, purged: Path) -> None:
    """The name of the context now leads elsewhere, and another name leads to the old cluster."""
    (purged / "identity").write_text("somebody else")
    (found,) = look(server)
    assert found["error"]["code"] == "IdentityChanged"
    elsewhere = [{**found, "infra": "k8s/one"}]
    assert reap(server, elsewhere)[0]["outcome"] == "kept"
    assert len(list((purged / "nodes").iterdir())) == 2
    moved = server.world.add("renamed", identity="one")
    for node in (purged / "nodes").iterdir():
        shutil.copytree(node, moved / "nodes" / node.name)
    assert leftovers_in_check(server) == {"k8s/one": 0, "k8s/renamed": 1}
    (found,) = look(server, "k8s/renamed")
    assert len(found["there"]) == 2
    assert reap(server, [found])[0]["outcome"] == "reaped"
    assert list((moved / "nodes").iterdir()) == []
    assert len(list((purged / "nodes").iterdir())) == 2


def test_a_name_of_ours_without_our_label_is_told_and_left_alone(server: Server, purged: Path) -> None:
    first = sorted(node.name for node in (purged / "nodes").iterdir())[0]
    (purged / "unlabelled").write_text(first)
    (found,) = look(server)
    assert found["strangers"] == [f"Pod default/{first}"]
    (outcome,) = reap(server, [found])
    assert outcome["outcome"] == "left_behind"
    assert [node.name for node in (purged / "nodes").iterdir()] == [first]
    assert len(stones(server)) == 1


def test_what_still_cannot_be_removed_keeps_its_tombstone(server: Server, purged: Path) -> None:
    (purged / "sticky").touch()
    (outcome,) = reap(server, look(server))
    assert outcome["outcome"] == "left_behind"
    assert "nobody may delete it" in outcome["left"][0]
    assert len(stones(server)) == 1


def test_every_deletion_is_told_with_who_from_where_and_how_it_ended(server: Server) -> None:
    context = server.world.root / "one"
    server.output_of(server.launch("c1", "sleep 600"))
    (context / "sticky").touch()
    down(server, "c1")
    (context / "sticky").unlink()
    down(server, "c1")
    kept, removed = [text for text in told(server, "c1") if "k8s/one" in text and "down:" not in text]
    assert kept.startswith("not deleted from k8s/one, record kept: Some of it could not be removed: Pod c1-")
    assert "nobody may delete it" in kept
    assert removed.startswith("deleted from k8s/one (removed), asked from ")
    assert told(server, "c1")[:2] == ["launch: asked for", "launch: succeeded"]
    frames = [frame for frame in server.frames("/api/v1/events?limit=3") if frame["kind"] == "event"]
    assert len(frames) == 3
    (line,) = [frame for frame in frames if frame["what"] == "cluster.down"]
    assert (line["data"]["forced"], line["data"]["outcome"]) == (False, "removed")


def test_events_are_followed_as_they_come(server: Server) -> None:
    frames = server.http.frames("/api/v1/events?follow=1&limit=1")
    server.output_of(server.launch("c1", None))
    down(server, "c1")
    seen: list[str] = []
    for frame in frames:
        seen.append(frame.get("text", ""))
        if "deleted from" in seen[-1]:
            break
    assert seen.count("launch: asked for") == 1


def test_a_context_without_any_of_it_says_already_gone(server: Server) -> None:
    server.output_of(server.launch("c1", "sleep 600"))
    server.world.end()
    (node,) = (server.world.root / "one" / "nodes").iterdir()
    shutil.rmtree(node)
    assert down(server, "c1")["output"]["outcome"] == "already_gone"
    assert stones(server) == []


def test_stop_is_refused_by_name_with_what_there_is_instead(server: Server) -> None:
    server.output_of(server.launch("c1", None))
    with pytest.raises(Exception, match="c1 is on Kubernetes") as caught:
        server.post("clusters/c1/stop", {})
    assert caught.value.to_wire()["code"] == "Unsupported"  # type: ignore[attr-defined]
    assert "whim down c1" in caught.value.remedy  # type: ignore[attr-defined]


def test_history_gives_back_the_spec_of_a_record_a_tombstone_and_a_request(
    server: Server, purged: Path
) -> None:
    past = server.get("history/c1")
    assert (past["kind"], past["task"]["run"], past["task"]["envs"]) == (
        "cluster",
        "sleep 600",
        {"WHO": "me"},
    )
    newer = server.launch("c1", "echo newer", secrets={"TOKEN": "hunter2"})
    server.output_of(newer)
    assert server.get("history/c1")["task"]["run"] == "echo newer"
    assert server.get("history/c1")["secret_names"] == ["TOKEN"]
    assert "hunter2" not in json.dumps(server.get("history/c1"))
    assert server.get(f"history/c1@{past['id'][:8]}")["task"]["run"] == "sleep 600"
    assert server.get(f"history/{newer[:8]}")["task"]["run"] == "echo newer"
    with pytest.raises(NotFound, match=f"c1@{past['id'][:8]}"):
        server.get("history/c1@ffffffff0")
    with pytest.raises(NotFound):
        server.get("history/never")
