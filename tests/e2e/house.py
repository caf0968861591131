"""A home of its own with the real commands in it: what the end-to-end tests drive, as a user at a terminal would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass
class House:
    """Environment and files of one user; `close` proves that nothing of it is left running."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def build(cls) -> House:
        """A new, empty home in a short path (Unix sockets allow 108 bytes)."""
        root = Path(tempfile.mkdtemp(prefix="wh-", dir="/tmp"))
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("XDG_", "KUBE", "PYTEST"))
        }
        env |= {
            "HOME": str(root),
            "WHIMBREL_HOME": str(root / "w"),
            "KUBESIM_HOME": str(root / "k"),
            "KUBECONFIG": str(root / "kubeconfig"),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "80",
            "NO_COLOR": "1",
        }
        return cls(root, env)

    def run(
        self, *argv: str, timeout: float = 60, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; what it printed is in the result."""
        return subprocess.run(
            argv,
            env=self.env,
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def whim(self, *argv: str, code: int = 0, timeout: float = 60, cwd: Path | None = None) -> str:
        """Run `whim`, expect an exit code, return stdout."""
        done = self.run("whim", *argv, timeout=timeout, cwd=cwd)
        assert done.returncode == code, (
            f"whim {argv} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        assert "Traceback" not in done.stderr
        return done.stdout

    def fails(self, *argv: str, code: int, timeout: float = 60, cwd: Path | None = None) -> str:
        """Run `whim`, expect an exit code, return stderr: the words that the user sees."""
        done = self.run("whim", *argv, timeout=timeout, cwd=cwd)
        assert done.returncode == code, (
            f"whim {argv} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        assert "Traceback" not in done.stderr
        return done.stderr

    def json(self, *argv: str, code: int = 0) -> Any:
        """Run `whim ... --json`."""
        return json.loads(self.whim(*argv, "--json", code=code))

    @contextmanager
    def popen(self, *argv: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on; killed with its group in the end."""
        process = subprocess.Popen(
            argv,
            env=self.env,
            cwd=cwd or self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.communicate(timeout=10)

    @property
    def server_pid(self) -> int:
        """Pid of the API server."""
        return int(self.json("api", "info")["pid"])

    def processes(self) -> list[str]:
        """Command lines of everything that lives in this home: it is in their environment or arguments."""
        return [line for entry in Path("/proc").iterdir() if (line := self._mine(entry))]

    def _mine(self, entry: Path) -> str:
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            return ""
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            return ""
        if f"{self.root}/".encode() not in command + environment:
            return ""
        return command.replace(b"\0", b" ").decode(errors="replace").strip()

    def close(self) -> None:
        """End everything, the way the README says, and make sure."""
        try:
            self.run("whim", "local", "down", "-y")
            self.run("whim", "api", "stop")
            eventually(lambda: not self.processes(), "every process of the home has ended", seconds=10)
        finally:
            for entry in Path("/proc").iterdir():
                if self._mine(entry):
                    try:
                        os.kill(int(entry.name), signal.SIGKILL)
                    except OSError:
                        continue
            shutil.rmtree(self.root, ignore_errors=True)


def eventually(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until something is so, or fail saying what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain until {what}"
        time.sleep(0.02)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read stdout of a command up to and with the line that holds a text."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    stderr = process.stderr.read() if process.stderr else ""
    raise AssertionError(f"{text!r} was not printed; stdout:\n{seen}\nstderr:\n{stderr}")
