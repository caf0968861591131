"""`whim` starts fast because it imports little, and ends with words and a code, never with a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from whimbrel.cli import main as entry
from whimbrel.model.errors import NotFound
from whimbrel.model.exitcodes import ExitCode

HEAVY = {
    *("asyncio", "fastapi", "httpcore2", "kubewire", "orjson", "pathspec"),
    *("pydantic", "rich", "sqlalchemy", "starlette", "uvicorn", "yaml"),
}


def _imported_by(*argv: str, env: dict[str, str]) -> set[str]:
    code = (
        "import sys\nfrom whimbrel.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write('modules: ' + ' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=30, env=env
    )
    return set(done.stderr.rpartition("modules: ")[2].split())


@pytest.mark.parametrize("argv", [("--help",), ("--version",), ("down", "--help"), ("api", "info")])
def test_commands_pay_for_no_import_that_they_do_not_use(argv: tuple[str, ...], tmp_path: Path) -> None:
    """Not even for asyncio; `api info` starts no server."""
    env = {"WHIMBREL_HOME": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    assert _imported_by(*argv, env=env) & HEAVY == set()


def test_every_command_has_help_that_fits_80_columns() -> None:
    """Of the group, the commands and their commands."""

    def walk(group: entry.click.Group, path: list[str]) -> None:
        context = entry.click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            result = CliRunner().invoke(entry.cli, [*path, name, "--help"], terminal_width=80)
            assert result.exit_code == 0
            assert max(len(line) for line in result.output.splitlines()) <= 80
            if isinstance(command, entry.click.Group):
                walk(command, [*path, name])

    walk(entry.cli, [])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("There is no cluster 'x'.", remedy="whim status"), ExitCode.NOT_FOUND),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (entry.click.UsageError("no"), ExitCode.USAGE),
    ],
)
def test_errors_become_words_and_codes(
    error: BaseException, code: ExitCode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One place for all commands."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(entry.cli, "main", fail)
    with pytest.raises(SystemExit) as caught:
        entry.main(["status"])
    assert caught.value.code == code
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    if isinstance(error, NotFound):
        assert printed == "Error: There is no cluster 'x'.\n  Try: whim status\n"
