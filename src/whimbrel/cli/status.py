"""`whim status`: clusters from the database, at once; `--refresh` asks the infrastructure, within a bound."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from whimbrel.cli.output import age, breaker, next_steps, print_json, print_table, progress, resources_text
from whimbrel.client import sdk
from whimbrel.model.errors import NotFound
from whimbrel.model.exitcodes import ExitCode


@click.command()
@click.argument("clusters", nargs=-1)
@click.option("-r", "--refresh", is_flag=True, help="Ask the infrastructure, and say what did not answer.")
@click.option("-v", "--verbose", is_flag=True, help="Show nodes, users and the last error too.")
@click.option("--tombstones", is_flag=True, help="Show what was purged and may have left something behind.")
@click.option("--endpoints", "ends", is_flag=True, help="Show where the ports of one cluster can be reached.")
@click.option("--endpoint", "port", type=int, help="Print where one port of one cluster can be reached.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(
    clusters: tuple[str, ...],
    refresh: bool,
    verbose: bool,
    tombstones: bool,
    ends: bool,
    port: int | None,
    as_json: bool,
) -> int:
    """Show clusters (all, or those named)."""
    if tombstones:
        return _tombstones(clusters, verbose, as_json)
    if ends or port is not None:
        from whimbrel.cli.endpoints import show

        if len(clusters) != 1:
            raise click.UsageError("Name one cluster, whose endpoints are wanted.")
        return show(clusters[0], port, refresh=refresh, as_json=as_json)
    with progress(enabled=refresh and not as_json) as say:
        if refresh:
            say("asking the infrastructure")
        answer = sdk.status(clusters, refresh=refresh)
    if as_json:
        print_json(answer)
    else:
        _show(answer["clusters"], verbose)
        for error in answer.get("errors", ()):
            click.secho(
                f"{error['cluster']} ({error['infra']}): {_message(error['error'])}", fg="yellow", err=True
            )
    missing = sorted(set(clusters) - {cluster["name"] for cluster in answer["clusters"]})
    if missing:
        raise NotFound(
            f"There is no cluster {', '.join(repr(name) for name in missing)}.", remedy="whim status"
        )
    return int(ExitCode.UNREACHABLE if answer.get("errors") else ExitCode.OK)


def _show(clusters: list[dict[str, Any]], verbose: bool) -> None:
    if not clusters:
        click.echo("No clusters.")
        next_steps(("start one:", "whim launch -c hello 'echo hello'"))
        return
    print_table(
        ["NAME", "STATUS", "INFRA", "NODES", "RESOURCES", "JOBS", "AGE", "SEEN"],
        [
            [
                cluster["name"],
                cluster["status"] + (" (down)" if cluster.get("autodown") else ""),
                cluster["infra"],
                cluster["num_nodes"],
                resources_text(cluster.get("resources")),
                _jobs(cluster.get("jobs") or {}),
                age(cluster.get("launched_at") or cluster["created_at"]),
                age(cluster.get("observed_at")),
            ]
            for cluster in clusters
        ],
    )
    for cluster in clusters:
        if verbose:
            click.echo(f"\n{cluster['name']}  user {cluster.get('user') or '-'}")
            for node in cluster.get("nodes") or ():
                click.echo(f"  rank {node['rank']}  {node['name']}  {node.get('ip') or '-'}")
        state = cluster.get("infra_state") or {"breaker": "closed"}
        if state["breaker"] != "closed":
            click.secho(f"{cluster['name']}: {cluster['infra']} is {breaker(state)}", fg="yellow", err=True)
        if cluster.get("last_error"):
            click.secho(f"{cluster['name']}: {_message(cluster['last_error'])}", fg="yellow", err=True)


def _tombstones(names: tuple[str, ...], verbose: bool, as_json: bool) -> int:
    """With `verbose` also those that were reaped, and each thing that may be left."""
    stones = [stone for stone in sdk.tombstones(reaped=verbose) if not names or stone["name"] in names]
    if as_json:
        print_json({"tombstones": stones})
        return int(ExitCode.OK)
    if not stones:
        click.echo("No tombstones.")
        return int(ExitCode.OK)
    print_table(
        ["NAME", "ID", "INFRA", "PURGED", "BY", "MAY BE LEFT"],
        [
            [
                stone["name"],
                stone["id"],
                stone["infra"],
                f"{age(stone['buried_at'])} ago",
                stone["buried_by"],
                f"reaped {age(stone['reaped_at'])} ago" if stone["reaped_at"] else _kinds(stone["left"]),
            ]
            for stone in stones
        ],
    )
    for stone in stones:
        if verbose:
            click.echo(f"\n{stone['name']} ({stone['id']}): {stone['reason']}")
        for thing in stone["left"] if verbose else ():
            click.echo(f"  {thing['kind']} {thing['namespace']}/{thing['name']}")
    next_steps(("see what is really there:", "whim reap"))
    return int(ExitCode.OK)


def _kinds(left: list[dict[str, Any]]) -> str:
    counts = Counter(thing["kind"] for thing in left)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _jobs(jobs: dict[str, int]) -> str:
    running, pending = jobs.get("running", 0), jobs.get("pending", 0)
    return f"{running} running" + (f", {pending} waiting" if pending else "") if running or pending else "-"


def _message(error: Any) -> str:
    return str(error.get("message")) if isinstance(error, dict) else str(error)
