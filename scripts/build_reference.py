"""Write the pages of docs/reference that come from the code; `--check` only says whether they are up to date.

A page that is generated says so in its first lines. The tests run this with `--check`.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
NOTE = "<!-- Written by scripts/build_reference.py (`make docs`); edit the code instead. -->\n\n"


def _commands(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=" ".join(path))
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _commands(child, (*path, name))


def command_line(title: str, group: click.Command, program: str) -> str:
    """The help of a command and of everything below it."""
    parts = [f"{NOTE}# {title}\n"]
    for path, command in _commands(group, (program,)):
        context = click.Context(command, info_name=" ".join(path), terminal_width=80, max_content_width=80)
        parts.append(f"\n## {' '.join(path)}\n\n```text\n{command.get_help(context)}\n```\n")
    return "".join(parts)


def exit_codes() -> str:
    """The registry of exit codes, with the comment of each member."""
    module = importlib.import_module("whimbrel.model.exitcodes")
    rows = re.findall(r"^    ([A-Z_]+) = (\d+)  # (.+)$", inspect.getsource(module.ExitCode), re.MULTILINE)
    assert len(rows) == len(module.ExitCode), "every exit code has a comment"
    lines = [f"| {number} | `{name}` | {text} |" for name, number, text in rows]
    return (
        f"{NOTE}# Exit codes of whim\n\n0 only when what was asked for happened. 100 to 103 are SkyPilot's.\n\n"
        "| code | name | meaning |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n"
    )


def errors() -> str:
    """Every error class, with its sentence and its exit code."""
    module = importlib.import_module("whimbrel.model.errors")

    def walk(kind: type, depth: int) -> Iterator[str]:
        sentence = (kind.__doc__ or "").strip().splitlines()[0]
        yield f"| {'&nbsp;' * 4 * depth}`{kind.__name__}` | {sentence} | {int(kind.exit_code)} | {kind.http_status} |"  # type: ignore[attr-defined]
        for child in kind.__subclasses__():
            yield from walk(child, depth + 1)

    head = "| error | says, when nothing more is known | exit code | HTTP |\n| --- | --- | --- | --- |\n"
    return f"{NOTE}# Errors of whimbrel\n\n{head}" + "\n".join(walk(module.WhimError, 0)) + "\n"


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    whim = importlib.import_module("whimbrel.cli.main").cli
    kubesim = importlib.import_module("kubesim.cli.main").cli
    return {
        REFERENCE / "cli.md": command_line("Commands of whim", whim, "whim"),
        REFERENCE / "exit-codes.md": exit_codes(),
        REFERENCE / "errors.md": errors(),
        ROOT / "docs" / "kubesim" / "cli.md": command_line("Commands of kubesim", kubesim, "kubesim"),
    }


def main() -> int:
    """Write the pages, or check them."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not what the code says; run `make docs`\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
