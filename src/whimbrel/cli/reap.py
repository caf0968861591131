"""`whim reap`: look for what purged clusters left behind, show what is really there, and remove it after a question."""

from __future__ import annotations

from typing import Any

import click

from whimbrel.cli.asking import confirm
from whimbrel.cli.choosing import follow_progress
from whimbrel.cli.output import print_json, progress
from whimbrel.client import sdk
from whimbrel.model.exitcodes import ExitCode


@click.command()
@click.argument("infra", nargs=-1)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dryrun", is_flag=True, help="Only show what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reap(infra: tuple[str, ...], yes: bool, dryrun: bool, as_json: bool) -> int:
    """Find and remove what purged clusters left in INFRA (everywhere, when none is named).

    Looks by names and by labels, and only in the cluster that was recorded, whatever its context is called now. What
    does not answer is listed, and keeps its tombstone.
    """
    with progress(enabled=not as_json) as say:
        say("looking for leftovers")
        found = sdk.leftovers(infra)
    away = [one for one in found if one["error"]]
    seen = [one for one in found if not one["error"]]
    if not as_json:
        _show_found(found, seen, away)
    there = [thing for one in seen for thing in one["there"]]
    outcomes: list[dict[str, Any]] = []
    if seen and not dryrun:
        if there:
            confirm(f"Remove {len(there)} thing{'s' * (len(there) != 1)}?", yes)
        with progress(enabled=not as_json) as say:
            output = sdk.reap(seen).result(follow_progress("reap", say), say)
        outcomes = output["tombstones"]
    if as_json:
        print_json({"found": seen, "unreachable": away, "outcomes": outcomes})
    else:
        for outcome in outcomes:
            _show_outcome(outcome)
    failed = any(outcome["outcome"] in ("kept", "left_behind") for outcome in outcomes)
    if failed:
        return int(ExitCode.LEFT_BEHIND)
    return int(ExitCode.UNREACHABLE if away else ExitCode.OK)


def _show_found(found: list[dict[str, Any]], seen: list[dict[str, Any]], away: list[dict[str, Any]]) -> None:
    if not found:
        click.echo("No tombstones: nothing was purged here that was not seen gone.")
    for one in seen:
        title = f"{one['name']} ({one['id']}) in {one['infra']}"
        click.echo(f"{title}: {'still there:' if one['there'] else 'nothing of it is left.'}")
        for thing in one["there"]:
            click.echo(f"  {thing}")
        for thing in one["strangers"]:
            click.secho(
                f"  {thing} has a name of ours and no label of ours; it is left alone: look with kubectl",
                fg="yellow",
                err=True,
            )
    for one in away:
        click.secho(
            f"{one['name']} ({one['id']}): not looked for. {one['error']['message']}", fg="yellow", err=True
        )
        if one["error"].get("remedy"):
            click.echo(f"  Try: {one['error']['remedy']}", err=True)


def _show_outcome(outcome: dict[str, Any]) -> None:
    title = f"{outcome['name']} ({outcome['id']})"
    if outcome["outcome"] == "reaped":
        click.echo(f"{title}: removed from {outcome['infra']}.")
    elif outcome["outcome"] == "nothing_left":
        click.echo(f"{title}: its tombstone is closed.")
    else:
        click.secho(f"{title}: tombstone kept: {outcome.get('reason')}.", fg="yellow", err=True)
        for thing in outcome["left"]:
            click.echo(f"  {thing}", err=True)
