"""`kubesim snapshot`: the words around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kubesim.cluster.home import Home
from kubesim.cluster.snapshot import commands


def _say(line: str) -> None:
    click.echo(line, err=True)


def _kinds(filters: Sequence[str]) -> list[str]:
    return [name.strip() for given in filters for name in given.split(",") if name.strip()]


def save(name: str, *, path: str, form: str, filters: Sequence[str]) -> None:
    """`kubesim snapshot save`."""
    target = Path(path).expanduser().absolute()
    commands.save(Home.from_environment(), name, target, form, _kinds(filters))
    _say(f"Saved cluster {name!r} to {target}.")


def restore(name: str, *, path: str, filters: Sequence[str]) -> None:
    """`kubesim snapshot restore`."""
    commands.restore(Home.from_environment(), name, Path(path).expanduser().absolute(), _kinds(filters), _say)


def export(
    *, path: str, filters: Sequence[str], context: str | None, kubeconfig: str | None, page_size: int
) -> None:
    """`kubesim snapshot export`."""
    target = Path(path).expanduser().absolute()
    file = Path(kubeconfig).expanduser() if kubeconfig else None
    commands.export(target, _kinds(filters), context=context, kubeconfig=file, page_size=page_size)
    _say(f"Saved to {target}.")
