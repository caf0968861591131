"""The life of the local API server as its clients see it: find it, start it, replace a dead or stuck one, stop it.

Nothing here trusts a pid alone: a server is signalled only when pid, start time and boot id are those that it wrote
itself. Starting is under a lock, so that two commands at once start one server.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import whimbrel
from whimbrel.client.home import ServerRecord, whimbrel_home
from whimbrel.client.http import ConnectionLost, Http
from whimbrel.model.errors import ServerUnavailable, WhimError

HEALTH_DEADLINE = 2.0  # a server on this machine that is not stuck answers within this
START_DEADLINE = 20.0
STOP_DEADLINE = 10.0

Say = Callable[[str], None]

_started: list[subprocess.Popen[bytes]] = []
"""Servers that this process started: they outlive it, and are reaped here should they end before it."""


def _silent(_: str) -> None:
    return


def find(home: Path | None = None) -> ServerRecord | None:
    """The record of a server that answers, or None."""
    record = ServerRecord.read(home or whimbrel_home())
    return record if record and healthy(record) else None


def healthy(record: ServerRecord) -> bool:
    """Whether the server answers within `HEALTH_DEADLINE`."""
    try:
        Http(record.socket).call("GET", "/healthz", timeout=HEALTH_DEADLINE)
    except (ConnectionLost, WhimError, ValueError):
        return False
    return True


def ensure(say: Say = _silent) -> ServerRecord:
    """A server that answers and is of this version; started or replaced when there is none.

    Raises:
        ServerUnavailable: it cannot be started; the message holds the end of its log.
    """
    home = whimbrel_home()
    record = find(home)
    if record and record.version == whimbrel.__version__:
        return record
    with _start_lock(home):
        record = find(home)
        if record and record.version != whimbrel.__version__:
            say(f"replacing the API server of version {record.version}")
            stop(home)
            record = None
        return record or _start(home, say)


def info() -> dict[str, Any] | None:
    """What the server tells of itself, or None when none runs."""
    record = find()
    return Http(record.socket).call("GET", "/api/v1/info", timeout=HEALTH_DEADLINE) if record else None


def stop(home: Path | None = None) -> ServerRecord | None:
    """End the local server: SIGTERM, and SIGKILL when it is stuck. Returns what was stopped."""
    record = ServerRecord.read(home or whimbrel_home())
    if record is None or not record.alive():
        return None
    _signal(record, signal.SIGTERM)
    if not _wait_gone(record, STOP_DEADLINE):
        _signal(record, signal.SIGKILL)
        if not _wait_gone(record, STOP_DEADLINE):
            raise ServerUnavailable(
                f"The API server (pid {record.pid}) does not end, not even by SIGKILL.",
                remedy=f"ps -o pid,stat,wchan -p {record.pid}   # it hangs in the kernel",
            )
    return record


def _start(home: Path, say: Say) -> ServerRecord:
    stuck = ServerRecord.read(home)
    if stuck and stuck.alive():
        say(f"the API server (pid {stuck.pid}) does not answer; replacing it")
        stop(home)
    say("starting the API server")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = home / "server.log"
    with open(log, "ab") as output:
        os.chmod(log, 0o600)
        begin = output.tell()  # what is before it was another server's
        process = subprocess.Popen(
            [sys.executable, "-m", "whimbrel.server", "--home", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            close_fds=True,
        )
    _started[:] = [child for child in _started if child.poll() is None]
    _started.append(process)
    deadline = time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline:
        record = ServerRecord.read(home)
        if record and record.pid == process.pid and healthy(record):
            return record
        if process.poll() is not None:
            raise ServerUnavailable(
                f"The API server ended with code {process.returncode} while starting:\n{_tail(log, begin)}",
                remedy="whim api logs",
            )
        time.sleep(0.01)
    process.kill()
    process.wait(STOP_DEADLINE)
    raise ServerUnavailable(
        f"The API server did not answer within {START_DEADLINE:g} s:\n{_tail(log, begin)}",
        remedy="whim api logs",
    )


def _signal(record: ServerRecord, number: signal.Signals) -> None:
    if record.alive():
        try:
            os.kill(record.pid, number)
        except ProcessLookupError:
            return


def _wait_gone(record: ServerRecord, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while record.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _tail(log: Path, begin: int, lines: int = 8) -> str:
    try:
        with log.open("rb") as file:
            file.seek(begin)
            said = file.read().decode("utf-8", "replace").splitlines()[-lines:]
        return "\n".join(said) or "(it wrote nothing to its log)"
    except OSError as error:
        return f"(no log: {error})"


@contextmanager
def _start_lock(home: Path) -> Iterator[None]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + START_DEADLINE + STOP_DEADLINE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServerUnavailable(
                        "Another command has been starting the API server for too long.",
                        remedy="whim api logs",
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
