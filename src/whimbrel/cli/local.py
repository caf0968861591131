"""`whim local`: the Kubernetes that comes with whimbrel, on this machine."""

from __future__ import annotations

from typing import Any

import click

from whimbrel.cli.asking import confirm
from whimbrel.cli.output import next_steps, print_json, progress
from whimbrel.client import sdk


@click.group()
def local() -> None:
    """Start or remove the Kubernetes on this machine."""


@local.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def up(as_json: bool) -> None:
    """Start it. `whim launch` does so by itself when there is no other infrastructure."""
    with progress(enabled=not as_json) as say:
        output = sdk.local_up(say).result(_report(say), say)
    if as_json:
        print_json(output)
        return
    context = output.get("context", "kubesim-local")
    click.echo(f"Kubernetes runs on this machine, as context {context}.")
    next_steps(
        ("run something:", "whim launch --infra local 'echo hello'"),
        ("look at it:", f"kubectl --context {context} get pods -A -o wide"),
        ("remove it:", "whim local down"),
    )


@local.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def down(yes: bool, as_json: bool) -> None:
    """Remove it, with everything that runs there."""
    if not as_json:
        names = [
            cluster["name"] for cluster in sdk.status()["clusters"] if "kubesim-local" in cluster["infra"]
        ]
        if names:
            confirm(f"Remove the Kubernetes on this machine, and with it {', '.join(names)}?", yes)
    with progress(enabled=not as_json) as say:
        output = sdk.local_down().result(_report(say), say)
    if as_json:
        print_json(output)
        return
    click.echo("The Kubernetes on this machine is removed.")
    for name in output.get("clusters") or ():
        click.echo(f"  {name} went with it; its logs can still be read")


def _report(say: sdk.Say) -> Any:
    def on_event(frame: dict[str, Any]) -> None:
        if frame["kind"] in ("progress", "waiting"):
            say(str(frame["data"].get("message", "")))

    return on_event
