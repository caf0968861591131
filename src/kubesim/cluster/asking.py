"""A word with a living daemon over its control socket, as the commands that look and change have it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from kubesim.cluster.daemonfile import find_daemon
from kubesim.cluster.errors import ClusterNotFound, FaultNotFound, InvalidOption, RuntimeUnavailable
from kubesim.cluster.home import ClusterPaths

ASK_TIMEOUT = 5.0


def ask(
    paths: ClusterPaths,
    command: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    timeout: float = ASK_TIMEOUT,
) -> Mapping[str, Any]:
    """What the daemon says to it, within a bound for everything.

    Raises ClusterNotFound, RuntimeUnavailable when it does not run or answer, InvalidOption, FaultNotFound.
    """
    if not paths.root.is_dir():
        raise ClusterNotFound(
            f"There is no cluster {paths.name!r}.", remedy="See what there is: kubesim get clusters"
        )
    line = json.dumps({"command": command, "arguments": dict(arguments or {})}).encode() + b"\n"
    try:
        answer = json.loads(_exchange(paths, line, time.monotonic() + timeout))
    except (OSError, ValueError) as error:
        # one that is killed in the middle of it resets the connection a moment before its socket refuses
        if isinstance(error, FileNotFoundError | ConnectionRefusedError) or _has_died(paths):
            raise RuntimeUnavailable(
                f"Cluster {paths.name!r} does not run.",
                remedy=f"Start it with: kubesim start cluster --name {paths.name}",
            ) from None
        why = f"no answer within {timeout:g} s" if isinstance(error, TimeoutError) else str(error)
        raise RuntimeUnavailable(
            f"The daemon of cluster {paths.name!r} does not answer: {why}.",
            remedy=f"See what it says: kubesim logs --name {paths.name}",
        ) from error
    return _result(paths, answer)


def _has_died(paths: ClusterPaths) -> bool:
    try:
        return find_daemon(paths) is None
    except ValueError:  # its file is damaged: nobody knows
        return False


def _result(paths: ClusterPaths, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if "error" not in answer:
        result: Mapping[str, Any] = answer["result"]
        return result
    message, remedy = str(answer["error"]), str(answer.get("remedy") or "") or None
    match answer.get("reason"):
        case "refused":
            raise InvalidOption(message, remedy=remedy)
        case "missing":
            raise FaultNotFound(
                f"Cluster {paths.name!r} has no fault {message!r}.",
                remedy=f"See what there is: kubesim fault list --name {paths.name}",
            )
        case _:
            raise RuntimeUnavailable(message, remedy=f"See the log: kubesim logs --name {paths.name}")


def _exchange(paths: ClusterPaths, line: bytes, deadline: float) -> bytes:
    folder = os.open(paths.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_left(deadline))
            connection.connect(f"/proc/self/fd/{folder}/{paths.control.name}")
            connection.sendall(line)
            received = b""
            while not received.endswith(b"\n"):
                connection.settimeout(_left(deadline))
                piece = connection.recv(65536)
                if not piece:
                    raise ConnectionError("it ended the conversation")
                received += piece
            return received
    finally:
        os.close(folder)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
