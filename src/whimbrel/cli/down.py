"""`whim down` and `whim stop`: many clusters at once, each with its own outcome.

`down` forgets only what was seen gone. `stop` is refused on Kubernetes, by name, with what to do instead.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from whimbrel.cli.asking import confirm
from whimbrel.cli.choosing import choose, follow_progress, summary
from whimbrel.cli.main import show_error
from whimbrel.cli.output import next_steps, print_json, progress
from whimbrel.client import sdk
from whimbrel.model.errors import WhimError
from whimbrel.model.exitcodes import ExitCode

_WORDS = {
    "removed": "removed",
    "already_gone": "was already gone; its record is closed",
    "forgotten": "forgotten, without having been seen gone",
}
_COUNTED = {"removed": "removed", "already_gone": "already gone", "forgotten": "forgotten", "kept": "kept"}


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
    left behind is named and kept as a tombstone: see `whim reap`.
    """
    names = choose(clusters, all_clusters)
    if not names:
        if as_json:
            print_json({"clusters": []})
        click.echo("No clusters.", err=True)
        return int(ExitCode.OK)
    confirm(f"{'Purge' if purge else 'Remove'} {', '.join(names)}?", yes)
    outcomes: list[dict[str, Any]] = []
    worst = ExitCode.OK
    with progress(enabled=not as_json) as say:
        for name, request in _submitted(names, purge).items():
            try:
                if isinstance(request, WhimError):
                    raise request
                output = request.result(follow_progress(name, say), say)
                outcomes.append({"cluster": name, **output})
            except WhimError as error:
                outcomes.append({"cluster": name, "outcome": "kept", "error": error.to_wire()})
                worst = max(worst, error.exit_code)
    if as_json:
        print_json({"clusters": outcomes})
        return int(worst)
    for outcome in outcomes:
        _show(outcome)
    if len(outcomes) > 1:
        counts = Counter(outcome["outcome"] for outcome in outcomes)
        click.echo(summary({word: counts[key] for key, word in _COUNTED.items()}) + ".", err=True)
    return int(worst)


def _submitted(names: list[str], purge: bool) -> dict[str, sdk.Request | WhimError]:
    """All of them are asked for before any is waited for; a name that is refused costs the others nothing."""
    requests: dict[str, sdk.Request | WhimError] = {}
    for name in names:
        try:
            requests[name] = sdk.down(name, purge=purge)
        except WhimError as error:
            requests[name] = error
    return requests


def _show(outcome: dict[str, Any]) -> None:
    name = outcome["cluster"]
    error = outcome.get("error")
    if error:
        if error["code"] != "NotFound":
            click.secho(f"{name}: kept.", fg="yellow", err=True)
        show_error(WhimError(error["message"], remedy=error.get("remedy")))
        for thing in (error.get("details") or {}).get("left", ()):
            click.echo(f"  still there: {thing}", err=True)
        return
    click.echo(f"{name}: {_WORDS.get(outcome.get('outcome', ''), outcome.get('outcome'))}.")
    if outcome.get("outcome") != "forgotten":
        return
    click.secho(f"  {outcome['reason']}", fg="yellow", err=True)
    if outcome.get("left"):
        infra = outcome.get("infra", "")
        click.secho(f"  May be left behind in {infra}, and may still cost money:", fg="yellow", err=True)
        for thing in outcome["left"]:
            click.echo(f"    {thing}", err=True)
        next_steps(("when it answers again:", f"whim reap {infra}"))


@click.command()
@click.argument("clusters", nargs=-1)
@click.option("-a", "--all", "all_clusters", is_flag=True, help="All clusters.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stop(clusters: tuple[str, ...], all_clusters: bool, yes: bool, as_json: bool) -> int:
    """Stop CLUSTERS (names or globs): not on Kubernetes.

    A pod ends with its disk, so that there is nothing to start again. Each cluster is refused, with what there is
    instead.
    """
    names = choose(clusters, all_clusters)
    if not names:
        if as_json:
            print_json({"clusters": []})
        click.echo("No clusters.", err=True)
        return int(ExitCode.OK)
    confirm(f"Stop {', '.join(names)}?", yes)
    outcomes: list[dict[str, Any]] = []
    worst = ExitCode.OK
    for name in names:
        try:
            sdk.stop(name)
            outcomes.append({"cluster": name, "outcome": "stopped"})
        except WhimError as error:
            outcomes.append({"cluster": name, "outcome": "refused", "error": error.to_wire()})
            worst = max(worst, error.exit_code)
            if not as_json:
                show_error(error)
    if as_json:
        print_json({"clusters": outcomes})
    return int(worst)
