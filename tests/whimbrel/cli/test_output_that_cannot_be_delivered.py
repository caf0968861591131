"""A full or closed standard output costs one line or none, never a traceback: of both commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "help of whim": ("whimbrel", "--help"),
    "whim api info": ("whimbrel", "api", "info", "--json"),
    "help of kubesim": ("kubesim", "--help"),
    "kubesim get clusters": ("kubesim", "get", "clusters", "--json"),
}


def _shell(what: str, redirection: str, home: Path) -> subprocess.CompletedProcess[str]:
    module, *arguments = COMMANDS[what]
    line = f"set -o pipefail; {sys.executable} -m {module} {' '.join(arguments)} {redirection}"
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("what", COMMANDS)
def test_a_full_output_is_one_line_and_a_failure(what: str, tmp_path: Path) -> None:
    """What was asked for did not happen."""
    done = _shell(what, "> /dev/full", tmp_path)
    assert done.stderr == "Error: The output could not be written: No space left on device.\n"
    assert done.returncode != 0


@pytest.mark.parametrize("what", COMMANDS)
def test_a_reader_that_has_left_is_told_nothing(what: str, tmp_path: Path) -> None:
    """The code is what shells give to a program that a closed pipe has ended."""
    done = _shell(what, "| true", tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("what", COMMANDS)
def test_a_closed_output_is_nobodys_business(what: str, tmp_path: Path) -> None:
    """As for any program: nothing is printed, and no file of ours gets the number of a standard stream."""
    done = _shell(what, "<&- >&-", tmp_path)
    assert "Traceback" not in done.stderr
    assert done.returncode == (10 if what == "whim api info" else 0)


def test_not_even_an_error_that_cannot_be_told_is_a_traceback(tmp_path: Path) -> None:
    """Both streams full: the code says it."""
    assert _shell("help of whim", ">/dev/full 2>/dev/full", tmp_path).returncode == 1
