"""The entry point of `whim`: a lazy group of commands, and the one place where errors become words and exit codes.

`whim --help` imports no command: the table below holds their one-line helps. A command's module is imported when
that command is typed, and brings only what it needs.
"""

from __future__ import annotations

import errno
import importlib
import sys
from typing import NoReturn

import click

import whimbrel
from whimbrel.cli import stdio
from whimbrel.model.errors import WhimError
from whimbrel.model.exitcodes import ExitCode

_COMMANDS: dict[str, tuple[str, str]] = {
    "launch": ("whimbrel.cli.launch:launch", "Run a task: make a cluster, sync files, set up, run."),
    "exec": ("whimbrel.cli.launch:exec_", "Run a task or command on a cluster that is up."),
    "status": ("whimbrel.cli.status:status", "Show clusters."),
    "queue": ("whimbrel.cli.queue:queue", "Show the jobs of clusters."),
    "logs": ("whimbrel.cli.logs:logs", "Show what a job printed, also after down."),
    "cancel": ("whimbrel.cli.cancel:cancel", "Cancel jobs of a cluster."),
    "stop": ("whimbrel.cli.down:stop", "Stop clusters (not on Kubernetes)."),
    "down": ("whimbrel.cli.down:down", "Remove clusters."),
    "reap": ("whimbrel.cli.reap:reap", "Remove what purged clusters left behind."),
    "events": ("whimbrel.cli.events:events", "Show what happened to clusters."),
    "volumes": ("whimbrel.cli.volumes:volumes", "Make, list and delete volumes."),
    "endpoints": ("whimbrel.cli.endpoints:endpoints", "Show where the ports of a cluster can be reached."),
    "cp": ("whimbrel.cli.cp:cp", "Copy files to or from a cluster."),
    "check": ("whimbrel.cli.check:check", "Show which infrastructure can be used."),
    "gpus": ("whimbrel.cli.gpus:gpus", "Show which accelerators there are."),
    "local": ("whimbrel.cli.local:local", "Start or remove the Kubernetes on this machine."),
    "api": ("whimbrel.cli.api:api", "Start, stop and inspect the API server."),
}


_ALIASES = {"show-gpus": "whimbrel.cli.gpus:list_"}
"""Names of SkyPilot's that people type; they are not shown."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which a newcomer meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        where = _ALIASES.get(cmd_name) or _COMMANDS.get(cmd_name, ("", ""))[0]
        if not where:
            return None
        module, _, attribute = where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and with the nearest known name for one that is mistyped."""
        if args and args[0] not in (*_COMMANDS, *_ALIASES) and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"There is no command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands with their helps from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in _COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: whim launch -c hello 'echo hello'",
)
@click.version_option(whimbrel.__version__, "-V", "--version", message="whimbrel %(version)s")
def cli() -> None:
    """Run AI and batch jobs on Kubernetes, and keep running when it does not."""


def show_error(error: WhimError) -> None:
    """The error and what mends it, on stderr."""
    click.secho(f"Error: {error.message}", fg="red", err=True)
    for index, line in enumerate((error.remedy or "").splitlines()):
        click.echo(f"  {'Try:' if index == 0 else '    '} {line}", err=True)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run `whim`; ends the process with a code of `ExitCode`."""
    stdio.reopen_closed()
    try:
        code = _run(argv)
    except OSError:  # not even the error could be told
        code = int(ExitCode.FAILED)
    sys.exit(_delivered(code))


def _run(argv: list[str] | None) -> int:
    """The exit code of the command; its errors are told."""
    try:
        result = cli.main(args=argv, prog_name="whim", standalone_mode=False)
        return result if isinstance(result, int) else int(ExitCode.OK)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except WhimError as error:
        show_error(error)
        return int(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("\nInterrupted.", err=True)
        return int(ExitCode.INTERRUPTED)
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
