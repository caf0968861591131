"""`whim launch` and `whim exec`: say what will be done, do it, show the job's output, and end with its outcome."""

from __future__ import annotations

import sys
from typing import Any

import click

from whimbrel.cli import logs
from whimbrel.cli.asking import confirm
from whimbrel.cli.command_words import TakesClusterAndCommand, TakesCommand
from whimbrel.cli.output import next_steps, print_json, print_table, progress
from whimbrel.cli.relaunching import relaunch
from whimbrel.cli.task_options import read_task, task_options
from whimbrel.client import sdk
from whimbrel.model.errors import WhimError
from whimbrel.model.exitcodes import ExitCode


@click.command(cls=TakesCommand)
@click.argument("entrypoint", nargs=-1)
@click.option("-c", "--cluster", help="Name of the cluster; one of that name that is up is used again.")
@click.option("-d", "--detach-run", "detach", is_flag=True, help="Return when the job is queued.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--down", "autodown", is_flag=True, help="Remove the cluster when its jobs have ended.")
@click.option("--dryrun", is_flag=True, help="Show the plan, and do nothing.")
@click.option(
    "--from-history",
    "reference",
    metavar="NAME[@ID]",
    help="Launch again what a cluster (also one that is gone) or a request was launched with.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the plan, or what was started.")
@task_options
def launch(
    entrypoint: tuple[str, ...],
    cluster: str | None,
    detach: bool,
    yes: bool,
    autodown: bool,
    dryrun: bool,
    reference: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Run a task: make a cluster, sync files, set up, run.

    ENTRYPOINT is a task's YAML file, or a command; what follows two dashes (--) is the command as it stands.

    \b
    whim launch -c train task.yaml
    whim launch -c try --gpus H100:1 'nvidia-smi'
    whim launch --from-history train
    """
    if cluster == "" or (entrypoint and not " ".join(entrypoint).strip()):
        what = "--cluster" if cluster == "" else "The command"
        raise click.UsageError(f"{what} is empty; is a variable not set?")
    if reference:
        task, past = relaunch(reference, entrypoint, given)
        cluster, files, autodown = cluster or past["name"], past["files"], autodown or past["down"]
    else:
        task, files = read_task(entrypoint, given), None
    with progress(enabled=not as_json) as say:
        plan = sdk.plan(task, cluster, say)
    name = str(plan["cluster"])
    if as_json and dryrun:
        print_json(plan)
        return int(ExitCode.OK)
    if not as_json:
        _show_plan(plan, err=not dryrun)
    if dryrun:
        click.echo("Dry run: nothing was started.", err=True)
        return int(ExitCode.OK)
    verb = "Run it on" if plan.get("exists") else "Launch"
    confirm(f"{verb} {name}?", yes)
    chosen = next((offer["infra"] for offer in plan.get("offers", ()) if offer.get("chosen")), None)
    with progress(enabled=not as_json) as say:
        request = sdk.launch(task, name, down=autodown, infra=chosen, files=files, say=say)
    return _follow(name, request, detach, as_json, "The launch goes on.")


@click.command("exec", cls=TakesClusterAndCommand)
@click.argument("cluster")
@click.argument("entrypoint", nargs=-1, required=True)
@click.option("-d", "--detach-run", "detach", is_flag=True, help="Return when the job is queued.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: what was started.")
@task_options
def exec_(cluster: str, entrypoint: tuple[str, ...], detach: bool, as_json: bool, **given: Any) -> int:
    """Run a task or command on CLUSTER, which is up: its workdir is synced, its setup is not run.

    \b
    whim exec train task.yaml
    whim exec train 'python eval.py'
    whim exec train -- ls -la
    """
    task = read_task(entrypoint, given)
    with progress(enabled=not as_json) as say:
        request = sdk.exec(task, cluster, say=say)
    return _follow(cluster, request, detach, as_json, "It goes on.")


def _show_plan(plan: dict[str, Any], *, err: bool) -> None:
    if plan.get("exists"):
        click.echo(f"Cluster {plan['cluster']} is up and is used again.", err=True)
        return
    rows = [
        [
            "->" if offer.get("chosen") else "",
            offer["infra"],
            plan["num_nodes"],
            f"{offer['cpus']:g}" if offer.get("cpus") is not None else None,
            f"{offer['memory_gib']:g}" if offer.get("memory_gib") is not None else None,
            offer.get("accelerators"),
            f"${offer['hourly_price']:.2f}" if offer.get("hourly_price") else "-",
            offer.get("note", "") if offer.get("feasible") else offer.get("reason", ""),
        ]
        for offer in plan.get("offers", ())
    ]
    print_table(["", "INFRA", "NODES", "CPUS", "MEM(GB)", "GPUS", "$/HOUR", "WHY NOT"], rows, err=err)
    if plan.get("local_will_start"):
        click.echo("No Kubernetes is running: one will be started on this machine (`local`).", err=True)


def _follow(cluster: str, request: sdk.Request, detach: bool, as_json: bool, goes_on: str) -> int:
    try:
        output = _await(request, as_json)
    except KeyboardInterrupt:
        click.echo(f"\nDetached. {goes_on}", err=True)
        next_steps(
            ("come back:", f"whim api logs {request.id[:8]}"),
            ("then:", f"whim logs {cluster}"),
            ("cancel it:", f"whim api cancel {request.id[:8]}"),
        )
        return int(ExitCode.INTERRUPTED)
    job = output.get("job_id")
    if as_json:
        print_json({"request_id": request.id, **output})
    if job is None:
        if not as_json:
            click.echo(f"Cluster {cluster} is up.", err=True)
            next_steps(
                ("run something:", f"whim exec {cluster} 'echo hello'"),
                ("remove it:", f"whim down {cluster}"),
            )
        return int(ExitCode.OK)
    if detach or as_json:
        if not as_json:
            click.echo(f"Job {job} is queued on {cluster}.", err=True)
            _come_back(cluster, job)
        return int(ExitCode.OK)
    code = logs.show(cluster, job, sdk.logs(cluster, job))
    if code is ExitCode.OK:
        click.echo(f"Job {job} of {cluster} succeeded.", err=True)
        _come_back(cluster, job)
    return int(code)


def _come_back(cluster: str, job: int) -> None:
    next_steps(
        ("its log:", f"whim logs {cluster} {job}"),
        ("run more:", f"whim exec {cluster} 'command'"),
        ("remove it:", f"whim down {cluster}"),
    )


def _await(request: sdk.Request, as_json: bool) -> dict[str, Any]:
    """Show what is waited for, and what setup prints, until the request has ended."""
    with progress(enabled=not as_json) as say:

        def on_event(frame: dict[str, Any]) -> None:
            data = frame.get("data") or {}
            if frame["kind"] in ("progress", "waiting"):
                say(str(data.get("message", "")))
            elif frame["kind"] == "log" and not as_json:
                sys.stderr.write(str(data.get("text", "")))
                sys.stderr.flush()

        try:
            return request.result(on_event, say)
        except WhimError as error:
            error.remedy = error.remedy or f"whim api logs {request.id[:8]}"
            raise
