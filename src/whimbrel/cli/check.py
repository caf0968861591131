"""`whim check`: every infrastructure asked side by side, with the reason and the remedy for each that is not usable."""

from __future__ import annotations

from typing import Any

import click

from whimbrel.cli.output import next_steps, print_json, print_table, progress
from whimbrel.client import sdk
from whimbrel.model.exitcodes import ExitCode


@click.command()
@click.argument("infra", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(infra: tuple[str, ...], as_json: bool) -> int:
    """Ask INFRA (`k8s/CONTEXT`, `local`; all of them, when none is named) whether it can be used."""
    with progress(enabled=not as_json) as say:
        say("asking every infrastructure")
        answer = sdk.check_all(infra, say)
    results = answer["results"]
    if as_json:
        print_json(answer)
    else:
        _show(results)
        for error in answer["errors"]:
            click.secho(str(error["message"]), fg="yellow", err=True)
            if error.get("remedy"):
                click.echo(f"  Try: {error['remedy']}", err=True)
    usable = any(result["usable"] for result in results)
    return int(ExitCode.OK if usable or not (infra or results) else ExitCode.UNREACHABLE)


def _show(results: list[dict[str, Any]]) -> None:
    if not results:
        click.echo("No Kubernetes context is known; `whim launch` runs on this machine.")
        next_steps(("start it now:", "whim local up"))
        return
    print_table(
        ["INFRA", "USABLE", "BREAKER", "VERSION", "NODES", "CPUS", "MEMORY", "ACCELERATORS"],
        [
            [
                result["infra"],
                "yes" if result["usable"] else "no",
                result.get("breaker"),
                result.get("version"),
                result.get("nodes"),
                f"{result['cpus']:g}" if result.get("cpus") is not None else None,
                f"{result['memory_gib']:.0f}Gi" if result.get("memory_gib") is not None else None,
                ", ".join(f"{name}:{count}" for name, count in (result.get("accelerators") or {}).items()),
            ]
            for result in results
        ],
    )
    for result in results:
        if not result["usable"]:
            reason = str(result["reason"])  # which names the place, where it comes from there
            said = reason if reason.startswith(result["infra"]) else f"{result['infra']}: {reason}"
            click.secho(said, fg="yellow", err=True)
            if result.get("remedy"):
                click.echo(f"  Try: {result['remedy']}", err=True)
        elif result.get("leftovers"):
            count = result["leftovers"]
            click.secho(
                f"{result['infra']}: {count} purged cluster{'s' * (count != 1)} may have left something there: "
                f"whim reap {result['infra']}",
                fg="yellow",
                err=True,
            )
