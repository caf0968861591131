"""A command that is typed without quotes: `whim exec c ls -la`. Which words are whim's, and which are the command's?

Options of ours may stand anywhere, as with SkyPilot. What follows the first word of the command and is no option of
ours belongs to the command, and after `--` everything does. Where it could be either, nothing is guessed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click


class TakesCommand(click.Command):
    """A command whose last argument is a task's YAML file or a shell command of any number of words."""

    arguments_before = 0
    """How many arguments come before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, after the command's own words have been put into one."""
        return super().parse_args(ctx, self._with_one_command(ctx, args))

    def _with_one_command(self, ctx: click.Context, args: list[str]) -> list[str]:
        head, after = _split(args)
        takes_value = {
            name: not getattr(option, "is_flag", False)
            for option in self.get_params(ctx)
            for name in option.opts
        }
        plain: list[int] = []  # where words stand that are no options
        ours: list[int] = []
        theirs: list[int] = []
        index = 0
        while index < len(head):
            word = head[index]
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            if len(word) < 2 or not word.startswith("-"):
                plain.append(index)
            elif name not in takes_value:
                theirs.append(index)
            else:
                ours.append(index)
                whole = "=" in word if word.startswith("--") else len(word) > 2
                index += takes_value[name] and not whole
            index += 1
        command = plain[self.arguments_before :]
        if not command:
            return [*head, "--", quoted(after)] if after and len(plain) == self.arguments_before else args
        if not after and head[command[0]].endswith((".yaml", ".yml")):
            return args
        begin = command[0]
        theirs = [index for index in theirs if index > begin]
        between = [index for index in ours if begin < index < max(command[-1], *theirs, 0)]
        if between:
            raise click.UsageError(_either(head[between[0]], head[begin:] + after), ctx)
        if not theirs and not after and len(command) == 1:
            return args
        words = [word for index, word in enumerate(head) if index in (*command, *theirs)]
        kept = [word for index, word in enumerate(head) if index not in (*command, *theirs)]
        return [*kept, "--", " ".join(map(_spaced, [*words, *after]))]


class TakesClusterAndCommand(TakesCommand):
    """The same after the name of a cluster."""

    arguments_before = 1


def quoted(words: Sequence[str]) -> str:
    """The words after `--` as a shell command: one is a command already, several are passed on as they are."""
    return words[0] if len(words) == 1 else shlex.join(words)


def _spaced(word: str) -> str:
    """A word among others; the shell at the other end shall see one that was typed as one."""
    return shlex.quote(word) if not word or any(character.isspace() for character in word) else word


def _split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    if "--" not in args:
        return list(args), []
    at = args.index("--")
    return list(args[:at]), list(args[at + 1 :])


def _either(option: str, words: Sequence[str]) -> str:
    return (
        f"{option} could be an option of whim or of the command. Put whim's options first and quote the command "
        f"('{' '.join(words)}'), or write it after two dashes: -- {' '.join(words)}"
    )
