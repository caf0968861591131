"""`whim logs`: what a job printed, followed while it runs, kept after `down`; ends with SkyPilot's codes 100 to 103."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import Any

import click

from whimbrel.cli.output import next_steps, print_json
from whimbrel.client import sdk
from whimbrel.model.exitcodes import ExitCode

_OUTCOMES = {
    "SUCCEEDED": ExitCode.OK,
    "FAILED": ExitCode.JOB_FAILED,
    "FAILED_DRIVER": ExitCode.JOB_FAILED,
    "CANCELLED": ExitCode.JOB_CANCELLED,
    "CANCELLING": ExitCode.JOB_CANCELLED,
}

WAIT_SHOWN = 1.5
"""Seconds for which a job may wait in the queue before that is worth a line."""


@click.command()
@click.argument("cluster")
@click.argument("job_id", type=int, required=False)
@click.option("--follow/--no-follow", default=True, help="Go on while the job runs (the default).")
@click.option("--tail", type=click.IntRange(0), help="Only the last N lines of what is there (0: all).")
@click.option("--status", "only_status", is_flag=True, help="Print the job's status instead of its log.")
@click.option("--json", "as_json", is_flag=True, help="With --status: print JSON.")
def logs(
    cluster: str, job_id: int | None, follow: bool, tail: int | None, only_status: bool, as_json: bool
) -> int:
    """Show the log of JOB_ID of CLUSTER (of the newest job, when none is named)."""
    if only_status:
        frames = list(sdk.logs(cluster, job_id, follow_log=False, tail=0))
        end = frames[-1]
        if as_json:
            print_json({key: end.get(key) for key in ("job_id", "status", "exit_codes", "reason")})
        else:
            click.echo(f"Job {end['job_id']}: {end['status']}")
        return int(outcome(end))
    return int(
        show(cluster, job_id, sdk.logs(cluster, job_id, follow_log=follow, tail=tail or None, say=_say))
    )


def _say(message: str) -> None:
    click.secho(f"... {message}", err=True, dim=True)


def show(cluster: str, job_id: int | None, frames: Iterable[dict[str, Any]]) -> ExitCode:
    """Print a job's log as it comes; Ctrl-C detaches and leaves the job alone."""
    end: dict[str, Any] = {}
    waiting: threading.Timer | None = None
    open_line = False
    try:
        for frame in frames:
            if waiting:
                waiting.cancel()
            if frame["kind"] == "log":
                sys.stdout.write(frame["text"])
                sys.stdout.flush()
                open_line = not frame["text"].endswith("\n")
            elif frame["kind"] == "status" and frame.get("status") == "PENDING":
                reason = frame.get("reason") or "in the queue of its cluster"
                waiting = threading.Timer(WAIT_SHOWN, _say, [f"the job waits: {reason}"])
                waiting.daemon = True
                waiting.start()
            elif frame["kind"] == "waiting":
                _say(str(frame["message"]))
            elif frame["kind"] == "end":
                end = frame
    except KeyboardInterrupt:
        number = job_id or end.get("job_id") or ""
        click.echo(f"\nDetached; the job goes on at {cluster}.", err=True)
        next_steps(
            ("come back:", f"whim logs {cluster} {number}".rstrip()),
            ("end the job:", f"whim cancel {cluster} {number}".rstrip()),
        )
        return ExitCode.INTERRUPTED
    if open_line:
        click.echo(err=True)  # the hints that follow begin on a line of their own; stdout stays as it is
    code = outcome(end)
    if code is ExitCode.JOB_NOT_FINISHED:
        click.secho(f"Job {end.get('job_id')} has not finished: {end.get('status')}.", err=True, dim=True)
    elif code is not ExitCode.OK:
        reason = f": {end['reason']}" if end.get("reason") else "."
        click.secho(f"Job {end.get('job_id')} {end.get('status')}{reason}", fg="red", err=True)
    return code


def outcome(end: dict[str, Any]) -> ExitCode:
    """The exit code for the last frame of a job's log."""
    return _OUTCOMES.get(str(end.get("status")), ExitCode.JOB_NOT_FINISHED)
