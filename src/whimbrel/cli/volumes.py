"""`whim volumes`: storage that outlives clusters. A task mounts it by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from whimbrel.cli.asking import confirm
from whimbrel.cli.main import show_error
from whimbrel.cli.output import age, next_steps, print_json, print_table, progress
from whimbrel.client import sdk
from whimbrel.model.errors import WhimError
from whimbrel.model.exitcodes import ExitCode


@click.group()
def volumes() -> None:
    """Make, list and delete volumes."""


@volumes.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("-n", "--name", help="Name of the volume.")
@click.option("--infra", help="Where: k8s, or k8s/CONTEXT.")
@click.option("--type", "kind", help="k8s-pvc, which is the only one.")
@click.option("--size", help="100Gi, or 100 for the same.")
@click.option(
    "--use-existing/--no-use-existing", default=None, help="Use the claim of that name, which is there."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def apply(
    file: Path | None,
    name: str | None,
    infra: str | None,
    kind: str | None,
    size: str | None,
    use_existing: bool | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Make the volume of FILE, or of the options alone. Done when there is one like it already.

    \b
    whim volumes apply datasets.yaml
    whim volumes apply -n scratch --size 100Gi
    """
    from whimbrel.model.volume import load_volume, volume_of

    given = {"name": name, "infra": infra, "type": kind, "size": size, "use_existing": use_existing}
    volume = load_volume(file, given) if file is not None else volume_of(given)
    confirm(f"Make the volume {volume.name}?", yes)
    with progress(enabled=not as_json) as say:
        say(f"making the volume {volume.name}")
        output = sdk.volumes_apply(volume, say).result(_report(say), say)
    if as_json:
        print_json(output)
        return
    click.echo(
        f"The volume {output['volume']} is there: {output['claim']} in {output['infra']}, {output['phase']}."
    )
    next_steps(("mount it:", f"volumes: {{/mnt/data: {output['volume']}}}   # in a task"))


@volumes.command()
@click.option("-r", "--refresh", is_flag=True, help="Ask the infrastructure, and say what did not answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(refresh: bool, as_json: bool) -> int:
    """List volumes, with who uses them."""
    with progress(enabled=refresh and not as_json) as say:
        if refresh:
            say("asking the infrastructure")
        answer = sdk.volumes_ls(refresh=refresh)
    if as_json:
        print_json(answer)
    else:
        _show(answer["volumes"])
        for error in answer["errors"]:
            text = f"{error['volume']} ({error['infra']}): {error['error']['message']}"
            click.secho(text, fg="yellow", err=True)
    return int(ExitCode.UNREACHABLE if answer["errors"] else ExitCode.OK)


@volumes.command()
@click.argument("names", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="All volumes.")
@click.option("-p", "--purge", is_flag=True, help="Forget it even if its claim cannot be deleted.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def delete(names: tuple[str, ...], everything: bool, purge: bool, yes: bool, as_json: bool) -> int:
    """Delete volumes, and what is in them. One that a cluster has is kept, and the cluster is named."""
    if everything == bool(names):
        raise click.UsageError("Name volumes, or pass --all.")
    wanted = (
        [row["name"] for row in sdk.volumes_ls()["volumes"]] if everything else list(dict.fromkeys(names))
    )
    if not wanted:
        click.echo("No volumes.", err=True)
        return int(ExitCode.OK)
    confirm(f"Delete {', '.join(wanted)}, with what is in it?", yes)
    outcomes: list[dict[str, Any]] = []
    worst = ExitCode.OK
    with progress(enabled=not as_json) as say:
        for name in wanted:
            try:
                outcomes.append(sdk.volumes_delete(name, purge=purge).result(_report(say), say))
            except WhimError as error:
                outcomes.append({"volume": name, "outcome": "kept", "error": error.to_wire()})
                worst = max(worst, error.exit_code)
    if as_json:
        print_json({"volumes": outcomes})
    else:
        for outcome in outcomes:
            _tell(outcome)
    return int(worst)


def _show(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("No volumes.")
        next_steps(("make one:", "whim volumes apply -n data --size 100Gi"))
        return
    print_table(
        ["NAME", "STATUS", "SIZE", "MODE", "INFRA", "CLAIM", "USED BY", "SEEN"],
        [
            [
                row["name"],
                row["status"] + (f" ({row['phase']})" if row["phase"] else ""),
                row["size"],
                row["access_mode"],
                row["infra"],
                f"{row['namespace']}/{row['claim']}",
                ", ".join(row["used_by"]),
                age(row["observed_at"]),
            ]
            for row in rows
        ],
    )


def _tell(outcome: dict[str, Any]) -> None:
    name = outcome["volume"]
    if "error" in outcome:
        click.secho(f"{name}: kept.", fg="yellow", err=True)
        show_error(WhimError(outcome["error"]["message"], remedy=outcome["error"].get("remedy")))
        return
    if outcome["outcome"] == "released":
        click.echo(f"{name}: forgotten; its claim {outcome['claim']} was not made here and stays.")
        return
    click.echo(f"{name}: {outcome['outcome']}.")
    for left in outcome.get("left") or ():
        click.secho(f"  may be left behind, and may still cost money: {left}", fg="yellow", err=True)


def _report(say: sdk.Say) -> Any:
    def on_event(frame: dict[str, Any]) -> None:
        if frame["kind"] == "progress":
            say(str(frame["data"].get("message", "")))

    return on_event
