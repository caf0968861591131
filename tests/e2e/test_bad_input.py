"""Bad input: the message says what happened and what to do, the exit code is that of the registry, nothing is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2e.house import House

INVALID_TASKS = {
    "an unknown field": ("nmae: x\nrun: echo\n", r"task\.yaml:1:1: .*nmae.*name"),
    "an unknown field inside resources": (
        "run: echo\nresources:\n  cpu: 1\n",
        r"task\.yaml:3:3: .*cpu.*cpus",
    ),
    "a wrong type": ("num_nodes: many\nrun: echo\n", r"task\.yaml:1:12: .*num_nodes"),
    "a field that is not honoured yet": (
        "run: echo\nservice:\n  replicas: 2\n",
        r"task\.yaml:2:1: .*service.*SkyPilot",
    ),
    "a YAML syntax error": ("run: [echo\nnum_nodes: 2\n", r"task\.yaml:\d+:\d+"),
    "a key that stands twice": ("run: echo\nrun: echo\n", r"task\.yaml:2:1: .*run"),
    "a missing workdir": ("workdir: /no/such/place\nrun: echo\n", r"task\.yaml:1:10: .*/no/such/place"),
    "a secret without a value": ("secrets:\n  TOKEN: null\nrun: echo\n", r"--secret TOKEN"),
    "a variable without a value": ("envs:\n  LEVEL: null\nrun: echo\n", r"--env LEVEL"),
    "no node at all": ("num_nodes: 0\nrun: echo\n", r"task\.yaml:1:12: .*num_nodes"),
}


@pytest.mark.parametrize("what", INVALID_TASKS)
def test_a_task_is_refused_with_its_position(house: House, tmp_path: Path, what: str) -> None:
    """file:line:column, the field and the way out; exit code 3."""
    text, expected = INVALID_TASKS[what]
    (tmp_path / "task.yaml").write_text(text)
    errors = house.fails("launch", "-c", "bad", "-y", "task.yaml", code=3, cwd=tmp_path)
    assert re.search(expected, errors, re.DOTALL), errors
    assert "bad" not in [cluster["name"] for cluster in house.json("status")["clusters"]]


def test_a_task_file_that_is_not_there_is_named(house: House) -> None:
    """And not taken for a command."""
    assert "nothing.yaml" in house.fails("launch", "-c", "bad", "-y", "nothing.yaml", code=3)


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "x" * 64, "dot.ted"])
def test_a_cluster_name_that_kubernetes_would_refuse_is_refused(house: House, name: str) -> None:
    """Before anything is created."""
    errors = house.fails("launch", f"--cluster={name}", "-y", "true", code=3)
    assert "name" in errors


def test_more_cpus_than_any_node_has_says_what_there_is(house: House) -> None:
    """The number that was asked for and the number that there is."""
    errors = house.fails("launch", "-c", "huge", "-y", "--cpus", "1000", "true", code=7)
    assert "1000" in errors
    assert re.search(r"\b\d+ CPU", errors), errors


def test_an_accelerator_that_nobody_has_is_refused(house: House) -> None:
    """With what there is instead."""
    errors = house.fails("launch", "-c", "gpus", "-y", "--gpus", "H100:8", "true", code=7)
    assert "H100" in errors


def test_an_unknown_context_is_refused_with_the_known_ones(house: House) -> None:
    """And the exit code of infrastructure that cannot be reached."""
    errors = house.fails("launch", "-c", "lost", "-y", "--infra", "k8s/nowhere", "true", code=6)
    assert "nowhere" in errors
    assert "kubesim-local" in errors


def test_an_unknown_cluster_or_job_is_said_so(house: House) -> None:
    """404 of every command."""
    assert "nobody" in house.fails("exec", "nobody", "true", code=4)
    assert "nobody" in house.fails("queue", "nobody", code=4)
    assert "nobody" in house.fails("down", "-y", "nobody", code=4)
    assert "nobody" in house.fails("logs", "nobody", code=4)
    house.whim("launch", "-c", "somebody", "-y", "true")
    assert "9" in house.fails("logs", "somebody", "9", code=102)
    house.whim("down", "-y", "somebody")


def test_a_mistyped_command_or_option_names_the_nearest(house: House) -> None:
    """Exit code 2, as for every command line that is not understood."""
    assert "launch" in house.fails("lanch", code=2)
    assert "--num-nodes" in house.fails("launch", "--num-node-s", "2", "true", code=2)


def test_nobody_is_asked_where_nobody_is(house: House) -> None:
    """Without a terminal a question is an error that names -y."""
    assert "-y" in house.fails("launch", "-c", "asked", "true", code=2)


def test_a_failing_setup_keeps_the_cluster_for_debugging(house: House) -> None:
    """Its output is shown, its code named, and exec still works there."""
    task = house.root / "setup.yaml"
    task.write_text("setup: |\n  echo about to break; exit 9\nrun: echo never\n")
    errors = house.fails("launch", "-c", "broken", "-y", str(task), code=11)
    assert "about to break" in errors
    assert "exit code 9" in errors
    assert errors.count("whim launch -c broken") == 1, "the advice is given once"
    named = re.search(r"whim api logs (\w+)", errors)
    assert named, errors
    assert "about to break" in house.whim("api", "logs", named[1])
    assert house.whim("exec", "broken", "echo still here") == "still here\n"
    house.whim("down", "-y", "broken")


def test_a_job_that_dies_by_a_signal_says_which(house: House) -> None:
    """Exit code 100, and the signal's name."""
    errors = house.fails("launch", "-c", "killed", "-y", "kill -9 $$", code=100)
    assert "SIGKILL" in errors
    house.whim("down", "-y", "killed")


def test_a_dry_run_shows_the_plan_and_starts_nothing(house: House) -> None:
    """With --json for programs."""
    assert "k8s/kubesim-local" in house.whim("launch", "-c", "dry", "--dryrun", "--cpus", "1", "true")
    plan = house.json("launch", "-c", "dry", "--dryrun", "true")
    assert [offer["infra"] for offer in plan["offers"] if offer["chosen"]] == ["k8s/kubesim-local"]
    assert "dry" not in [cluster["name"] for cluster in house.json("status")["clusters"]]


def test_a_cluster_that_does_not_fit_is_not_changed_silently(house: House) -> None:
    """Exit code 5, with what differs and what to do."""
    house.whim("launch", "-c", "small", "-y", "true")
    errors = house.fails("launch", "-c", "small", "-y", "--num-nodes", "2", "true", code=5)
    assert "2" in errors
    assert "whim down small" in errors
    house.whim("down", "-y", "small")


def test_a_cancelled_launch_says_so_and_can_be_repeated(house: House) -> None:
    """Exit code 12; the same command then does the work."""
    task = house.root / "slow.yaml"
    task.write_text(
        "setup: |\n  echo setting up\n  [ -e ~/second ] || { touch ~/second; sleep 7666; }\nrun: echo done\n"
    )
    with house.popen("whim", "launch", "-c", "slow", "-y", str(task)) as process:
        assert process.stderr is not None
        assert any("setting up" in line for line in process.stderr)
        (running,) = [r for r in house.json("api", "status")["requests"] if r["state"] == "running"]
        house.whim("api", "cancel", running["id"][:8])
        process.communicate(timeout=30)
        assert process.returncode == 12
    assert house.whim("launch", "-c", "slow", "-y", str(task)) == "done\n"
    house.whim("down", "-y", "slow")


def test_a_file_mount_on_local_does_not_write_into_this_machine(house: House) -> None:
    """There a node is a plain process: an absolute path would be the user's own."""
    target = house.root / "mine"
    task = house.root / "mount.yaml"
    (house.root / "data").write_text("x")
    task.write_text(f"file_mounts:\n  {target}/data: {house.root}/data\nrun: 'true'\n")
    errors = house.fails("launch", "-c", "mounts", "-y", str(task), code=3)
    assert "~" in errors
    assert not target.exists()
    house.whim("down", "-y", "mounts")


def test_a_command_without_quotes_runs_where_it_is_clear_and_says_how_to_quote_where_not(
    house: House,
) -> None:
    """Two dashes make everything clear."""
    house.whim("launch", "-c", "words", "-y", "touch 'a b' c")
    assert house.whim("exec", "words", "ls", "-1") == "a b\nc\n"
    assert house.whim("exec", "words", "--", "ls", "-d", "a b") == "a b\n"
    assert "-- head -n 1 c" in house.fails("exec", "words", "head", "-n", "1", "c", code=2)
    house.whim("down", "-y", "words")


def test_what_is_no_file_is_not_copied_and_named(house: House, tmp_path: Path) -> None:
    """A device has no end; standard input and output are no files here."""
    house.whim("launch", "-c", "odd", "-y", "mkdir d; touch d/file; mkfifo d/pipe")
    errors = house.fails("cp", "odd:/dev/zero", str(tmp_path / "zero"), code=3)
    assert "/dev/zero" in errors
    assert "device" in errors
    assert "/dev/zero" in house.fails("cp", "/dev/zero", "odd:zero", code=3)
    assert "cat" in house.fails("cp", "odd:d/file", "-", code=2)
    assert "d/pipe" in house.fails("cp", "odd:d", str(tmp_path / "d"), code=1)
    assert (tmp_path / "d" / "file").exists()
    house.whim("down", "-y", "odd")


def test_a_file_name_that_cannot_be_sent_says_what_to_do(house: House, tmp_path: Path) -> None:
    """A line break in it: it can be renamed or left out."""
    (tmp_path / "two\nlines").write_text("x")
    errors = house.fails("launch", "-c", "lines", "-y", "--workdir", str(tmp_path), "ls", code=3)
    assert "two\\nlines" in errors
    assert ".skyignore" in errors
    (tmp_path / ".skyignore").write_text("two?lines\n")
    house.whim("launch", "-c", "lines", "-y", "--workdir", str(tmp_path), "ls")
    house.whim("down", "-y", "lines")


def test_a_launch_that_waits_for_room_says_so_and_how_to_make_some(house: House) -> None:
    """Nothing is cut off, and the way out is named."""
    every = next(one for one in house.json("check")["results"] if one["infra"] == "k8s/kubesim-local")["cpus"]
    house.whim("launch", "-c", "full", "-y", "--cpus", f"{every:g}", "true")
    with house.popen("whim", "launch", "-c", "late", "-y", "--cpus", f"{every:g}", "true") as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "no machine can take it" in line)
        assert "Insufficient cpu" in line
        assert "claims" not in line
        assert "whim down" in line
        house.whim("down", "-y", "full")
        process.communicate(timeout=30)
        assert process.returncode == 0
    house.whim("down", "-y", "late")
