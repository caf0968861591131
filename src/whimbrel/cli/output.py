"""What all commands print alike: tables that fit the screen, ages, JSON, and progress on stderr.

Results go to stdout, everything else to stderr, so that output can be piped. rich is imported only where a table or
a spinner is really shown.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

Say = Callable[[str], None]

_SHRINK = {"REASON", "WHY NOT", "RESOURCES", "ACCELERATORS", "INFRA", "VERSION", "SUBJECT"}
"""Columns that give way on a narrow screen; the others are what a person types next."""


def print_json(data: Any) -> None:
    """Data for programs."""
    click.echo(json.dumps(data, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, err: bool = False) -> None:
    """Rows under headings, cut to the width of the screen; whole where there is no screen."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    stream = sys.stderr if err else sys.stdout
    cells = [["-" if cell in (None, "") else str(cell) for cell in row] for row in rows]
    width = shutil.get_terminal_size((80, 24)).columns
    if not stream.isatty():
        width = max(width, sum(max(map(len, column)) + 2 for column in zip(columns, *cells, strict=True)))
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0)
    )
    for name, *column in zip(columns, *cells, strict=True):
        whole = None if name in _SHRINK else max(map(len, (name, *column)))
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=whole)
    for row in cells:
        table.add_row(*row)
    Console(width=width, file=stream, highlight=False, markup=False, emoji=False).print(table)


def age(at: float | None, now: float | None = None) -> str:
    """How long ago a UNIX time was: `12s`, `3m`, `5h`, `2d`."""
    if at is None:
        return "-"
    seconds = max(0, int((now or time.time()) - at))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def duration(start: float | None, end: float | None) -> str:
    """How long something took, or has been going on."""
    return "-" if start is None else age(start, end or time.time())


def breaker(state: Mapping[str, Any]) -> str:
    """How the circuit breaker of an infrastructure stands: `open, tried again in 12 s: it did not answer`."""
    wait = state.get("retry_in") or 0.0
    when = f"tried again in {wait:.0f} s" if wait >= 1 else "tried again at the next call"
    return f"{state['breaker']}, {when}" + (f": {state['reason']}" if state.get("reason") else "")


def resources_text(resources: Mapping[str, Any] | None) -> str:
    """What each node or rank has: `4 CPU, 16Gi, H100:8`."""
    given = resources or {}
    parts = []
    if given.get("cpus"):
        parts.append(f"{given['cpus']:g} CPU")
    if given.get("memory_gib"):
        parts.append(f"{given['memory_gib']:g}Gi")
    if given.get("accelerators"):
        parts.append(str(given["accelerators"]))
    if given.get("gpus"):
        parts.append(f"{given['gpus']:g} GPU")
    return ", ".join(parts)


def next_steps(*steps: tuple[str, str]) -> None:
    """What to type next, as aligned lines on stderr."""
    width = max(len(what) for what, _ in steps)
    for what, command in steps:
        click.secho(f"  {what:<{width}}  {command}", err=True, dim=True)


@contextmanager
def progress(enabled: bool = True) -> Iterator[Say]:
    """Say what is waited for: one line that changes on a terminal, a line each elsewhere."""
    if not enabled:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        last = ""

        def line(message: str) -> None:
            nonlocal last
            if message != last:
                last = message
                click.echo(f"... {message}", err=True)

        yield line
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with console.status("", spinner="dots") as status:

        def update(message: str) -> None:
            from rich.text import Text

            status.update(Text(message))

        yield update
