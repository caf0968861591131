"""The commands that only look."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from kubesim.cluster.control import log_tail
from kubesim.cluster.errors import ClusterNotFound, RuntimeUnavailable
from kubesim.cluster.home import ClusterPaths, Home
from kubesim.cluster.inspect import Facts, State, look
from kubesim.cluster.pki import PkiFiles

_POLL = 0.2


def clusters(*, as_json: bool) -> None:
    """`kubesim get clusters`."""
    home = Home.from_environment()
    found = [(paths, look(paths)) for paths in map(home.cluster, home.names())]
    if as_json:
        click.echo(json.dumps([_as_json(paths, facts) for paths, facts in found], indent=2))
        return
    if not found:
        click.echo("There are no clusters. Create one: kubesim create cluster", err=True)
        return
    rows = [("NAME", "STATUS", "STORE", "NODE", "SERVER")]
    for paths, facts in found:
        record = facts.record
        rows.append(
            (
                paths.name,
                facts.state.value,
                record.store.value if record else "?",
                ("process" if record.process_node else "none") if record else "?",
                record.server if record else "?",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for paths, facts in found:
        for problem in facts.problems:
            click.echo(f"{paths.name}: {problem}", err=True)


def _as_json(paths: ClusterPaths, facts: Facts) -> dict[str, object]:
    record = facts.record
    return {
        "name": paths.name,
        "status": facts.state.value,
        "context": paths.context,
        "server": record.server if record else None,
        "store": record.store if record else None,
        "process_node": record.process_node if record else None,
        "kubeconfig": record.kubeconfig or None if record else None,
        "created_at": record.created_at if record else None,
        "pid": facts.daemon.pid if facts.daemon else None,
        "problems": list(facts.problems),
    }


def kubeconfig(name: str) -> None:
    """`kubesim get kubeconfig`."""
    # both bring YAML along, which listing clusters does not need
    import yaml

    from kubesim.cluster import contexts

    paths = Home.from_environment().cluster(name)
    facts = look(paths, probe=False)
    if facts.state is State.ABSENT:
        raise _absent(name)
    if facts.record is None or PkiFiles(paths.pki).missing():
        raise RuntimeUnavailable(
            f"Cluster {name!r} is not available: " + ("; ".join(facts.problems) or "it is not complete"),
            remedy=f"Repeat its creation, or delete it: kubesim delete cluster --name {name}",
        )
    click.echo(yaml.safe_dump(contexts.whole(paths, facts.record), sort_keys=False), nl=False)


def logs(name: str, *, follow: bool, tail: int | None) -> None:
    """`kubesim logs`."""
    paths = Home.from_environment().cluster(name)
    if not paths.log.exists():
        failed = Home.from_environment().root / f"{name}.failed.log"
        if paths.root.is_dir() or not failed.exists():
            raise (
                _absent(name)
                if not paths.root.is_dir()
                else ClusterNotFound(f"The daemon of cluster {name!r} has not written anything yet.")
            )
        click.echo(f"Cluster {name!r} could not be created; this is the log of the attempt.", err=True)
        click.echo(log_tail(failed, tail or 1_000_000))
        return
    if tail is not None:
        click.echo(log_tail(paths.log, tail))
        _follow(paths.log, paths.log.stat().st_size, follow)
    else:
        _follow(paths.log, 0, follow)


def _follow(path: Path, offset: int, follow: bool) -> None:
    """Print the file from `offset`, and go on while it grows; a rotated log is read from its beginning."""
    output = sys.stdout.buffer
    while True:
        try:
            size = path.stat().st_size
        except FileNotFoundError:  # the cluster was deleted
            return
        offset = 0 if size < offset else offset
        if size > offset:
            with path.open("rb") as file:
                file.seek(offset)
                while chunk := file.read(65536):
                    output.write(chunk)
                    offset += len(chunk)
            output.flush()
        if not follow:
            return
        time.sleep(_POLL)


def _absent(name: str) -> ClusterNotFound:
    return ClusterNotFound(f"There is no cluster {name!r}.", remedy="See what there is: kubesim get clusters")
