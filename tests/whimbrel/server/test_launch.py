"""Launch, exec, queue, cancel, down: the whole way through a real server, real shells and a fake world."""

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from world import commands_in

from conftest import Server, task
from whimbrel.model.errors import (
    Conflict,
    ContextNotFound,
    InvalidName,
    InvalidTask,
    JobNotFound,
    NotFound,
    OutOfCapacity,
    SetupFailed,
)

EIGHT = {"cpus": "8", "memory": None, "accelerators": None, "infra": None}


def test_a_launch_makes_a_cluster_and_runs_the_job(server: Server) -> None:
    output = server.output_of(server.launch("c1", "echo hello from $WHIMBREL_NODE_RANK"))
    assert output == {"cluster": "c1", "job_id": 1}
    text, end = server.logs("c1")
    assert text == "hello from 0\n"
    assert (end["status"], end["exit_codes"]) == ("SUCCEEDED", [0])
    (cluster,) = server.get("clusters")["clusters"]
    assert (cluster["name"], cluster["status"], cluster["infra"]) == ("c1", "UP", "k8s/one")
    assert cluster["jobs"] == {"running": 0, "pending": 0}
    assert cluster["nodes"][0]["phase"] == "running"


def test_nothing_running_at_all_starts_the_embedded_kubernetes(idle: Server) -> None:
    (idle.world.root / "one" / "identity").unlink()
    idle.start()
    plan = idle.post("plan", {"task": task("true")})
    assert plan["local_will_start"] is True
    assert plan["offers"][0]["infra"] == "k8s/kubesim-local"
    idle.output_of(idle.launch("c1"))
    assert idle.logs("c1")[0] == "hello\n"
    assert idle.get("clusters")["clusters"][0]["infra"] == "k8s/kubesim-local"
    closed = idle.output_of(idle.post("local/down", {})["request_id"])
    assert closed["closed"] == ["c1"]
    assert idle.get("clusters")["clusters"] == []


def test_ranks_are_told_apart_and_know_each_other(server: Server) -> None:
    run = 'echo "$WHIMBREL_NODE_RANK of $SKYPILOT_NUM_NODES: $(echo $WHIMBREL_NODE_IPS)"'
    server.output_of(server.launch("c1", run, num_nodes=2))
    text, end = server.logs("c1")
    assert sorted(text.splitlines()) == [
        "(rank 0) 0 of 2: 127.0.0.1 127.0.0.2",
        "(rank 1) 1 of 2: 127.0.0.1 127.0.0.2",
    ]
    assert end["exit_codes"] == [0, 0]


def test_one_ranks_failure_ends_the_others(server: Server) -> None:
    run = 'if [ "$WHIMBREL_NODE_RANK" = 1 ]; then sleep 0.2; exit 7; fi; sleep 600'
    server.output_of(server.launch("c1", run, num_nodes=3))
    _, end = server.logs("c1")
    assert end["status"] == "FAILED"
    assert end["reason"] == "rank 1 ended with exit code 7"
    assert end["exit_codes"][1] == 7
    assert end["exit_codes"][0] == end["exit_codes"][2] == 143


def test_a_job_that_dies_by_a_signal_says_which(server: Server) -> None:
    server.output_of(server.launch("c1", "kill -SEGV $$"))
    _, end = server.logs("c1")
    assert (end["status"], end["exit_codes"]) == ("FAILED", [139])
    assert "SIGSEGV" in end["reason"]


def test_exec_runs_on_a_cluster_that_is_up_and_refuses_others(server: Server) -> None:
    with pytest.raises(NotFound, match="no cluster c1"):
        server.exec("c1", "true")
    server.output_of(server.launch("c1", None))
    assert server.output_of(server.exec("c1", "echo again"))["job_id"] == 1
    assert server.logs("c1", "latest")[0] == "again\n"
    with pytest.raises(Conflict, match="has 1 node, and 2 are asked for"):
        server.exec("c1", "true", num_nodes=2)


def test_the_queue_is_first_in_first_out_and_packs_by_cpus(server: Server) -> None:
    two = {"cpus": "2", "memory": None, "accelerators": None, "infra": None}
    server.output_of(server.launch("c1", None))
    for _ in range(3):
        server.output_of(server.exec("c1", "sleep 600", resources=two))
    server.until(lambda: server.job("c1", 1)["status"] == "RUNNING", "the first job runs")
    assert [server.job("c1", number)["status"] for number in (2, 3)] == ["PENDING", "PENDING"]
    assert server.job("c1", 2)["reason"] == "for 2 CPUs (taken by job 1)"
    assert server.job("c1", 3)["reason"] == "behind job 2"
    assert server.get("clusters")["clusters"][0]["jobs"] == {"running": 1, "pending": 2}
    assert server.post("clusters/c1/jobs/cancel", {"job_ids": [1]})["cancelled"] == [1]
    server.until(lambda: server.job("c1", 2)["status"] == "RUNNING", "the second job runs")
    assert server.job("c1", 1)["status"] == "CANCELLED"
    assert server.job("c1", 3)["status"] == "PENDING"
    assert server.post("clusters/c1/jobs/cancel", {"all": True})["cancelled"] == [2, 3]
    server.until(lambda: server.job("c1", 3)["status"] == "CANCELLED", "the last job is cancelled")
    server.until(lambda: server.job("c1", 2)["status"] == "CANCELLED", "the running job is cancelled")
    assert server.logs("c1", 3)[1]["reason"] == "it was cancelled before it started"


def test_a_setup_that_prints_without_measure_is_told_at_its_beginning_and_end(server: Server) -> None:
    setup = "echo first; head -c 3000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo last; exit 3"
    request = server.launch("c1", setup=setup)
    with pytest.raises(SetupFailed):
        server.output_raises(request)
    frames = list(server.frames(f"/api/v1/requests/{request}/events"))
    text = "".join(frame["data"]["text"] for frame in frames if frame["kind"] == "log")
    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert len(text) < 1_300_000
    assert "MiB of setup's output are left out here" in text
    whole = re.search(r"all of it is in (\S+)\]", text)
    assert whole
    assert len(Path(whole[1]).read_text()) > 3_000_000


def test_a_request_behind_another_one_says_which(server: Server) -> None:
    hold = server.world.root / "one" / "hold"
    hold.touch()
    first = server.launch("c1")
    server.until_events(first, "waiting for the nodes")
    second = server.launch("c1")
    frames = server.frames(f"/api/v1/requests/{second}/events?follow=1")
    message = next(frame["data"]["message"] for frame in frames if frame["kind"] == "waiting")
    assert f"request {first[:8]}" in message
    assert "cluster.launch" in message
    hold.unlink()
    assert server.output_of(second)["job_id"] == 2


def test_a_launch_whose_cluster_is_closed_under_it_stops_before_it_runs_anything(server: Server) -> None:
    server.output_of(server.post("local/up", {})["request_id"])
    hold = server.world.root / "kubesim-local" / "hold"
    hold.touch()
    request = server.launch("c1", setup="touch $HOME/ran", infra="local")
    server.until_events(request, "waiting for the nodes")
    assert server.output_of(server.post("local/down", {})["request_id"])["closed"] == ["c1"]
    hold.unlink()
    error = server.end_of(request)["error"]
    assert error["code"] == "NotFound"
    assert "taken down meanwhile" in error["message"]
    assert server.get("clusters")["clusters"] == []
    assert not list(server.world.root.rglob("ran"))


def test_a_job_whose_secrets_are_gone_does_not_start_without_them(server: Server) -> None:
    server.output_of(server.launch("c1", "sleep 600", resources=EIGHT))
    request = server.exec("c1", "echo ran with $TOKEN", secrets={"TOKEN": "t"}, resources=EIGHT)
    server.output_of(request)
    (server.home / "secrets" / request).write_bytes(b"{spoiled")
    server.post("clusters/c1/jobs/cancel", {"job_ids": [1]})
    text, end = server.logs("c1", 2)
    assert (text, end["status"]) == ("", "FAILED_DRIVER")
    assert end["reason"] == "its secrets TOKEN are not kept any more: run it again"
    assert "{spoiled" not in server.log()


def test_cancelling_reaches_every_process_of_the_job(server: Server) -> None:
    server.output_of(server.launch("c1", "trap '' TERM; (sleep 601 & wait) & echo up; wait"))
    server.until(lambda: "up" in server.logs("c1", 1, "")[0], "the job prints")
    server.post("clusters/c1/jobs/cancel", {})
    _, end = server.logs("c1")
    assert end["status"] == "CANCELLED"
    (home,) = (server.world.root / "one" / "nodes").iterdir()
    assert "sleep\x00601" not in commands_in(home)


def test_setup_runs_on_every_node_and_its_failure_keeps_the_cluster(server: Server) -> None:
    setup = 'echo "setting up $SKYPILOT_SETUP_NODE_RANK"; touch ~/ready'
    request = server.launch("c1", "ls ~/ready", num_nodes=2, setup=setup)
    server.output_of(request)
    told = "".join(
        frame["data"]["text"]
        for frame in server.frames(f"/api/v1/requests/{request}/events?follow=1")
        if frame["kind"] == "log"
    )
    assert sorted(told.splitlines()) == ["(rank 0) setting up 0", "(rank 1) setting up 1"]
    assert server.logs("c1")[1]["status"] == "SUCCEEDED"
    error = server.end_of(server.launch("c1", "true", setup="echo no; exit 3"))["error"]
    assert error["code"] == "SetupFailed"
    assert "exit code 3" in error["message"]
    assert "stays up" in error["message"]
    assert error["remedy"].startswith(f"whim api logs {error['details']['request_id'][:8]}")
    (cluster,) = server.get("clusters")["clusters"]
    assert (cluster["status"], cluster["last_error"]["code"]) == ("UP", "SetupFailed")


def test_a_name_that_is_taken_is_reused_when_it_fits_and_refused_when_not(server: Server) -> None:
    first, second = server.launch("c1", "echo 1"), server.launch("c1", "echo 2")
    assert {server.output_of(first)["job_id"], server.output_of(second)["job_id"]} == {1, 2}
    made = (server.world.root / "one" / "made.log").read_text().splitlines()
    assert len(made) == 1
    error = server.end_of(server.launch("c1", "true", num_nodes=2))["error"]
    assert error["code"] == "Conflict"
    assert "has 1 node, and 2 are asked for" in error["message"]


def test_what_nothing_can_run_is_refused_with_what_there_is(server: Server) -> None:
    big = {"cpus": "64", "memory": None, "accelerators": None, "infra": None}
    with pytest.raises(OutOfCapacity, match="no node has 64 CPUs; the largest has 8"):
        server.post("plan", {"task": {**task("true"), "resources": big}})
    elsewhere = {**big, "cpus": None, "infra": "k8s/nowhere"}
    with pytest.raises(ContextNotFound, match="there are: k8s/one"):
        server.post("plan", {"task": {**task("true"), "resources": elsewhere}})
    error = server.end_of(server.launch("c1", "true", resources=big))["error"]
    assert error["code"] == "OutOfCapacity"
    assert server.get("clusters")["clusters"] == []
    with pytest.raises(InvalidName):
        server.launch("Not_A_Name")


def test_the_same_key_is_the_same_request(server: Server) -> None:
    key = str(uuid.uuid4())
    body = {"task": task("echo once")}
    assert server.post("clusters/c1/launch", body, key) == server.post("clusters/c1/launch", body, key)
    server.output_of(key)
    assert [job["id"] for job in server.get("clusters/c1/jobs")["jobs"]] == [1]
    with pytest.raises(Conflict):
        server.post("clusters/c1/launch", {"task": task("echo other")}, key)


def test_secrets_reach_the_job_and_nothing_else(server: Server) -> None:
    secret = f"secret-{uuid.uuid4().hex}"
    setup = 'test -n "$TOKEN"'
    server.output_of(
        server.launch(
            "c1", 'echo "${#TOKEN}"; sleep 0.5', setup=setup, secrets={"TOKEN": secret}, envs={"A": "b"}
        )
    )
    server.until(lambda: server.job("c1")["status"] == "RUNNING", "the job runs")
    text, end = server.logs("c1")
    assert (text, end["status"]) == (f"{len(secret)}\n", "SUCCEEDED")
    shown = json.dumps([server.get("requests"), server.get("clusters"), server.get("clusters/c1/jobs")])
    assert secret not in shown
    for path in server.home.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert list((server.home / "secrets").iterdir()) == []


def test_a_job_that_was_launched_with_down_takes_its_cluster_with_it(server: Server) -> None:
    server.output_of(server.launch("c1", "echo bye", down=True))
    server.until(lambda: server.get("clusters")["clusters"] == [], "the cluster is gone")
    text, end = server.logs("c1")
    assert (text, end["status"]) == ("bye\n", "SUCCEEDED")


def test_logs_can_begin_anywhere_and_outlive_the_cluster(server: Server) -> None:
    server.output_of(server.launch("c1", "for i in 1 2 3 4; do echo line $i; done"))
    assert server.logs("c1")[0] == "line 1\nline 2\nline 3\nline 4\n"
    assert server.logs("c1", 1, "tail=2")[0] == "line 3\nline 4\n"
    assert server.logs("c1", 1, "offset=7")[0] == "line 2\nline 3\nline 4\n"
    server.output_of(server.post("clusters/c1/down", {"purge": False})["request_id"])
    assert server.logs("c1", "latest")[0] == "line 1\nline 2\nline 3\nline 4\n"
    with pytest.raises(JobNotFound):
        server.logs("c1", 9)
    with pytest.raises(NotFound):
        server.logs("c2")


def test_files_are_synced_copied_up_and_copied_down(server: Server, tmp_path: Path) -> None:
    import hashlib
    import io
    import tarfile

    from whimbrel.model.manifest import Entry, Kind, Manifest

    content = b"print('from the workdir')\n"
    digest = hashlib.sha256(content).hexdigest()
    tree = Manifest.of([Entry(path="main.py", kind=Kind.FILE, size=len(content), sha256=digest)])
    blobs = {digest: content, tree.digest: tree.to_json()}
    missing = server.http.call("POST", "/api/v1/files/missing", {"sha256": list(blobs)})["missing"]
    assert missing == list(blobs)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in blobs.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert server.http.call("POST", "/api/v1/files", buffer.getvalue())["stored"] == 2
    files: dict[str, Any] = {"workdir": tree.digest, "mounts": {"~/data": tree.digest}}
    server.output_of(server.launch("c1", "cat main.py ~/data/main.py", files=files))
    assert server.logs("c1")[0] == content.decode() * 2
    down = b"".join(server.http.download("/api/v1/clusters/c1/files?path=main.py"))
    with tarfile.open(fileobj=io.BytesIO(down)) as archive:
        (member,) = archive.getmembers()
        extracted = archive.extractfile(member)
        assert extracted is not None
        assert extracted.read() == content
    with pytest.raises(NotFound):
        list(server.http.download("/api/v1/clusters/c1/files?path=nothing"))
    with pytest.raises(InvalidTask, match="does not have the file"):
        server.output_raises(server.launch("c1", "true", files={"workdir": "0" * 64, "mounts": {}}))


def test_a_place_that_has_no_room_after_all_is_passed_over(server: Server) -> None:
    (server.world.add("one") / "full").touch()
    server.world.add("two")
    request = server.launch("c1", "echo here")
    server.output_of(request)
    assert server.get("clusters")["clusters"][0]["infra"] == "k8s/two"
    server.until_events(request, "k8s/one is passed over: k8s/one: no machine took its nodes within 60 s.")
    server.until_events(request, "trying k8s/two")
    assert server.logs("c1")[0] == "here\n"


def test_where_no_place_has_room_each_is_named_with_its_reason(server: Server) -> None:
    for name in ("one", "two"):
        (server.world.add(name) / "full").touch()
    with pytest.raises(OutOfCapacity) as refused:
        server.output_raises(server.launch("c1", "echo here"))
    assert [line.split()[0] for line in refused.value.message.splitlines()[1:]] == ["k8s/one", "k8s/two"]
    (cluster,) = server.get("clusters")["clusters"]
    assert cluster["infra"] == "k8s/two", "the last record stays: the same command carries on"


def test_a_place_that_the_task_names_is_not_left(server: Server) -> None:
    (server.world.add("one") / "full").touch()
    server.world.add("two")
    with pytest.raises(OutOfCapacity, match="k8s/one: no machine"):
        server.output_raises(server.launch("c1", "true", resources={"infra": "k8s/one"}))
    assert server.get("clusters")["clusters"][0]["infra"] == "k8s/one"


def test_a_place_that_dies_while_the_nodes_are_made_is_passed_over_and_leaves_a_tombstone(
    server: Server,
) -> None:
    one = server.world.add("one")
    server.world.add("two")
    (one / "hold").touch()
    request = server.launch("c1", "echo here", num_nodes=2)
    server.until_events(request, "waiting for the nodes")
    (one / "fault").write_text("refused")
    (one / "hold").unlink()
    server.output_of(request)
    assert server.get("clusters")["clusters"][0]["infra"] == "k8s/two"
    server.until_events(request, "what was made in k8s/one was not seen gone")


def test_a_launch_that_was_passed_on_is_carried_on_after_a_crash(server: Server) -> None:
    (server.world.add("one") / "full").touch()
    two = server.world.add("two")
    (two / "hold").touch()
    request = server.launch("c1", "echo here")
    server.until_events(request, "waiting for the nodes")
    server.kill()
    (two / "hold").unlink()
    server.start()
    server.output_of(request)
    assert server.get("clusters")["clusters"][0]["infra"] == "k8s/two"
    assert (two / "made.log").read_text().count("\n") == 1
