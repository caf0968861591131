"""The audit log: a line of JSON for each request, as `audit.k8s.io/v1` has it at level Metadata.

Who asked for what, when, and how it was answered; never what was in it. The line is written when the answer begins, so
a watch has its line when it opens. The file is turned over at a size, and as many old ones are kept. A disk that takes
no more lines is said once in the daemon's log, and stops nobody.
"""

from __future__ import annotations

import logging
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

import orjson

from kubesim.apiserver.auth import user_info
from kubesim.apiserver.requests import ANONYMOUS, ApiRequest, JsonObject, Reply, StreamReply
from kubesim.apiserver.routing import parse_route

log = logging.getLogger(__name__)

MOST_BYTES = 10 * 1024 * 1024
KEPT = 3
_VERBS = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}


class Audit:
    """Writes the log. For one event loop."""

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES, kept: int = KEPT) -> None:
        self._path = path
        self._most = most_bytes
        self._kept = kept
        self._handle, self._size = self._open()
        self._failing = False

    def received(self, request: ApiRequest) -> str:
        """A request begins; the time is what `answered` needs of it."""
        return _now()

    def answered(
        self, received: str, request: ApiRequest, answer: Reply | StreamReply, *, verb: str = ""
    ) -> None:
        """Its answer begins: write the line."""
        self._write(orjson.dumps(_event(received, request, answer, verb)) + b"\n")

    def close(self) -> None:
        """Nothing more will be written."""
        os.close(self._handle)

    def _open(self) -> tuple[int, int]:
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return handle, os.fstat(handle).st_size

    def _write(self, line: bytes) -> None:
        try:
            if self._size and self._size + len(line) > self._most:
                self._turn()
            self._size += os.write(self._handle, line)
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("%s: the audit log has lost lines: %s", self._path, error.strerror)
            self._failing = True

    def _turn(self) -> None:
        """`audit.log` becomes `audit.log.1`, that one `audit.log.2`, and the oldest goes."""
        for number in range(self._kept, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number}"))
        old = self._handle
        self._handle, self._size = self._open()
        os.close(old)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _event(received: str, request: ApiRequest, answer: Reply | StreamReply, verb: str) -> JsonObject:
    route = parse_route(request.path)
    query = "&".join(f"{name}={value}" for name, value in request.query.pairs())
    user = {} if answer.status == 401 and request.user is ANONYMOUS else user_info(request.user)
    event: JsonObject = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": str(uuid.uuid4()),
        "stage": "ResponseStarted" if isinstance(answer, StreamReply) else "ResponseComplete",
        "requestURI": f"{request.path}?{query}" if query else request.path,
        "verb": request.method.lower(),
        "user": user,
        "sourceIPs": ["127.0.0.1"],
        "userAgent": request.user_agent,
        "responseStatus": {"metadata": {}, "code": answer.status},
        "requestReceivedTimestamp": received,
        "stageTimestamp": _now(),
    }
    if request.notes.audit:
        event["annotations"] = request.notes.audit
    if route is not None and route.plural:
        event["verb"] = verb or _verb(request, route.name is not None, watch=route.watch)
        reference = {
            "resource": route.plural,
            "namespace": route.namespace,
            "name": route.name,
            "apiGroup": route.group,
            "apiVersion": route.version,
            "subresource": route.subresource,
        }
        event["objectRef"] = {key: value for key, value in reference.items() if value}
    return event


def _verb(request: ApiRequest, named: bool, *, watch: bool) -> str:
    if request.method == "GET" and not named:
        return "watch" if watch or request.query.flag("watch") else "list"
    if request.method == "DELETE" and not named:
        return "deletecollection"
    return _VERBS.get(request.method, request.method.lower())
