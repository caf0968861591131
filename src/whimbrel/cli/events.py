"""`whim events`: what happened to clusters, who asked for it, and how it ended: the audit log and the requests."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from whimbrel.client import sdk
from whimbrel.model.exitcodes import ExitCode


@click.command()
@click.argument("name", required=False)
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object on each line.")
def events(name: str | None, limit: int, follow: bool, as_json: bool) -> int:
    """Show what happened to clusters (to NAME, when it is given), also to those that are gone."""
    shown = 0
    try:
        for frame in sdk.events(name, limit=limit, follow_on=follow):
            shown += 1
            click.echo(json.dumps(_told(frame)) if as_json else _line(frame))
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    if not shown and not as_json:
        click.echo(
            "Nothing has happened yet." if name is None else f"Nothing is known of {name!r}.", err=True
        )
    return int(ExitCode.OK if shown or name is None else ExitCode.NOT_FOUND)


def _told(frame: dict[str, Any]) -> dict[str, Any]:
    """A line as programs read it."""
    names = ("at", "actor", "cluster", "what", "text", "request", "data")
    return {name: frame.get(name) for name in names}


def _line(frame: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(frame["at"]))
    request = f"  [{frame['request'][:8]}]" if frame.get("request") else ""
    return f"{at}  {frame['actor']}  {frame['cluster']}  {frame['text']}{request}"
