"""Where commands speak to a living daemon beside its API: `control.sock`, which only its user can open.

The API server may be hung, drip or refuse connections, on purpose: what takes such a fault away cannot come in by the
same door. One request per connection, one JSON object per line: `{"command": ..., "arguments": {...}}` is answered
with `{"result": ...}` or `{"error": message, "remedy": ..., "reason": "refused" | "missing" | "failed"}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from kubesim.apiserver.faults.spec import FaultRefused, NoSuchFault

log = logging.getLogger(__name__)

Command = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]

LONGEST_LINE = 1 << 20
_PATIENCE = 5.0  # for the other side


@contextlib.asynccontextmanager
async def control_socket(path: Path, command: Command) -> AsyncIterator[None]:
    """Answer at this path as long as the context lasts."""
    listener = _listen(path)
    try:
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(_accept(listener, command), name="control socket")
            yield
            accepting.cancel()
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    """A Unix address is at most 107 bytes long, so that the socket is named through a descriptor of its folder."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        path.chmod(0o600)
        listener.listen(16)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener


async def _accept(listener: socket.socket, command: Command) -> None:
    """One after the other: each takes a moment, or is given up."""
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(listener)
        with connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(_PATIENCE):
                    line = await _line(loop, connection)
                    await loop.sock_sendall(connection, json.dumps(_answer(line, command)).encode() + b"\n")
            except (OSError, TimeoutError) as error:
                log.warning("the control socket: %r", error)


async def _line(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n") and len(received) < LONGEST_LINE:
        piece = await loop.sock_recv(connection, 65536)
        if not piece:
            break
        received += piece
    return received


def _answer(line: bytes, command: Command) -> Mapping[str, Any]:
    try:
        asked = json.loads(line)
        name, arguments = str(asked["command"]), asked.get("arguments") or {}
        return {"result": command(name, arguments)}
    except FaultRefused as error:
        return {"error": error.message, "remedy": error.remedy, "reason": "refused"}
    except NoSuchFault as error:
        return {"error": str(error.args[0]), "remedy": "", "reason": "missing"}
    except Exception as error:
        # Whatever is wrong with a command must not end the daemon.
        log.exception("a command failed")
        return {"error": f"{type(error).__name__}: {error}", "remedy": "", "reason": "failed"}
