"""`whim gpus list` shows what there is, says what it could not see, and never ends in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from whimbrel.cli import gpus, main
from whimbrel.client import sdk
from whimbrel.model.errors import ServerUnavailable
from whimbrel.model.exitcodes import ExitCode


def machine(node: str, kind: str, capacity: int, used: int | None = 0, **extra: Any) -> dict[str, Any]:
    """One machine as the server tells it."""
    free = None if used is None else capacity - used
    row = {"node": node, "kind": kind, "capacity": capacity, "used": used, "free": free}
    return {**row, "memory_gib": None, "trouble": "", **extra}


def infra(name: str, *machines: dict[str, Any], error: str = "", age: float = 0.0) -> dict[str, Any]:
    """One infrastructure as the server tells it."""
    remedy = f"whim check {name}" if error else ""
    return {"infra": name, "machines": list(machines), "age": age, "error": error, "remedy": remedy}


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """A kubeconfig that exists, and what the server says of its contexts."""
    (tmp_path / "kubeconfig").write_text("{}")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    infras: list[dict[str, Any]] = []
    monkeypatch.setattr(sdk, "gpus", lambda wanted, say: {"infras": infras, "errors": []})
    return infras


def run(*argv: str) -> tuple[int, Result]:
    """The exit code and what was printed."""
    result = CliRunner().invoke(gpus.gpus, ["list", *argv], standalone_mode=False)
    if result.exception:
        raise result.exception
    return int(result.return_value), result


def bare(tmp_path: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """The command as a newcomer has it: no kubeconfig, no server, nothing."""
    environment = {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    command = [sys.executable, "-m", "whimbrel", *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("command", [("gpus", "list"), ("show-gpus",)])
def test_without_a_kubeconfig_it_shows_the_catalogue_and_one_line_and_starts_no_server(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    done = bare(tmp_path, *command)
    assert done.returncode == 0
    assert "H100 " in done.stdout
    assert "MI300X" in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "whim local up" in done.stderr
    assert not (tmp_path / ".whimbrel").exists()


def test_capacity_use_and_what_is_free_are_shown_by_kind_and_by_machine(answer: list[dict[str, Any]]) -> None:
    answer.append(
        infra("k8s/a", machine("m1", "H100", 8, 3), machine("m2", "H100", 8), machine("m3", "L4", 4))
    )
    code, result = run()
    assert code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["k8s/a", "H100", "8", "2", "16", "3", "13", "now"] in lines
    assert ["k8s/a", "m1", "H100", "-", "8", "3", "5", "-"] in lines


def test_an_infrastructure_that_does_not_answer_is_one_line(answer: list[dict[str, Any]]) -> None:
    answer.append(infra("k8s/a", machine("m1", "L4", 4)))
    answer.append(infra("k8s/dead", error="k8s/dead did not answer within 2.5 s."))
    code, result = run()
    assert code == 0
    assert "k8s/a" in result.stdout
    assert result.stderr.splitlines()[-1] == (
        "k8s/dead did not answer within 2.5 s.  Try: whim check k8s/dead"
    )


def test_only_a_dead_one_that_was_named_makes_the_command_fail(answer: list[dict[str, Any]]) -> None:
    answer.append(infra("k8s/dead", error="k8s/dead did not answer."))
    assert run()[0] == 0
    assert run("--infra", "k8s/dead")[0] == ExitCode.UNREACHABLE


def test_an_older_answer_is_told_with_its_age(answer: list[dict[str, Any]]) -> None:
    answer.append(infra("k8s/a", machine("m1", "L4", 4), error="k8s/a did not answer.", age=70))
    _, result = run()
    assert "70s ago" in result.stdout
    assert "seen 70 s ago" in result.stderr


def test_name_and_count_leave_the_machines_that_have_so_many(answer: list[dict[str, Any]]) -> None:
    answer.append(infra("k8s/a", machine("m1", "H100", 4), machine("m2", "H100", 8), machine("m3", "L4", 8)))
    found = json.loads(run("h100:8", "--json")[1].stdout)
    assert [one["node"] for one in found["infras"][0]["machines"]] == ["m2"]
    assert [one["name"] for one in found["catalogue"]] == ["H100"]


def test_a_name_that_nobody_has_is_refused_with_the_nearest(answer: list[dict[str, Any]]) -> None:
    with pytest.raises(main.WhimError, match="H10O") as refused:
        run("H10O")
    assert refused.value.remedy == "whim gpus list H100"
    assert refused.value.exit_code == ExitCode.NOT_FOUND


@pytest.mark.parametrize("text", ["H100:", ":8", "H100:0", "H100:x"])
def test_what_is_no_name_and_count_is_refused(text: str) -> None:
    with pytest.raises(main.WhimError, match="NAME:COUNT"):
        run(text)


def test_many_machines_are_shown_when_they_are_asked_for(answer: list[dict[str, Any]]) -> None:
    answer.append(infra("k8s/a", *(machine(f"m{n}", "L4", 8) for n in range(50))))
    assert "50 machines; --all shows each of them." in run()[1].stdout
    shown = run("--all")[1].stdout
    assert "m49" in shown
    assert "MI300X" in shown


def test_a_server_that_cannot_be_started_is_one_line_beside_the_catalogue(
    answer: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ServerUnavailable("The API server cannot be started.", remedy="whim api logs")

    monkeypatch.setattr(sdk, "gpus", fail)
    code, result = run()
    assert code == 0
    assert "H100 " in result.stdout
    assert "The API server cannot be started.  Try: whim api logs" in result.stderr


def test_what_may_not_be_looked_at_is_shown_as_unknown(answer: list[dict[str, Any]]) -> None:
    answer.append(infra("k8s/a", machine("m1", "L4", 4, None)))
    lines = [line.split() for line in run()[1].stdout.splitlines()]
    assert ["k8s/a", "L4", "4", "1", "4", "?", "?", "now"] in lines
