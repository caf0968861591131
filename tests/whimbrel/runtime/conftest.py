"""A node on this machine, under every shell that this machine has."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .local_node import SHELLS, LocalNode, kill_all, make_path


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """The shell under test."""
    return str(request.param)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short folder; whatever runs with its name in its environment ends with the test."""
    folder = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    yield folder
    kill_all(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def node(scratch: Path, shell: str) -> LocalNode:
    """A node whose sh is the shell under test."""
    home = scratch / "home"
    home.mkdir()
    return LocalNode(home, make_path(scratch / "bin", shell))
