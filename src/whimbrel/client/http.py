"""HTTP to the API server over its Unix socket, with the standard library, because every command pays for imports.

One connection per call: the server is on this machine, and a connection costs less than keeping one healthy.
Every call has a deadline; a stream has an idle bound, above the server's heartbeat of 10 s. Errors of the server
come back as the `WhimError` that it raised.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import whimbrel
from whimbrel.client.home import whimbrel_home
from whimbrel.model.errors import ServerUnavailable, WhimError, from_wire

READ_DEADLINE = 20.0  # seconds; the server bounds its own work below this
STREAM_IDLE = 35.0  # seconds without even a heartbeat


class ConnectionLost(ServerUnavailable):
    """The API server went away in the middle of a call."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The API server went away in the middle of a call ({why}).", remedy="repeat the command"
        )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        _connect(self.sock, self._path)


def _connect(sock: socket.socket, path: str) -> None:
    """Connect within the socket's timeout. One that many connect to at once refuses some with EAGAIN, where TCP would
    let them wait: they try again."""
    deadline = time.monotonic() + (sock.gettimeout() or 0.0)
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def kubeconfig_paths() -> list[str]:
    """The kubeconfig files that this client sees, absolute (law: a local request carries them)."""
    configured = os.environ.get("KUBECONFIG", "")
    paths = [part for part in configured.split(os.pathsep) if part] or [os.path.expanduser("~/.kube/config")]
    return [os.path.abspath(os.path.expanduser(path)) for path in paths]


def config_path() -> str:
    """The configuration file that this client sees, absolute; it need not exist."""
    configured = os.environ.get("WHIMBREL_CONFIG")
    path = Path(configured).expanduser() if configured else whimbrel_home() / "config.yaml"
    return str(path.absolute())


def user_name() -> str:
    """Who asks, for records and audit."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class Http:
    """Calls to one server socket."""

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path

    def _headers(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        headers = {
            "X-Whimbrel-Version": whimbrel.__version__,
            "X-Whimbrel-User": user_name(),
            "X-Whimbrel-Host": socket.gethostname(),
            "X-Whimbrel-Kubeconfig": os.pathsep.join(kubeconfig_paths()),
            "X-Whimbrel-Config": config_path(),
            "Connection": "close",
        }
        headers.update(extra or {})
        return headers

    @contextmanager
    def _response(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _UnixConnection(self.socket_path, timeout)
        sent = self._headers(headers)
        payload: bytes | Iterable[bytes] | None = None
        if isinstance(body, (dict, list)):
            payload = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        elif body is not None:
            payload = body
        try:
            try:
                try:
                    connection.request(method, path, body=payload, headers=sent)
                except (BrokenPipeError, ConnectionResetError):
                    if connection.sock is None:
                        raise
                    # The server refused before it had read all; its answer may still be there to be read.
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise ConnectionLost(str(error) or type(error).__name__) from error
            if response.status >= 400:
                raise _error_of(response)
            yield response
        finally:
            connection.close()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = READ_DEADLINE,
    ) -> dict[str, Any]:
        """One call with a JSON answer.

        Raises the server's `WhimError`, or `ConnectionLost` when the server went away.
        """
        with self._response(method, path, body, headers=headers, timeout=timeout) as response:
            try:
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise ConnectionLost(str(error)) from error
            answer: dict[str, Any] = json.loads(content) if content else {}
            return answer

    def frames(self, path: str) -> Iterator[dict[str, Any]]:
        """The JSON lines of a stream, heartbeats left out; `ConnectionLost` when it ends without saying so."""
        with self._response("GET", path, timeout=STREAM_IDLE) as response:
            while True:
                try:
                    line = response.readline()
                except (OSError, http.client.HTTPException, ValueError) as error:
                    raise ConnectionLost(str(error)) from error
                if not line or not line.endswith(b"\n"):
                    raise ConnectionLost("the stream ended early")
                frame: dict[str, Any] = json.loads(line)
                if frame.get("kind") != "heartbeat":
                    yield frame

    def download(self, path: str, size: int = 1 << 16) -> Iterator[bytes]:
        """The pieces of a binary answer."""
        with self._response("GET", path, timeout=STREAM_IDLE) as response:
            while True:
                try:
                    piece = response.read1(size)
                except (OSError, http.client.HTTPException) as error:
                    raise ConnectionLost(str(error)) from error
                if not piece:
                    return
                yield piece


def _error_of(response: http.client.HTTPResponse) -> WhimError:
    content = response.read()
    try:
        return from_wire(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return ServerUnavailable(
            f"The API server answered {response.status} {response.reason} without saying why.",
            remedy="whim api logs",
        )
