"""`whim down`: removes clusters, each with its own outcome, and forgets only what was seen gone."""

from __future__ import annotations

import fnmatch
from typing import Any

import click

from whimbrel.cli.asking import confirm
from whimbrel.cli.main import show_error
from whimbrel.cli.output import print_json, progress
from whimbrel.client import sdk
from whimbrel.model.errors import NotFound, WhimError
from whimbrel.model.exitcodes import ExitCode


@click.command()
@click.argument("clusters", nargs=-1)
@click.option("-a", "--all", "all_clusters", is_flag=True, help="All clusters.")
@click.option(
    "-p", "--purge", is_flag=True, help="Forget the cluster even if its infrastructure cannot be reached."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def down(clusters: tuple[str, ...], all_clusters: bool, purge: bool, yes: bool, as_json: bool) -> int:
    """Remove CLUSTERS (names or globs). Their logs can still be read.

    What cannot be reached is kept, and the command says so. With --purge it is forgotten in any case; what may be
    left behind is named and kept as a tombstone.
    """
    if all_clusters == bool(clusters):
        raise click.UsageError("Name clusters, or pass --all.")
    names = _matching(clusters, all_clusters)
    if not names:
        click.echo("No clusters.", err=True)
        return int(ExitCode.OK)
    confirm(f"{'Purge' if purge else 'Remove'} {', '.join(names)}?", yes)
    submitted = {name: sdk.down(name, purge=purge) for name in names}
    outcomes: list[dict[str, Any]] = []
    worst = ExitCode.OK
    with progress(enabled=not as_json) as say:
        for name, request in submitted.items():
            try:
                output = request.result(_report(name, say), say)
                outcomes.append({"cluster": name, **output})
            except WhimError as error:
                outcomes.append({"cluster": name, "outcome": "kept", "error": error.to_wire()})
                worst = max(worst, error.exit_code)
    if as_json:
        print_json({"clusters": outcomes})
    else:
        _show(outcomes, purge)
    return int(worst)


def _matching(patterns: tuple[str, ...], all_clusters: bool) -> list[str]:
    known = [cluster["name"] for cluster in sdk.status()["clusters"]]
    if all_clusters:
        return known
    names: list[str] = []
    for pattern in patterns:
        matches = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            there = f"There are: {', '.join(known)}." if known else "There are none."
            raise NotFound(f"There is no cluster {pattern!r}. {there}", remedy="whim status")
        names += [name for name in matches if name not in names]
    return names


def _report(name: str, say: sdk.Say) -> Any:
    def on_event(frame: dict[str, Any]) -> None:
        if frame["kind"] in ("progress", "waiting"):
            say(f"{name}: {frame['data'].get('message', '')}")

    return on_event


def _show(outcomes: list[dict[str, Any]], purge: bool) -> None:
    words = {
        "removed": "removed",
        "already_gone": "was already gone; its record is closed",
        "forgotten": "forgotten",
    }
    for outcome in outcomes:
        name = outcome["cluster"]
        if "error" in outcome:
            click.secho(f"{name}: kept.", fg="yellow", err=True)
            error = outcome["error"]
            remedy = error.get("remedy") or ("" if purge else f"whim down --purge {name}")
            show_error(WhimError(error["message"], remedy=remedy))
            continue
        click.echo(f"{name}: {words.get(outcome.get('outcome', ''), outcome.get('outcome'))}.")
        if outcome.get("left"):
            click.secho("May be left behind, and may still cost money:", fg="yellow", err=True)
            for thing in outcome["left"]:
                click.echo(f"  {thing}", err=True)
