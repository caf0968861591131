"""The life of a server process: one per home, quick to come, gone in three seconds, replaced without loss."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import Server
from whimbrel.client.home import ServerRecord
from whimbrel.client.http import ConnectionLost
from whimbrel.model.errors import InvalidTask, NotFound, WhimError


def test_a_server_answers_and_says_what_it_is(server: Server) -> None:
    assert server.http.call("GET", "/healthz") == {"status": "ok"}
    assert server.http.call("GET", "/readyz") == {"status": "ready"}
    info = server.get("info")
    assert server.process is not None
    assert info["pid"] == server.process.pid
    assert (info["state"], info["home"]) == ("ready", str(server.home))
    record = ServerRecord.read(server.home)
    assert record is not None
    assert record.alive()
    assert os.stat(record.socket).st_mode & 0o777 == 0o600


def test_it_leaves_at_a_signal_and_leaves_nothing(server: Server) -> None:
    socket = server.http.socket_path
    assert server.stop() < 3
    assert not (server.home / "server.json").exists()
    assert not Path(socket).parent.exists()


def test_a_second_server_for_the_same_home_is_refused(server: Server) -> None:
    assert server.process is not None
    second = subprocess.run(
        [sys.executable, "-m", "whimbrel.server", "--home", str(server.home)], capture_output=True, timeout=30
    )
    assert second.returncode == 10
    assert f"pid {server.process.pid}" in second.stderr.decode()
    assert server.http.call("GET", "/healthz") == {"status": "ok"}


def test_an_open_log_stream_is_told_to_reconnect_and_misses_nothing(server: Server) -> None:
    output = server.output_of(server.launch("c1", "echo one; sleep 1; echo two; sleep 600"))
    path = f"/api/v1/clusters/c1/jobs/{output['job_id']}/logs?follow=1&offset="
    frames: list[dict[str, Any]] = []
    seen_one = threading.Event()

    def follow() -> None:
        for frame in server.frames(path + "0"):
            frames.append(frame)
            if "one" in frame.get("text", ""):
                seen_one.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert seen_one.wait(20)
    assert server.stop() < 3
    thread.join(10)
    assert frames[-1] == {"kind": "reconnect"}
    offset = max(frame.get("offset", 0) for frame in frames)
    server.start()
    rest = ""
    for frame in server.frames(path + str(offset)):
        rest += frame.get("text", "")
        if "two" in rest:
            break
    text = "".join(frame.get("text", "") for frame in frames) + rest
    assert text == "one\ntwo\n"


def test_a_thread_that_hangs_does_not_keep_the_server(server: Server) -> None:
    stuck = server.world.root / "one" / "stuck"
    stuck.touch()
    request = server.launch("c1")
    server.until_events(request, "stuck in a thread")
    assert server.stop() < 3
    stuck.unlink()
    server.start()
    assert server.output_of(request)["job_id"] == 1


def test_a_second_signal_ends_it_at_once_and_loses_nothing(server: Server) -> None:
    server.world.root.joinpath("one", "hold").touch()
    request = server.launch("c1")
    server.until_events(request, "waiting for the nodes")
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(3) in (0, 10)
    server.world.root.joinpath("one", "hold").unlink()
    server.start()
    assert server.output_of(request)["job_id"] == 1


def test_a_stale_socket_and_record_of_a_killed_server_are_no_obstacle(server: Server) -> None:
    server.kill()
    assert (server.home / "server.json").exists()
    with pytest.raises(ConnectionLost):
        server.get("info")
    server.start()
    assert server.get("info")["state"] == "ready"


def test_what_is_not_understood_is_an_error_with_a_remedy_and_without_what_was_sent(server: Server) -> None:
    with pytest.raises(InvalidTask) as caught:
        server.post("clusters/c1/launch", {"task": {}, "secrets": {"TOKEN": "hunter2"}})
    assert "secrets" in caught.value.message
    assert "hunter2" not in json.dumps(caught.value.to_wire())
    assert caught.value.remedy
    with pytest.raises(NotFound, match="no GET /api/v1/nonsense"):
        server.get("nonsense")
    with pytest.raises(WhimError, match="UUID"):
        server.post("local/up", {}, key="not-a-uuid")
    assert "hunter2" not in server.log()


def test_a_database_that_cannot_be_used_ends_the_server_with_what_to_do(idle: Server) -> None:
    idle.home.mkdir(mode=0o700)
    (idle.home / "state.db").write_bytes(b"this is no database, but long enough to be looked at" * 50)
    done = subprocess.run(
        [sys.executable, "-m", "whimbrel.server", "--home", str(idle.home)], capture_output=True, timeout=30
    )
    assert done.returncode == 10
    assert "state.db" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert (idle.home / "state.db").read_bytes().startswith(b"this is no database")
