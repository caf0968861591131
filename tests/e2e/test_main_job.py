"""The way of a task through the house, as the README shows it."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import pytest

from e2e.house import EXAMPLES, House, eventually, read_until


def test_hello_runs_is_listed_and_its_log_outlives_the_cluster(house: House) -> None:
    """The whole life of a cluster, one command after the other."""
    printed = house.whim("launch", "-c", "hello", "-y", str(EXAMPLES / "hello.yaml"))
    assert "hello from rank 0 of 1" in printed
    (cluster,) = [c for c in house.json("status")["clusters"] if c["name"] == "hello"]
    assert cluster["status"] == "UP"
    assert cluster["infra"] == "k8s/kubesim-local"
    (listed,) = house.json("queue", "hello")["clusters"]
    assert [(job["id"], job["status"]) for job in listed["jobs"]] == [(1, "SUCCEEDED")]
    assert house.whim("logs", "hello", "1") == "hello from rank 0 of 1\n"
    assert "hello: removed" in house.whim("down", "-y", "hello")
    assert "hello" not in [c["name"] for c in house.json("status")["clusters"]]
    assert house.whim("logs", "hello", "1") == "hello from rank 0 of 1\n"


def test_exec_queues_a_second_job_with_its_own_exit_code(house: House) -> None:
    """`exec` runs on what is up; a failing job ends the command with 100."""
    house.whim("launch", "-c", "again", "-y", "true")
    assert house.whim("exec", "again", "echo second; pwd").startswith("second\n")
    errors = house.fails("exec", "again", "echo about to fail; exit 7", code=100)
    assert "7" in errors
    statuses = {job["id"]: job["status"] for job in house.json("queue", "again")["clusters"][0]["jobs"]}
    assert statuses == {1: "SUCCEEDED", 2: "SUCCEEDED", 3: "FAILED"}
    house.whim("down", "-y", "again")


def test_two_nodes_know_each_other(house: House) -> None:
    """Ranks, addresses and both families of variable names."""
    task = house.root / "nodes.yaml"
    task.write_text(
        "num_nodes: 2\n"
        "run: |\n"
        "  echo rank $WHIMBREL_NODE_RANK/$SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES\n"
        '  echo "ips: $(echo "$WHIMBREL_NODE_IPS" | wc -l)"\n'
    )
    printed = house.whim("launch", "-c", "nodes", "-y", str(task))
    assert "rank 0/0 of 2" in printed
    assert "rank 1/1 of 2" in printed
    assert printed.count("ips: 2") == 2
    assert "(rank 1)" in printed
    house.whim("down", "-y", "nodes")


def test_one_rank_that_fails_ends_the_others(house: House) -> None:
    """Gang stop: rank 1 fails, rank 0 would sleep for ever."""
    task = house.root / "gang.yaml"
    task.write_text(
        'num_nodes: 2\nrun: |\n  if [ "$WHIMBREL_NODE_RANK" = 1 ]; then exit 3; fi\n  sleep 7600\n'
    )
    errors = house.fails("launch", "-c", "gang", "-y", str(task), code=100)
    assert "rank 1" in errors
    house.whim("down", "-y", "gang")


def test_workdir_follows_changes_and_honours_ignore_files(house: House) -> None:
    """What changed is sent, what vanished goes, what is ignored stays here."""
    work = house.root / "work"
    (work / "sub").mkdir(parents=True)
    (work / "kept.txt").write_text("one\n")
    (work / "sub" / "gone.txt").write_text("x")
    (work / "secret.log").write_text("x")
    (work / ".gitignore").write_text("*.log\n")
    listing = "find . -type f | sort; cat kept.txt"
    first = house.whim("launch", "-c", "files", "-y", "--workdir", str(work), listing)
    assert "./kept.txt" in first
    assert "./sub/gone.txt" in first
    assert "secret.log" not in first
    assert first.endswith("one\n")
    (work / "kept.txt").write_text("two\n")
    (work / "sub" / "gone.txt").unlink()
    second = house.whim("exec", "files", "--workdir", str(work), listing)
    assert "gone.txt" not in second
    assert second.endswith("two\n")
    house.whim("down", "-y", "files")


def test_file_mounts_envs_and_secrets_reach_the_job_and_secrets_nothing_else(
    house: House, tmp_path: Path
) -> None:
    """A secret's value is in the job's environment, and in no listing, log or database."""
    (tmp_path / "data.txt").write_text("from a mount\n")
    task = tmp_path / "task.yaml"
    task.write_text(
        "envs: {A: one, B: null}\n"
        "secrets: {TOKEN: null}\n"
        f"file_mounts:\n  ~/in/data.txt: {tmp_path}/data.txt\n"
        "run: |\n"
        '  echo "$A $B"; cat ~/in/data.txt\n'
        '  echo "length ${#TOKEN}"\n'
    )
    secret = "swordfish-93115"
    argv = ("-y", str(task), "--env", "B=two", "--secret", f"TOKEN={secret}")
    printed = house.whim("launch", "-c", "secrets", *argv)
    assert printed == "one two\nfrom a mount\nlength 15\n"
    for listing in (("status",), ("queue", "secrets"), ("api", "status")):
        assert secret not in json.dumps(house.json(*listing))
    house.whim("down", "-y", "secrets")
    for path in (house.root / "w").rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_cancel_ends_the_whole_tree_of_a_job_and_the_next_one_starts(house: House) -> None:
    """`cancel` reaches what the job started in the background too; `logs` then says 103."""
    house.whim("launch", "-c", "long", "-y", "-d", "sleep 7611 & sleep 7622; wait")
    eventually(lambda: any("sleep 7622" in line for line in house.processes()), "the job runs")
    house.whim("cancel", "long", "1", "-y")
    eventually(lambda: not any("sleep 76" in line for line in house.processes()), "its processes have ended")
    house.fails("logs", "long", "1", code=103)
    assert house.whim("exec", "long", "echo next") == "next\n"
    house.whim("down", "-y", "long")


def test_logs_follow_a_running_job_and_ctrl_c_leaves_it_alone(house: House) -> None:
    """Detaching says how to come back, and the job goes on."""
    house.whim("launch", "-c", "tail", "-y", "-d", "echo first; sleep 7633")
    with house.popen("whim", "logs", "tail") as process:
        assert "first" in read_until(process, "first")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 130
        assert "whim logs tail" in errors
    house.fails("logs", "tail", "--no-follow", code=101)
    house.whim("cancel", "tail", "-a", "-y")
    house.whim("down", "-y", "tail")


def test_cp_brings_files_there_and_back(house: House, tmp_path: Path) -> None:
    """A binary file and a directory, unchanged."""
    house.whim("launch", "-c", "copies", "-y", "true")
    blob = tmp_path / "blob.bin"
    blob.write_bytes(bytes(range(256)) * 4000)
    house.whim("cp", str(blob), "copies:blob.bin")
    assert "1024000" in house.whim("exec", "copies", "wc -c < blob.bin; mkdir -p out; echo hi > out/a.txt")
    house.whim("cp", "copies:blob.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == blob.read_bytes()
    house.whim("cp", "copies:out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "a.txt").read_text() == "hi\n"
    house.fails("cp", "copies:nothing", str(tmp_path / "no"), code=4)
    house.whim("down", "-y", "copies")


@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl on this machine")
def test_kubectl_sees_the_pods_of_a_running_job(house: House) -> None:
    """The local infrastructure is an ordinary Kubernetes, under its own context."""
    house.whim("launch", "-c", "seen", "-y", "-d", "sleep 7644")
    eventually(
        lambda: house.json("queue", "seen")["clusters"][0]["jobs"][0]["status"] == "RUNNING", "the job runs"
    )
    done = house.run("kubectl", "--context", "kubesim-local", "get", "pods", "-A", "-o", "wide")
    assert re.search(r"seen-\S+-0 +1/1 +Running", done.stdout), done.stdout + done.stderr
    house.whim("down", "-y", "seen")


def test_jobs_wait_in_line_when_there_is_no_room(house: House) -> None:
    """FIFO by what jobs ask for: two jobs of all CPUs run one after the other."""
    house.whim("launch", "-c", "line", "-y", "--cpus", "0.5", "true")
    house.whim("exec", "line", "-d", "--cpus", "0.5", "sleep 7655")
    house.whim("exec", "line", "-d", "--cpus", "0.5", "echo at last")

    def states() -> dict[int, str]:
        return {job["id"]: job["status"] for job in house.json("queue", "line")["clusters"][0]["jobs"]}

    eventually(lambda: states()[2] == "RUNNING", "the first job runs")
    assert states()[3] == "PENDING"
    house.whim("cancel", "line", "2", "-y")
    assert house.whim("logs", "line", "3") == "at last\n"
    house.whim("down", "-y", "line")


def test_down_flag_removes_the_cluster_after_its_jobs(house: House) -> None:
    """`--down`: the cluster goes by itself; the log stays."""
    house.whim("launch", "-c", "brief", "-y", "--down", "echo short")
    eventually(
        lambda: "brief" not in [c["name"] for c in house.json("status")["clusters"]], "the cluster is gone"
    )
    assert house.whim("logs", "brief", "1") == "short\n"


def test_nothing_is_left_running_after_local_down_and_api_stop(fresh_house: House) -> None:
    """From nothing to a job and back to nothing."""
    assert "from nothing" in fresh_house.whim("launch", "-c", "c1", "-y", "echo from nothing", timeout=90)
    fresh_house.whim("local", "down", "-y")
    fresh_house.whim("api", "stop")
    eventually(lambda: not fresh_house.processes(), "no process is left")
    assert "kubesim-local" not in (fresh_house.root / "kubeconfig").read_text()
