"""`whim cp`: files to a cluster and back, with scp's way of naming the other side."""

from __future__ import annotations

from pathlib import Path

import click

from whimbrel.cli.output import next_steps, print_json, progress
from whimbrel.client import sdk
from whimbrel.model.errors import InvalidTask
from whimbrel.model.exitcodes import ExitCode

_NAMED = 10
"""How many of the things that were left out are named."""


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cp(source: str, target: str, as_json: bool) -> int:
    """Copy SOURCE to TARGET; one of them is CLUSTER:PATH, on the cluster's first node.

    A relative PATH is relative to the task's working directory. What is neither a file nor a directory, and links
    that lead out of what is copied, are left out and named.

    \b
    whim cp digits:model.npz .
    whim cp data/ digits:data
    """
    if "-" in (source, target):
        raise click.UsageError(
            "`-` is not a file here (a file of that name: ./-). To print one: whim exec CLUSTER 'cat PATH'"
        )
    remote_source, remote_target = _remote(source), _remote(target)
    if bool(remote_source) == bool(remote_target):
        raise click.UsageError(
            "Exactly one of SOURCE and TARGET must be CLUSTER:PATH (a local path with a colon: ./a:b)."
        )
    with progress(enabled=not as_json) as say:
        say(f"copying {source} to {target}")
        if remote_source:
            result = sdk.copy_from(*remote_source, Path(target))
        else:
            local = Path(source)
            if not local.exists():
                raise InvalidTask(
                    f"There is no file or directory {source!r} here.", remedy=f"ls {local.parent}"
                )
            assert remote_target is not None
            result = sdk.copy_to(local, *remote_target)
    left = result["left_out"]
    if as_json:
        print_json(result)
    else:
        click.echo(f"Copied {_count(result['files'], 'file')}, {_size(result['bytes'])}.")
        for name in left[:_NAMED]:
            click.secho(
                f"Left out, because it is no file, directory or link inside: {name}", fg="yellow", err=True
            )
        if len(left) > _NAMED:
            click.secho(f"Left out: {len(left) - _NAMED} more like that", fg="yellow", err=True)
        if remote_target:
            next_steps(("look at it:", f"whim exec {remote_target[0]} 'ls -l'"))
    return int(ExitCode.FAILED if left else ExitCode.OK)


def _remote(text: str) -> tuple[str, str] | None:
    cluster, colon, path = text.partition(":")
    if not colon or "/" in cluster or not cluster:
        return None
    return cluster, path or "."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
