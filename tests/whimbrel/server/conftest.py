"""A real server process with a fake world under it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from whimbrel.client.http import ConnectionLost, Http
from whimbrel.model.errors import from_wire

sys.path.insert(0, str(Path(__file__).parent))

from world import World  # beside this file

T = TypeVar("T")

PATIENCE = 20.0


class Server:
    """One home and its world; the process can be killed and started again. `real`: no fake world, but
    kubesim."""

    def __init__(self, directory: Path, *, real: bool = False) -> None:
        self.real = real
        self.home = directory / "home"
        self.world = World(directory / "world")
        self.world.root.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self._directory = directory

    def start(self) -> None:
        run = self._directory / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        script = Path(__file__).with_name("fake_server.py")
        command = [str(script), str(self.home), str(self.world.root)]
        if self.real:
            command = ["-m", "whimbrel.server", "--home", str(self.home)]
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "XDG_RUNTIME_DIR": str(run), "PYTHONWARNINGS": "error"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.until(self._ready, "the server answers")

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            record = json.loads((self.home / "server.json").read_text())
            return bool(record["state"] == "ready" and record["pid"] == self.process.pid)
        except (OSError, ValueError):
            return False

    @property
    def http(self) -> Http:
        record = json.loads((self.home / "server.json").read_text())
        return Http(record["address"].removeprefix("unix:"))

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> float:
        """SIGTERM; the seconds until it was gone."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.log()
        return time.monotonic() - began

    def log(self) -> str:
        try:
            return (self.home / "server.log").read_text()
        except OSError:
            return ""

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.world.end()

    # ------------------------------------------------------------ calls

    def get(self, path: str) -> dict[str, Any]:
        return self.http.call("GET", f"/api/v1/{path}")

    def post(self, path: str, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self.http.call("POST", f"/api/v1/{path}", body, headers=headers)

    def launch(self, cluster: str, run: str | None = "echo hello", **more: Any) -> str:
        """The id of the request."""
        return self._submit(cluster, "launch", run, more)

    def exec(self, cluster: str, run: str, **more: Any) -> str:
        return self._submit(cluster, "exec", run, more)

    def _submit(self, cluster: str, verb: str, run: str | None, more: dict[str, Any]) -> str:
        rest = {name: more.pop(name) for name in ("files", "down", "infra") if name in more}
        body = {"task": {**task(run), **more}, **rest}
        return str(self.post(f"clusters/{cluster}/{verb}", body)["request_id"])

    def frames(self, path: str) -> Iterator[dict[str, Any]]:
        """The frames of a stream up to the one with which it ends."""
        for frame in self.http.frames(path):
            yield frame
            if frame["kind"] in ("end", "reconnect"):
                return

    def end_of(self, request: str) -> dict[str, Any]:
        """The last frame of its events."""
        return list(self.frames(f"/api/v1/requests/{request}/events?follow=1"))[-1]

    def output_of(self, request: str) -> dict[str, Any]:
        end = self.end_of(request)
        assert end["error"] is None, end["error"]
        output: dict[str, Any] = end["output"]
        return output

    def output_raises(self, request: str) -> None:
        """Raise the error that a request ended with, as a client does."""
        raise from_wire(self.end_of(request)["error"])

    def job(self, cluster: str, job: int = 1) -> dict[str, Any]:
        return next(row for row in self.get(f"clusters/{cluster}/jobs")["jobs"] if row["id"] == job)

    def logs(self, cluster: str, job: int | str = 1, query: str = "follow=1") -> tuple[str, dict[str, Any]]:
        """The text of a job's log and its last frame."""
        frames = list(self.frames(f"/api/v1/clusters/{cluster}/jobs/{job}/logs?{query}"))
        return "".join(frame.get("text", "") for frame in frames), frames[-1]

    def until(self, look: Callable[[], T], what: str) -> T:
        """Look until it is so."""
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            assert time.monotonic() < deadline, f"waited in vain until {what}\n{self.log()}"
            time.sleep(0.01)
        return found

    def until_events(self, request: str, text: str) -> None:
        """Wait until the events of a request tell this."""
        self.until(lambda: text in json.dumps(self._events(request)), f"request {request} tells {text!r}")

    def _events(self, request: str) -> list[dict[str, Any]]:
        try:
            return list(self.frames(f"/api/v1/requests/{request}/events"))
        except ConnectionLost:
            return []


def task(run: str | None, **more: Any) -> dict[str, Any]:
    """A task as a client sends it."""
    return {
        "name": None,
        "workdir": None,
        "num_nodes": 1,
        "resources": {"cpus": None, "memory": None, "accelerators": None, "infra": None},
        "envs": {},
        "secrets": {},
        "file_mounts": {},
        "setup": None,
        "run": run,
        **more,
    }


@pytest.fixture
def idle() -> Iterator[Server]:
    """A home with one context, and no server yet."""
    directory = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    server = Server(directory)
    server.world.add("one")
    yield server
    server.close()
    shutil.rmtree(directory)


@pytest.fixture
def server(idle: Server) -> Server:
    """A server that answers."""
    idle.start()
    return idle
