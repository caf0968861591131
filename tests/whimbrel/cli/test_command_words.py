"""A command that is typed without quotes: what is clear is done, what is not is refused with the way to say it."""

from __future__ import annotations

from typing import Any

import click
import pytest

from whimbrel.cli.launch import exec_, launch


def _read(command: click.Command, *args: str) -> dict[str, Any]:
    with command.make_context("x", list(args)) as context:
        return context.params


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (("c", "ls -la"), "ls -la"),
        (("c", "ls", "-la"), "ls -la"),
        (("c", "python", "train.py", "--lr", "0.1"), "python train.py --lr 0.1"),
        (("c", "bash", "-x", "run me.sh"), "bash -x 'run me.sh'"),
        (("c", "echo", "a", "&&", "echo", "b"), "echo a && echo b"),
        (("c", "--", "head", "-n", "5", "a file"), "head -n 5 'a file'"),
        (("c", "--", "echo $HOME; ls"), "echo $HOME; ls"),
        (("c", "--", "echo", "$HOME"), "echo '$HOME'"),
        (("c", "ls", "--", "-d", "x"), "ls -d x"),
    ],
)
def test_the_words_of_a_command_become_one(args: tuple[str, ...], command: str) -> None:
    """Words with spaces stay words; after two dashes everything is passed on as it stands."""
    assert " ".join(_read(exec_, *args)["entrypoint"]) == command
    assert " ".join(_read(launch, "-c", *args)["entrypoint"]) == command


def test_options_of_whim_may_stand_on_both_sides() -> None:
    """As with SkyPilot."""
    read = _read(exec_, "-d", "c", "--cpus", "2", "hostname", "-n", "name")
    assert (read["detach"], read["cpus"], read["name"], read["entrypoint"]) == (
        True,
        "2",
        "name",
        ("hostname",),
    )
    read = _read(exec_, "c", "task.yaml", "--num-nodes", "2", "--env", "A=b")
    assert (read["num_nodes"], read["envs"], read["entrypoint"]) == (2, ("A=b",), ("task.yaml",))
    assert _read(launch, "-c", "x", "echo", "hi", "-y")["yes"] is True


@pytest.mark.parametrize("words", [("head", "-n", "5", "file"), ("python", "x.py", "-d", "--lr", "1")])
def test_what_could_be_either_is_refused_with_the_way_to_say_it(words: tuple[str, ...]) -> None:
    """`-n` is the job's name for whim and the number of lines for head."""
    with pytest.raises(click.UsageError) as caught:
        _read(exec_, "c", *words)
    assert f"-- {' '.join(words)}" in caught.value.message


def test_a_mistyped_option_before_the_command_is_still_one() -> None:
    """Not the beginning of a command."""
    with pytest.raises(click.NoSuchOption):
        _read(launch, "--num-node-s", "2", "true")
    with pytest.raises(click.NoSuchOption):
        _read(exec_, "c", "task.yaml", "--num-node-s", "2")
