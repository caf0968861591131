"""Which clusters a command is about: names, globs, or all; and what became of each, told alike by all commands."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import click

from whimbrel.client import sdk
from whimbrel.model.errors import NotFound

_GLOB = frozenset("*?[")


def choose(patterns: Sequence[str], all_clusters: bool) -> list[str]:
    """The names that are meant, each once. A plain name need not be known here: the server may know more of it, as
    of a cluster that has just been removed.

    Raises:
        click.UsageError: neither names nor `--all`, or both.
        NotFound: a glob that matches nothing.
    """
    if all_clusters == bool(patterns):
        raise click.UsageError("Name clusters, or pass --all.")
    known = [cluster["name"] for cluster in sdk.status()["clusters"]]
    if all_clusters:
        return known
    names: list[str] = []
    for pattern in patterns:
        if not _GLOB.isdisjoint(pattern):
            matches = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
            if not matches:
                there = f"There are: {', '.join(known)}." if known else "There are none."
                raise NotFound(f"No cluster is called like {pattern!r}. {there}", remedy="whim status")
        else:
            matches = [pattern]
        names += [name for name in matches if name not in names]
    return names


def follow_progress(name: str, say: sdk.Say) -> Callable[[dict[str, Any]], None]:
    """Tell what a request is waiting for, after the name that it is about."""

    def on_event(frame: dict[str, Any]) -> None:
        if frame["kind"] in ("progress", "waiting"):
            say(f"{name}: {frame['data'].get('message', '')}")

    return on_event


def summary(counts: dict[str, int]) -> str:
    """`3 removed, 1 kept`; what there is none of is left out."""
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
