"""Streams that survive the server: a request's events and a job's log, resumed where they were cut off.

A server that drains ends its streams with a `reconnect` frame; a server that died just ends them. After a crash
the next server is started at once. After a drain somebody else decides (a deploy starts the next one, `whim api
stop` does not), so that the client waits for it, for `PATIENCE` seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from whimbrel.client import local
from whimbrel.client.home import ServerRecord
from whimbrel.client.http import ConnectionLost, Http
from whimbrel.model.errors import ServerUnavailable

PATIENCE = 60.0
_POLL = 0.2

Frame = dict[str, Any]


def follow(
    path_from: Callable[[int], str], position_of: Callable[[Frame], int | None], start: int, say: local.Say
) -> Iterator[Frame]:
    """Frames of a stream up to and with its `end` frame.

    Args:
        path_from: the path of the stream from a position on.
        position_of: the position after a frame, or None when the frame does not move it.
        start: the first position.
        say: told when the server is away.

    Raises:
        ServerUnavailable: it went away and did not come back in time.
    """
    position = start
    record = local.ensure(say)
    while True:
        drained = False
        try:
            for frame in Http(record.socket).frames(path_from(position)):
                if frame["kind"] == "reconnect":
                    drained = True
                    break
                moved = position_of(frame)
                position = position if moved is None else moved
                yield frame
                if frame["kind"] == "end":
                    return
        except ConnectionLost:
            drained = False
        record = _await_next(say) if drained else local.ensure(say)


def _await_next(say: local.Say) -> ServerRecord:
    say("the API server is restarting; waiting for it")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        record = local.find()
        if record and Http(record.socket).call("GET", "/api/v1/info").get("state") == "ready":
            return record
        time.sleep(_POLL)
    raise ServerUnavailable("The API server was stopped.", remedy="whim api start")
