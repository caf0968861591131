"""Starting and ending the daemon of a cluster, as the command that does it sees it.

The daemon is started in its own session and tells through a pipe how far it has come: one JSON object per line,
`{"state": "serving"}`, `{"state": "ready"}` or `{"state": "failed", "error": ...}`. The pipe closes when it dies, so
that nobody waits for a dead one. It may be started before its certificates exist (its imports take as long as they
do): then it waits on its standard input for the word to go.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from kubesim.cluster.errors import DaemonNotStarted, NotReady
from kubesim.cluster.home import ClusterPaths
from kubesim.kubelet.aftermath import wait_gone
from kubesim.kubelet.proc import Identity

START_TIMEOUT = 30.0  # until it serves; imports on a loaded machine and reading a large store are in it
STOP_TIMEOUT = 6.0  # the daemon ends itself within 3 s of SIGTERM
FORCED_STOP_TIMEOUT = 4.0  # before it is killed
KILL_TIMEOUT = 5.0
_LARGEST_LOG = 10 * 1024 * 1024


class StartingDaemon:
    """A daemon on its way up."""

    def __init__(self, paths: ClusterPaths, *, held: bool) -> None:
        self._paths = paths
        self._pipe, write_end = os.pipe()
        _rotate(paths.log)
        log = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        command = [sys.executable, "-P", "-m", "kubesim.cluster.daemon", str(paths.root)]
        command += ["--states-fd", str(write_end)] + (["--held"] if held else [])
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if held else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=[write_end],
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(write_end)
            os.close(log)
        self._unread = b""
        self._seen: list[str] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def go(self) -> None:
        """All files are there: a held daemon may begin."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # it died; `wait_for` will say why
                self._process.stdin.write(b"go\n")
                self._process.stdin.close()

    def wait_for(self, state: str, timeout: float) -> None:
        """Wait until the daemon has said `state`."""
        deadline = time.monotonic() + timeout
        while state not in self._seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._pipe], [], [], left)[0]:
                raise NotReady(
                    f"Cluster {self._paths.name!r} was not {state} within {timeout:g} s; it goes on starting.",
                    remedy=f"Look at it with: kubesim logs --name {self._paths.name}",
                )
            chunk = os.read(self._pipe, 65536)
            if not chunk:
                raise self._died()
            *lines, self._unread = (self._unread + chunk).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message["state"] == "failed":
                    raise DaemonNotStarted(
                        f"The daemon of cluster {self._paths.name!r} could not start: {message['error']}",
                        remedy=message.get("remedy") or f"See {self._paths.log}",
                    )
                self._seen.append(message["state"])

    def abandon(self) -> None:
        """End it at once, because the creation that it belongs to has failed."""
        self._process.kill()
        self._process.wait(KILL_TIMEOUT)

    def close(self) -> None:
        """Stop listening; the daemon goes on."""
        os.close(self._pipe)
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        # Popen warns about a process that outlives it; outliving us is what this one is for
        self._process.returncode = self._process.poll() or 0

    def _died(self) -> DaemonNotStarted:
        try:
            code = self._process.wait(KILL_TIMEOUT)
        except subprocess.TimeoutExpired:
            return DaemonNotStarted(f"The daemon of cluster {self._paths.name!r} stopped reporting.")
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        tail = log_tail(self._paths.log, 5)
        return DaemonNotStarted(
            f"The daemon of cluster {self._paths.name!r} {how} before it served."
            + (f" Its last words:\n{tail}" if tail else ""),
            remedy=f"See {self._paths.log}",
        )


def stop(process: Identity, *, force: bool) -> bool:
    """Ask the daemon to end, with `force` make it; True when it was seen gone."""
    process.send(signal.SIGTERM)
    if not wait_gone([process], FORCED_STOP_TIMEOUT if force else STOP_TIMEOUT):
        return True
    if force:
        process.send(signal.SIGKILL)
        return not wait_gone([process], KILL_TIMEOUT)
    return False


def log_tail(path: Path, lines: int) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return "".join(deque(file, lines)).rstrip()
    except OSError:
        return ""


def _rotate(log: Path) -> None:
    """Keep one old log, so that a cluster that lives for years does not fill the disk."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LARGEST_LOG:
            log.rename(log.with_suffix(".log.1"))
