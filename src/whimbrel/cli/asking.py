"""Questions before what cannot be undone or costs something: asked of people, never of scripts."""

from __future__ import annotations

import sys

import click


def confirm(question: str, yes: bool) -> None:
    """Go on only with a yes: from `--yes`, or typed at a terminal.

    Raises:
        click.UsageError: nobody can be asked.
        click.Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here; pass -y to go on.")
    click.confirm(question, default=True, abort=True, err=True)
