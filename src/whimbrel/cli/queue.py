"""`whim queue`: the jobs of clusters."""

from __future__ import annotations

import click

from whimbrel.cli.output import age, duration, next_steps, print_json, print_table, resources_text
from whimbrel.client import sdk


@click.command()
@click.argument("clusters", nargs=-1)
@click.option("-s", "--skip-finished", is_flag=True, help="Only jobs that wait or run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def queue(clusters: tuple[str, ...], skip_finished: bool, as_json: bool) -> None:
    """Show the jobs of CLUSTERS (of all that are up, when none is named)."""
    names = clusters or tuple(cluster["name"] for cluster in sdk.status()["clusters"])
    found = {name: sdk.queue(name) for name in names}
    if skip_finished:
        found = {name: [job for job in jobs if job.get("ended_at") is None] for name, jobs in found.items()}
    if as_json:
        print_json({"clusters": [{"name": name, "jobs": jobs} for name, jobs in found.items()]})
        return
    if not names:
        click.echo("No clusters.")
        return
    for index, (name, jobs) in enumerate(found.items()):
        if len(found) > 1:
            click.secho(("\n" if index else "") + name, bold=True)
        if not jobs:
            click.echo("No jobs.")
            next_steps(("run one:", f"whim exec {name} 'echo hello'"))
            continue
        print_table(
            ["ID", "NAME", "STATUS", "NODES", "RESOURCES", "SUBMITTED", "DURATION", "REASON"],
            [
                [
                    job["id"],
                    job.get("name"),
                    job["status"],
                    job["num_nodes"],
                    resources_text(job.get("resources")),
                    age(job["submitted_at"]),
                    duration(job.get("started_at"), job.get("ended_at")),
                    job.get("reason"),
                ]
                for job in jobs
            ],
        )
