"""The commands that change a cluster, and what they say while they do."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from kubesim.cli.main import say_error
from kubesim.cluster import contexts
from kubesim.cluster import create as creating
from kubesim.cluster import delete as deleting
from kubesim.cluster import stop as stopping
from kubesim.cluster.errors import ClusterConflict, ClusterError
from kubesim.cluster.exitcodes import ExitCode
from kubesim.cluster.home import Home
from kubesim.cluster.record import StoreKind


def _say(line: str) -> None:
    click.echo(line, err=True)


def create(
    name: str,
    *,
    wait: float | None,
    process_node: bool,
    audit: bool,
    store: str,
    port: int,
    kubeconfig: str | None,
    make_current: bool,
    snapshot: str | None,
    as_json: bool,
) -> None:
    """`kubesim create cluster`."""
    began = time.monotonic()
    file = contexts.default_file() if kubeconfig is None else kubeconfig
    wanted = creating.Wanted(
        name=name,
        store=StoreKind(store),
        process_node=process_node,
        audit=audit,
        port=port,
        kubeconfig=str(Path(file).expanduser().absolute()) if file else "",
        make_current=make_current,
        wait=wait,
    )
    home = Home.from_environment()
    created = _from_snapshot(home, wanted, snapshot) if snapshot else creating.create(home, wanted, _say)
    record, context = created.record, home.cluster(name).context
    if as_json:
        found = {
            "name": record.name,
            "context": context,
            "server": record.server,
            "kubeconfig": record.kubeconfig or None,
            "store": record.store,
            "process_node": record.process_node,
            "existed": created.existed,
        }
        click.echo(json.dumps(found, indent=2))
        return
    if not created.existed:
        _say(f"Created cluster {name!r} in {time.monotonic() - began:.1f} s.")
    _say(
        f"Use it with: kubectl --context {context} get pods -A"
        if record.kubeconfig
        else f"It serves {record.server}"
    )


def _from_snapshot(home: Home, wanted: creating.Wanted, snapshot: str) -> creating.Created:
    """A new cluster that holds what the file does; one that exists is left alone."""
    from kubesim.cluster.snapshot import (
        commands,
    )  # brings the API server along, which other commands do without

    file = Path(snapshot).expanduser().absolute()
    commands.refuse_unusable(file, wanted.store)
    created = creating.create(home, wanted, _say)
    if created.existed:
        raise ClusterConflict(
            f"Cluster {wanted.name!r} exists already; nothing was restored into it.",
            remedy=f"Do that with: kubesim snapshot restore --name {wanted.name} --path {file}",
        )
    commands.restore(home, wanted.name, file, (), _say)
    return created


def start(name: str, *, wait: float | None) -> None:
    """`kubesim start cluster`."""
    record = creating.start(Home.from_environment(), name, wait, _say)
    _say(f"Cluster {record.name!r} runs.")


def stop(name: str, *, force: bool) -> None:
    """`kubesim stop cluster`."""
    stopping.stop(Home.from_environment(), name, force=force, say=_say)
    _say(f"Cluster {name!r} is stopped.")


def delete(name: str, *, every: bool, force: bool, yes: bool) -> None:
    """`kubesim delete cluster`; with `every`, one cluster that cannot be deleted does not keep the others."""
    home = Home.from_environment()
    errors: list[ClusterError] = []
    names = home.names() if every else [name]
    if every and names and not yes:
        _agree(names)
    for one in names:
        try:
            outcome = deleting.delete(home, one, force=force, say=_say)
        except ClusterError as error:
            if not every:
                raise
            say_error(error)
            errors.append(error)
            continue
        if outcome is deleting.Outcome.WAS_GONE:
            _say(f"There is no cluster {one!r}: nothing to delete.")
        else:
            _say(f"Deleted cluster {one!r}.")
    if not names:
        _say("There are no clusters: nothing to delete.")
    if errors:
        worst = max(errors, key=lambda error: error.exit_code)
        summary = type(worst)(
            f"{len(errors)} of {len(names)} clusters could not be deleted.", remedy=worst.remedy
        )
        raise summary


def _agree(names: list[str]) -> None:
    """Say which clusters "all" are, because others may have made them; a person at a terminal is asked."""
    what = f"all clusters of this machine: {', '.join(names)}"
    if not sys.stdin.isatty():
        _say(f"Deleting {what}.")
    elif not click.confirm(f"Delete {what}?", err=True):
        _say("Nothing was deleted.")
        raise click.exceptions.Exit(ExitCode.FAILED)
