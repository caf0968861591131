"""`whim endpoints`, also `whim status --endpoints`: where a cluster's ports can be reached, and how old that is."""

from __future__ import annotations

from typing import Any

import click

from whimbrel.cli.output import age, print_json, print_table, progress
from whimbrel.client import sdk
from whimbrel.model.errors import NotFound, WhimError, from_wire
from whimbrel.model.exitcodes import ExitCode


@click.command()
@click.argument("cluster")
@click.argument("port", type=int, required=False)
@click.option("-r", "--refresh", is_flag=True, help="Ask the infrastructure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def endpoints(cluster: str, port: int | None, refresh: bool, as_json: bool) -> int:
    """Show where the ports of CLUSTER can be reached; with PORT, only that address."""
    return show(cluster, port, refresh=refresh, as_json=as_json)


def show(cluster: str, port: int | None, *, refresh: bool, as_json: bool) -> int:
    """Print them.

    Raises:
        NotFound: the cluster does not open that port, or any.
    """
    with progress(enabled=refresh and not as_json) as say:
        if refresh:
            say("asking the infrastructure")
        answer = sdk.status([cluster], refresh=refresh)
    for error in answer.get("errors", ()):
        raise from_wire(error["error"])
    (row,) = answer["clusters"]
    found: list[dict[str, Any]] = [one for one in row["endpoints"] if port in (None, one["port"])]
    if not found:
        what = f"the port {port}" if port is not None else "any port"
        raise NotFound(
            f"The cluster {cluster} does not open {what}.", remedy="set `resources.ports` in its task"
        )
    if as_json:
        print_json({"endpoints": found, "observed_at": row["endpoints_at"]})
        return int(ExitCode.OK)
    if port is None:
        seen = age(row["endpoints_at"])
        print_table(
            ["PORT", "ENDPOINT", "SEEN", "NOTE"],
            [[one["port"], one["url"], seen, one["note"]] for one in found],
        )
        return int(ExitCode.OK)
    if not found[0]["url"]:
        raise WhimError(
            f"The port {port} of {cluster} cannot be reached yet: {found[0]['note']}.",
            remedy=f"whim endpoints {cluster} {port} --refresh",
        )
    click.echo(found[0]["url"])
    if found[0]["note"]:
        click.echo(found[0]["note"], err=True)
    return int(ExitCode.OK)
