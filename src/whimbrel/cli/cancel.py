"""`whim cancel`: the intent is written at once; the cluster's queue acts on it."""

from __future__ import annotations

import click

from whimbrel.cli.asking import confirm
from whimbrel.cli.output import next_steps, print_json
from whimbrel.client import sdk


@click.command()
@click.argument("cluster")
@click.argument("job_ids", nargs=-1, type=int)
@click.option("-a", "--all", "all_jobs", is_flag=True, help="All jobs that wait or run.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cancel(cluster: str, job_ids: tuple[int, ...], all_jobs: bool, yes: bool, as_json: bool) -> None:
    """Cancel JOB_IDS of CLUSTER (the newest job that has not ended, when none is named)."""
    if job_ids and all_jobs:
        raise click.UsageError("Name job ids or pass --all, not both.")
    what = "all jobs" if all_jobs else f"job {', '.join(map(str, job_ids))}" if job_ids else "the newest job"
    confirm(f"Cancel {what} of {cluster}?", yes)
    cancelled = sdk.cancel(cluster, job_ids or None, all=all_jobs)
    if as_json:
        print_json({"cluster": cluster, "cancelled": cancelled})
    elif cancelled:
        click.echo(f"Cancelling job {', '.join(map(str, cancelled))} of {cluster}.")
        next_steps(("see it end:", f"whim queue {cluster}"))
    else:
        click.echo(f"Nothing to cancel: no job of {cluster} waits or runs.")
