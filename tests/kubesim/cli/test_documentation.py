"""What the pages say is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from kubesim.apiserver.faults.kinds import KINDS
from kubesim.apiserver.faults.presets import PRESETS
from kubesim.cli.main import cli
from kubesim.cluster import errors
from kubesim.cluster.exitcodes import ExitCode

PROJECT = Path(__file__).parents[3]
DOCS = PROJECT / "docs" / "kubesim"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
        else:
            found.append((" ".join((*path, name)), command))
    return found


def test_the_table_of_exit_codes_is_the_registry() -> None:
    source = (PROJECT / "src" / "kubesim" / "cluster" / "exitcodes.py").read_text()
    meanings = dict(re.findall(r"^    (\w+) = \d+  # (.*)$", source, re.MULTILINE))
    expected = [f"| {code.value} | {code.name} | {meanings[code.name]} |" for code in ExitCode]
    page = (DOCS / "exit-codes.md").read_text()
    assert [line for line in page.splitlines() if re.match(r"\| \d", line)] == expected


def test_every_command_and_option_is_documented() -> None:
    page = (DOCS / "README.md").read_text() + (DOCS / "faults.md").read_text()
    missing = [path for path, _ in commands(cli) if f"kubesim {path}" not in page]
    for path, command in commands(cli):
        for parameter in command.params:
            options = [one for one in parameter.opts if one.startswith("--")]
            missing += [f"{path} {one}" for one in options if one not in page]
    assert missing == []


def test_every_fault_and_what_can_be_said_about_it_is_documented() -> None:
    page = (DOCS / "faults.md").read_text()
    choices = {
        choice for kind in KINDS.values() for one in kind.parameters.values() for choice in one.choices
    }
    assert [name for name in (*KINDS, *PRESETS) if f"| `{name}` |" not in page] == []
    assert [
        choice for choice in choices if f"`{choice}`" not in page and f"--how {choice}`" not in page
    ] == []


@pytest.mark.parametrize("kind", errors.ClusterError.__subclasses__())
def test_every_error_has_a_sentence_and_a_code(kind: type[errors.ClusterError]) -> None:
    assert kind().message.endswith(".")
    assert kind.exit_code is not ExitCode.OK
    assert f"── {kind.__name__}" in str(errors.__doc__)


@pytest.mark.parametrize("path", [path for path, _ in commands(cli)])
def test_every_command_explains_itself(path: str) -> None:
    command: click.Command = cli
    for name in path.split():
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
