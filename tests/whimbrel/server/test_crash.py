"""`kill -9` of the server at any moment: the next one finishes the work, once."""

import time
from typing import Any

import pytest
from world import commands_in, kill_processes, kill_streams

from conftest import Server
from whimbrel.model.errors import NotFound


def made(server: Server) -> list[str]:
    return (server.world.root / "one" / "made.log").read_text().splitlines()


def test_in_the_middle_of_a_launch_nothing_is_made_twice(server: Server) -> None:
    hold = server.world.root / "one" / "hold"
    hold.touch()
    request = server.launch("c1", "echo done", num_nodes=2)
    server.until_events(request, "waiting for the nodes")
    server.kill()
    assert server.until(lambda: made(server), "a node was made") == made(server)
    server.start()
    server.until_events(request, "owner lost")
    assert server.get(f"requests/{request}")["state"] == "running"
    hold.unlink()
    assert server.output_of(request)["job_id"] == 1
    assert len(made(server)) == len(set(made(server))) == 2
    assert sorted(server.logs("c1")[0].splitlines()) == ["(rank 0) done", "(rank 1) done"]


def test_in_the_middle_of_a_setup_it_goes_on_and_its_output_is_told_once(server: Server) -> None:
    setup = "echo $$ >> ~/runs; echo first; until [ -e ~/go ]; do sleep 0.05; done; echo second"
    request = server.launch("c1", "wc -l < ~/runs", setup=setup)
    server.until_events(request, "first")
    server.kill()
    (home,) = (server.world.root / "one" / "nodes").iterdir()
    server.start()
    (home / "go").touch()
    server.output_of(request)
    events = server.frames(f"/api/v1/requests/{request}/events")
    told = "".join(event["data"]["text"] for event in events if event["kind"] == "log")
    assert told == "first\nsecond\n"
    assert server.logs("c1")[0].strip() == "1"


def test_a_running_job_goes_on_and_its_log_has_no_gap_and_no_repetition(server: Server) -> None:
    run = "i=0; until [ -e ~/go ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo end"
    server.output_of(server.launch("c1", run, num_nodes=2))
    server.until(lambda: "line 5\n" in server.logs("c1", 1, "")[0], "the job prints")
    server.kill()
    homes = list((server.world.root / "one" / "nodes").iterdir())
    server.start()
    for home in homes:
        (home / "go").touch()
    text, end = server.logs("c1")
    assert (end["status"], end["exit_codes"]) == ("SUCCEEDED", [0, 0])
    for rank in (0, 1):
        lines = [
            line.removeprefix(f"(rank {rank}) ") for line in text.splitlines() if f"(rank {rank})" in line
        ]
        assert lines[-1] == "end"
        assert lines[:-1] == [f"line {number}" for number in range(1, len(lines))]


def test_a_job_that_ended_while_no_server_was_there_is_judged_and_the_queue_moves_on(server: Server) -> None:
    two: dict[str, Any] = {"cpus": "2", "memory": None, "accelerators": None, "infra": None}
    server.output_of(server.launch("c1", None))
    server.output_of(
        server.exec("c1", "until [ -e ~/go ]; do sleep 0.02; done; echo over; exit 4", resources=two)
    )
    server.output_of(server.exec("c1", "echo next", resources=two))
    server.until(lambda: server.job("c1")["status"] == "RUNNING", "the job runs")
    server.kill()
    (home,) = (server.world.root / "one" / "nodes").iterdir()
    (home / "go").touch()
    deadline = time.monotonic() + 20
    while not (home / ".whimbrel/jobs/1/exit").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.start()
    text, end = server.logs("c1")
    assert (text, end["status"], end["exit_codes"]) == ("over\n", "FAILED", [4])
    assert server.logs("c1", 2)[0] == "next\n"


def test_a_clean_stop_hands_the_work_back_without_counting_it_as_a_loss(server: Server) -> None:
    hold = server.world.root / "one" / "hold"
    hold.touch()
    request = server.launch("c1")
    server.until_events(request, "waiting for the nodes")
    assert server.stop() < 3
    server.start()
    hold.unlink()
    server.output_of(request)
    assert server.get(f"requests/{request}")["losses"] == 0


def test_a_node_that_vanishes_fails_its_job_and_a_launch_makes_it_again(server: Server) -> None:
    server.output_of(server.launch("c1", "echo up; sleep 600"))
    server.until(lambda: "up" in server.logs("c1", 1, "")[0], "the job prints")
    (home,) = (server.world.root / "one" / "nodes").iterdir()
    home.rename(server.world.root / "away")
    kill_processes(home)
    text, end = server.logs("c1")
    assert (text, end["status"]) == ("up\n", "FAILED_DRIVER")
    assert "is gone" in end["reason"]
    (cluster,) = server.get("clusters")["clusters"]  # the keeper saw it, and nobody asked for a refresh
    assert (cluster["status"], cluster["last_error"]["code"]) == ("INIT", "NodeLost")
    server.output_of(server.launch("c1", "echo back"))
    assert server.logs("c1", 2)[0] == "back\n"


def test_a_node_that_vanishes_while_nothing_runs_is_noticed_without_being_asked(server: Server) -> None:
    server.output_of(server.launch("c1", None))
    server.world.add("two")
    server.output_of(server.launch("c2", None, infra="k8s/two"))
    (server.world.root / "two" / "fault").write_text("silent")
    (home,) = (server.world.root / "one" / "nodes").iterdir()
    home.rename(server.world.root / "away")

    def one() -> dict[str, Any]:
        found: dict[str, Any] = server.get("clusters?name=c1")["clusters"][0]
        return found

    server.until(lambda: one()["status"] == "INIT", "the record says that it does not run")
    assert one()["last_error"]["code"] == "NodeLost"
    assert server.get("clusters?name=c2")["clusters"][0]["status"] == "UP", "silence proves nothing"


def test_a_node_that_only_does_not_answer_loses_nothing(server: Server) -> None:
    run = "i=0; until [ -e ~/go ]; do i=$((i+1)); echo line $i; sleep 0.02; done"
    server.output_of(server.launch("c1", run))
    server.until(lambda: "line 3\n" in server.logs("c1", 1, "")[0], "the job prints")
    fault = server.world.root / "one" / "fault"
    fault.write_text("refused")
    (home,) = (server.world.root / "one" / "nodes").iterdir()
    kill_streams(home)
    server.until(lambda: server.get("clusters?name=c1")["clusters"][0]["last_error"], "the trouble is shown")
    assert server.job("c1")["status"] == "RUNNING"
    fault.unlink()
    (home / "go").touch()
    text, end = server.logs("c1")
    assert end["status"] == "SUCCEEDED"
    lines = text.splitlines()
    assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
    assert server.get("clusters?name=c1")["clusters"][0]["last_error"] is None


def test_cancelling_a_launch_ends_it_and_its_setup(server: Server) -> None:
    request = server.launch("c1", "true", setup="echo begun; sleep 602")
    server.until_events(request, "begun")
    server.post(f"requests/{request}/cancel", {})
    assert server.end_of(request)["state"] == "cancelled"
    (home,) = (server.world.root / "one" / "nodes").iterdir()
    server.until(lambda: "sleep\x00602" not in commands_in(home), "the setup has ended")
    with pytest.raises(NotFound):
        server.post("requests/00000000-0000-4000-8000-000000000000/cancel", {})


def test_a_log_that_cannot_be_written_ends_no_job_and_loses_no_line(server: Server) -> None:
    server.output_of(server.launch("c1", None))
    uid = server.get("clusters")["clusters"][0]["uid"]
    in_the_way = server.home / "logs" / uid / "1" / "run.log"
    in_the_way.mkdir(parents=True)
    server.output_of(server.exec("c1", "echo kept"))
    server.until(lambda: server.get("clusters")["clusters"][0]["last_error"], "the trouble is shown")
    assert "cannot keep the output" in server.get("clusters")["clusters"][0]["last_error"]["message"]
    in_the_way.rmdir()
    text, end = server.logs("c1")
    assert (text, end["status"]) == ("kept\n", "SUCCEEDED")
    assert server.get("clusters")["clusters"][0]["last_error"] is None
