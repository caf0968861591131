"""Questions before what cannot be undone or costs something: asked of people, never of scripts."""

from __future__ import annotations

import sys

import click

from whimbrel.model.exitcodes import ExitCode


def confirm(question: str, yes: bool) -> None:
    """Go on only with a yes: from `--yes`, or typed at a terminal.

    Raises:
        click.UsageError: nobody can be asked.
        click.exceptions.Exit: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here; pass -y to go on.")
    if not click.confirm(question, default=True, err=True):
        click.echo("Nothing was done.", err=True)
        raise click.exceptions.Exit(int(ExitCode.FAILED))
