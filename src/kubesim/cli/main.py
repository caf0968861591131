"""`kubesim`: the commands, their options and what they print.

Every command imports what it does when it runs, so that `--help` costs only click. An error is its message and its
remedy on standard error and a code of the registry (`kubesim.cluster.exitcodes`); results go to standard output.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from kubesim import __version__
from kubesim.cli import stdio
from kubesim.cli.durations import Seconds
from kubesim.cli.fault import fault
from kubesim.cluster.errors import ClusterError
from kubesim.cluster.exitcodes import ExitCode
from kubesim.cluster.home import DEFAULT_NAME

Command = Callable[..., Any]


_name = click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the cluster.")
_wait = click.option(
    "--wait", type=Seconds(), help="Wait until the cluster is ready, at most so long (30s, 2m)."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="kubesim")
def cli() -> None:
    """A Kubernetes on this machine: API server, scheduler, controllers, and nodes that run pods as processes."""


@cli.group()
def create() -> None:
    """Create a cluster."""


@create.command("cluster")
@_name
@_wait
@click.option(
    "--process-node", is_flag=True, help="Make this machine a node that runs pods as local processes."
)
@click.option(
    "--store",
    type=click.Choice(["memory", "durable"]),
    default="durable",
    show_default=True,
    help="Keep objects in memory only, or on disk (an answered write survives a crash).",
)
@click.option(
    "--audit", is_flag=True, help="Write a line for each request to requests.log in the cluster's folder."
)
@click.option("--port", default=0, help="Port of the API server.  [default: a free one]")
@click.option("--kubeconfig", help="File that gets the context; '' for none.  [default: as kubectl]")
@click.option(
    "--keep-current-context", is_flag=True, help="Leave the current context as it is if there is one."
)
@click.option("--snapshot", help="Restore this file into the new cluster.")
@_json
def create_cluster(
    name: str,
    wait: float | None,
    process_node: bool,
    audit: bool,
    store: str,
    port: int,
    kubeconfig: str | None,
    keep_current_context: bool,
    snapshot: str | None,
    as_json: bool,
) -> None:
    """Create a cluster and start it, or carry on with an interrupted creation."""
    from kubesim.cli import life

    life.create(
        name,
        wait=wait,
        process_node=process_node,
        audit=audit,
        store=store,
        port=port,
        kubeconfig=kubeconfig,
        make_current=not keep_current_context,
        snapshot=snapshot,
        as_json=as_json,
    )


@cli.group()
def get() -> None:
    """Show clusters, or a cluster's kubeconfig."""


@get.command("clusters")
@_json
def get_clusters(as_json: bool) -> None:
    """List the clusters and the state that they are in."""
    from kubesim.cli import views

    views.clusters(as_json=as_json)


@get.command("kubeconfig")
@_name
def get_kubeconfig(name: str) -> None:
    """Print a kubeconfig that holds this cluster only."""
    from kubesim.cli import views

    views.kubeconfig(name)


@cli.group()
def start() -> None:
    """Start a cluster that was stopped or has died."""


@start.command("cluster")
@_name
@_wait
def start_cluster(name: str, wait: float | None) -> None:
    """Start the cluster; one that runs already is left as it is."""
    from kubesim.cli import life

    life.start(name, wait=wait)


@cli.group()
def stop() -> None:
    """Stop a cluster and keep its data."""


@stop.command("cluster")
@_name
@click.option("--force", is_flag=True, help="Kill what does not end by itself.")
def stop_cluster(name: str, force: bool) -> None:
    """End the daemon and the processes of all pods; the data stays."""
    from kubesim.cli import life

    life.stop(name, force=force)


@cli.group()
def delete() -> None:
    """Delete clusters."""


@delete.command("cluster")
@click.option("--name", help=f"Name of the cluster.  [default: {DEFAULT_NAME}]")
@click.option("--all", "every", is_flag=True, help="Delete all clusters.")
@click.option("--force", is_flag=True, help="Remove everything, even if its runtime is not available.")
@click.option("-y", "--yes", is_flag=True, help="With --all: do not ask.")
def delete_cluster(name: str | None, every: bool, force: bool, yes: bool) -> None:
    """Delete a cluster: its processes, its kubeconfig context, its data.

    If the data cannot be read, or a process does not answer or end, everything is kept unless --force is given.
    --all names the clusters, also those that other programs made (`local` is whim's), and asks where it can.
    """
    from kubesim.cli import life

    if name is not None and every:
        raise click.UsageError("Give --name or --all, not both.")
    life.delete(name or DEFAULT_NAME, every=every, force=force, yes=yes)


_path = click.option("--path", required=True, help="The file; one that ends in .gz is compressed.")
_filter = click.option(
    "--filter", "filters", multiple=True, help="Only these kinds, separated by commas (format k8s)."
)


def _form(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if value == "etcd":
        raise click.BadParameter("kubesim has no etcd; the whole store is saved by: full")
    if value not in ("full", "k8s"):
        raise click.BadParameter(f"{value!r} is neither full nor k8s")
    return value


@cli.group()
def snapshot() -> None:
    """Save what a cluster holds, and bring it back."""


@snapshot.command("save")
@_name
@_path
@click.option(
    "--format",
    "form",
    default="full",
    show_default=True,
    callback=_form,
    help="full: the whole store at one revision; k8s: objects as YAML, as kwokctl saves them.",
)
@_filter
def snapshot_save(name: str, path: str, form: str, filters: tuple[str, ...]) -> None:
    """Save a cluster, which goes on meanwhile; a stopped one can be saved too."""
    from kubesim.cli import snapshot as snapshots

    snapshots.save(name, path=path, form=form, filters=filters)


@snapshot.command("restore")
@_name
@_path
@_filter
def snapshot_restore(name: str, path: str, filters: tuple[str, ...]) -> None:
    """Restore a snapshot, whichever form it has.

    A full one replaces all that the cluster holds. Objects (format k8s, or kwokctl's) are added to what is there, and
    replace what has the same name; the controllers stand still meanwhile.
    """
    from kubesim.cli import snapshot as snapshots

    snapshots.restore(name, path=path, filters=filters)


@snapshot.command("export")
@_path
@_filter
@click.option("--kubeconfig", help="The kubeconfig to read.  [default: as kubectl]")
@click.option("--context", help="The context to use.  [default: the current one]")
@click.option(
    "--page-size", type=click.IntRange(min=1), default=500, show_default=True, help="Objects per request."
)
def snapshot_export(
    path: str, filters: tuple[str, ...], kubeconfig: str | None, context: str | None, page_size: int
) -> None:
    """Save the objects of any Kubernetes cluster (format k8s)."""
    from kubesim.cli import snapshot as snapshots

    snapshots.export(path=path, filters=filters, context=context, kubeconfig=kubeconfig, page_size=page_size)


@cli.command("logs")
@_name
@click.option("-f", "--follow", is_flag=True, help="Go on as the log grows, until Ctrl-C.")
@click.option("--tail", type=click.IntRange(min=0), help="Only the last lines.")
def logs(name: str, follow: bool, tail: int | None) -> None:
    """Print the log of a cluster's daemon."""
    from kubesim.cli import views

    views.logs(name, follow=follow, tail=tail)


@cli.command(
    "kubectl",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@_name
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(name: str, arguments: tuple[str, ...]) -> int:
    """Run kubectl against a cluster: kubesim kubectl --name dev -- get pods.

    kubectl's own help: kubesim kubectl -- --help.
    """
    from kubesim.cli import passthrough

    return passthrough.kubectl(name, arguments)


cli.add_command(fault)


def main() -> NoReturn:
    """Run a command and exit with its code."""
    stdio.reopen_closed()
    try:
        code = _run()
    except OSError:  # not even the error could be told
        code = int(ExitCode.FAILED)
    sys.exit(_delivered(code))


def _run() -> int:
    """The exit code of the command; its errors are told."""
    try:
        result = cli.main(prog_name="kubesim", standalone_mode=False)
        return result if isinstance(result, int) else int(ExitCode.OK)
    except click.UsageError as error:
        error.show()
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. Repeat the command to finish its work.", err=True)
        return int(ExitCode.INTERRUPTED)
    except ClusterError as error:
        say_error(error)
        return int(error.exit_code)
    except (BrokenPipeError, SystemExit):  # click ends the process when the reader of our output has left
        stdio.give_up(1)
        return int(ExitCode.OUTPUT_CLOSED)
    except OSError as error:
        stdio.undelivered()  # said once
        click.echo(f"Error: {stdio.words(error)}.", err=True)
        return int(ExitCode.FAILED)


def _delivered(code: int) -> int:
    """The code, unless what the command printed did not get out."""
    problem = stdio.undelivered()
    if problem is None:
        return code
    if problem.errno == errno.EPIPE:  # the reader left (`| head -1`): there is nobody to tell
        return int(ExitCode.OUTPUT_CLOSED)
    click.echo(f"Error: {stdio.words(problem)}.", err=True)
    return code or int(ExitCode.FAILED)


def say_error(error: ClusterError) -> None:
    """Message and remedy."""
    click.echo(f"Error: {error.message}", err=True)
    if error.remedy:
        click.echo(f"  {error.remedy}", err=True)
