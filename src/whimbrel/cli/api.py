"""`whim api`: the API server of this machine, and the requests that it works on."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from whimbrel.cli.output import age, breaker, duration, next_steps, print_json, print_table, progress
from whimbrel.client import sdk
from whimbrel.client.home import whimbrel_home
from whimbrel.model.errors import NotFound
from whimbrel.model.exitcodes import ExitCode


@click.group()
def api() -> None:
    """Start, stop and inspect the API server."""


@api.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def start(as_json: bool) -> None:
    """Start the API server (every command that needs it does so by itself)."""
    with progress(enabled=not as_json) as say:
        found = sdk.api_start(say)
    _print_info(found, as_json)


@api.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stop(as_json: bool) -> None:
    """Stop the API server. Jobs go on; what the server was doing is carried on by the next one."""
    with progress(enabled=not as_json) as say:
        say("stopping the API server")
        stopped = sdk.api_stop()
    if as_json:
        print_json({"stopped": stopped})
    else:
        click.echo("The API server is stopped." if stopped else "The API server was not running.")


@api.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> int:
    """Show pid, version, address and state of the API server. Starts nothing."""
    found = sdk.api_info()
    if found is None:
        if as_json:
            print_json({"pid": None, "version": None, "address": None, "state": "stopped"})
        else:
            click.echo("The API server is not running.")
            next_steps(("start it:", "whim api start"))
        return int(ExitCode.SERVER)
    _print_info(found, as_json)
    return int(ExitCode.OK)


def _print_info(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for key in ("state", "pid", "version", "address", "home"):
        click.echo(f"{key + ':':<9} {found.get(key)}")
    for name, state in (found.get("infras") or {}).items():
        if state["breaker"] != "closed":
            click.secho(f"{name}: {breaker(state)}", fg="yellow")


@api.command()
@click.option("-l", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(limit: int, as_json: bool) -> None:
    """Show the latest requests."""
    found = sdk.requests(limit)
    if as_json:
        print_json({"requests": found})
        return
    if not found:
        click.echo("No requests.")
        return
    print_table(
        ["ID", "KIND", "SUBJECT", "STATE", "AGE", "DURATION"],
        [
            [
                request["id"][:8],
                request["kind"],
                request["subject"],
                request["state"],
                age(request.get("created_at")),
                duration(request.get("created_at"), request.get("finished_at")),
            ]
            for request in found
        ],
    )


def _request(prefix: str) -> sdk.Request:
    matches = [request["id"] for request in sdk.requests(1000) if request["id"].startswith(prefix)]
    if len(matches) != 1:
        count = f"{len(matches)} requests begin" if matches else "No request begins"
        raise NotFound(f"{count} with {prefix!r}.", remedy="whim api status")
    return sdk.Request(matches[0])


@api.command()
@click.argument("request_id")
def cancel(request_id: str) -> None:
    """Cancel a request (the first letters of its id are enough)."""
    request = _request(request_id)
    request.cancel()
    click.echo(f"Cancelling {request.id}.")
    next_steps(("see it end:", f"whim api logs {request.id[:8]}"))


@api.command()
@click.argument("request_id", required=False)
@click.option("--follow/--no-follow", default=False, help="Go on with what comes.")
@click.option("--tail", type=click.IntRange(0), default=200, show_default=True, help="Only the last N lines.")
def logs(request_id: str | None, follow: bool, tail: int) -> None:
    """Show the server's own log, or what happened in one request."""
    if request_id is None:
        _server_log(follow, tail)
        return
    for frame in _request(request_id).events():
        if frame["kind"] == "log":
            click.echo(frame["data"].get("text", ""), nl=False)
        elif frame["kind"] == "end":
            click.echo(f"{frame['state']}" + (f": {frame['error']['message']}" if frame.get("error") else ""))
        else:
            click.echo(f"{frame['kind']}: {frame['data'].get('message') or frame['data']}")


def _server_log(follow: bool, tail: int) -> None:
    path = whimbrel_home() / "server.log"
    if not path.exists():
        raise NotFound("There is no server log yet.", remedy="whim api start")
    log = path.open(errors="replace")
    try:
        lines = log.readlines()
        click.echo("".join(lines[len(lines) - tail :] if tail else []), nl=False)
        while follow:
            line = log.readline()
            if line:
                click.echo(line, nl=False)
            elif path.exists() and not os.path.samestat(path.stat(), os.fstat(log.fileno())):
                log.close()
                log = path.open(errors="replace")  # the server has begun a new file
            else:
                time.sleep(0.2)
    finally:
        log.close()
