"""A small API server behind kubewire's Transport: objects in a dictionary, a watch, and hooks for what goes wrong."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from kubewire.errors import StreamBroken
from kubewire.requests import Request, Response, check_response

Obj = dict[str, Any]
KINDS = {"pods": "Pod", "services": "Service", "nodes": "Node", "namespaces": "Namespace", "events": "Event"}


def status(code: int, reason: str, message: str) -> Response:
    """An error as Kubernetes answers it."""
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return Response(status=code, headers={}, body=json.dumps(body).encode())


def machine(name: str, cpus: str = "4", memory: str = "8Gi", **extra: Any) -> Obj:
    """A Node object that is ready."""
    return {
        "metadata": {"name": name, "labels": extra.get("labels", {})},
        "spec": {"taints": extra.get("taints", [])},
        "status": {
            "allocatable": {"cpu": cpus, "memory": memory, **extra.get("room", {})},
            "conditions": [{"type": "Ready", "status": extra.get("ready", "True")}],
        },
    }


class FakeApi:
    """Satisfies `kubewire.transport.Transport`."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Obj] = {}
        self.version = 10
        self.requests: list[str] = []
        self.refuse: Callable[[str, str], Response | None] = lambda method, path: None
        self.on_create: Callable[[Obj], None] = self.run_it
        self.on_delete: Callable[[tuple[str, str, str]], bool] = lambda key: True
        self.channels: list[FakeChannel] = []
        self.next_channel: Callable[[], FakeChannel] | None = None
        self.closed = False
        self._uids = 0
        self.watched = asyncio.Event()
        self._watchers: list[asyncio.Queue[Obj | None]] = []
        self.put("namespaces", "", {"metadata": {"name": "kube-system", "uid": "uid-of-kube-system"}})

    def put(self, plural: str, namespace: str, obj: Obj, event: str = "") -> Obj:
        """Store an object and tell the watchers."""
        self.version += 1
        metadata = obj["metadata"]
        key = (plural, namespace, metadata["name"])
        event = event or ("MODIFIED" if key in self.objects else "ADDED")
        if namespace:
            metadata["namespace"] = namespace
        metadata.setdefault("uid", self.new_uid())
        metadata["resourceVersion"] = str(self.version)
        obj |= {"kind": KINDS[plural], "apiVersion": "v1"}
        self.objects[key] = obj
        if plural == "pods":
            for watcher in self._watchers:
                watcher.put_nowait({"type": event, "object": json.loads(json.dumps(obj))})
        return obj

    def new_uid(self) -> str:
        """A uid that no other object has."""
        self._uids += 1
        return f"uid-{self._uids}"

    def drop(self, plural: str, namespace: str, name: str) -> None:
        """Remove an object and tell the watchers."""
        obj = self.objects.pop((plural, namespace, name))
        self.version += 1
        for watcher in self._watchers:
            watcher.put_nowait({"type": "DELETED", "object": obj})

    def run_it(self, pod: Obj) -> None:
        """What a kubelet does with a pod: by default it runs at once."""
        self.set_status(pod["metadata"]["name"], running())

    def set_status(self, name: str, value: Obj, namespace: str = "default") -> None:
        """A new status of a pod."""
        pod = self.objects["pods", namespace, name]
        pod["status"] = value
        self.put("pods", namespace, pod)

    def break_watches(self) -> None:
        """Every watch ends."""
        for watcher in self._watchers:
            watcher.put_nowait(None)

    def named(self, plural: str) -> list[str]:
        """The names of all objects of a kind."""
        return sorted(name for kind, _, name in self.objects if kind == plural)

    async def send(self, request: Request, *, timeout: float) -> Response:
        """See `Transport`."""
        self.requests.append(f"{request.method} {request.path}")
        refused = self.refuse(request.method, request.path)
        if refused is not None:
            return refused
        if request.path == "/version":
            return _ok({"gitVersion": "v1.36.0-fake"})
        plural, namespace, name = _place(request.path)
        if request.method == "POST":
            return self._create(plural, namespace, json.loads(request.body or b"{}"))
        if not name:
            return self._list(plural, namespace, dict(request.query))
        key = (plural, namespace, name)
        if key not in self.objects:
            return status(404, "NotFound", f'{plural} "{name}" not found')
        if request.method == "DELETE":
            if self.on_delete(key):
                self.drop(*key)
            return _ok({"kind": "Status", "status": "Success"})
        return _ok(self.objects[key])

    def _create(self, plural: str, namespace: str, obj: Obj) -> Response:
        name = obj["metadata"]["name"]
        if (plural, namespace, name) in self.objects:
            return status(409, "AlreadyExists", f'{plural} "{name}" already exists')
        stored = self.put(plural, namespace, obj)
        if plural == "pods":
            self.on_create(stored)
        return _ok(stored, 201)

    def _list(self, plural: str, namespace: str, query: Mapping[str, str]) -> Response:
        items = [
            obj
            for (kind, where, _), obj in self.objects.items()
            if kind == plural and namespace in ("", where) and _selected(obj, query)
        ]
        return _ok(
            {
                "kind": f"{KINDS[plural]}List",
                "metadata": {"resourceVersion": str(self.version)},
                "items": items,
            }
        )

    @asynccontextmanager
    async def stream(self, request: Request, *, connect: float, idle: float) -> AsyncIterator[FakeWatch]:
        """See `Transport`: a watch of pods from a resource version on."""
        refused = self.refuse("WATCH", request.path)
        if refused is not None:
            yield FakeWatch(refused.status, [refused.body], None)
            return
        query = dict(request.query)
        since = int(query.get("resourceVersion") or 0)
        missed = [
            {"type": "ADDED", "object": obj}
            for (kind, _, _), obj in self.objects.items()
            if kind == "pods" and int(obj["metadata"]["resourceVersion"]) > since
        ]
        queue: asyncio.Queue[Obj | None] = asyncio.Queue()
        self._watchers.append(queue)
        self.watched.set()
        try:
            yield FakeWatch(200, [_line(event) for event in missed], queue)
        finally:
            self._watchers.remove(queue)

    @asynccontextmanager
    async def channel(
        self, request: Request, *, protocols: Sequence[str], connect: float, idle: float
    ) -> AsyncIterator[FakeChannel]:
        """See `Transport`."""
        self.requests.append(f"EXEC {request.path}")
        refused = self.refuse("EXEC", request.path)
        if refused is not None:
            check_response(refused)
        assert self.next_channel
        channel = self.next_channel()
        self.channels.append(channel)
        yield channel

    async def aclose(self) -> None:
        """See `Transport`."""
        self.closed = True


class FakeWatch:
    """A ByteStream of watch events."""

    def __init__(self, code: int, first: list[bytes], queue: asyncio.Queue[Obj | None] | None) -> None:
        self.status = code
        self.headers: Mapping[str, str] = {}
        self._first = first
        self._queue = queue

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The events so far, then those that come."""
        for piece in self._first:
            yield piece
        while self._queue is not None:
            event = await self._queue.get()
            if event is None:
                raise StreamBroken
            yield _line(event)


class FakeChannel:
    """A WebSocket that says what it was told to say."""

    def __init__(
        self, messages: Sequence[bytes | Exception | None], protocol: str = "v5.channel.k8s.io"
    ) -> None:
        self.protocol = protocol
        self.sent: list[bytes] = []
        self._messages = list(messages)

    async def send(self, data: bytes) -> None:
        """Remember it."""
        self.sent.append(bytes(data))

    async def receive(self) -> bytes | None:
        """The next message."""
        message = self._messages.pop(0) if self._messages else None
        if isinstance(message, Exception):
            raise message
        return message

    async def close(self) -> None:
        """Nothing to do."""


def running(ip: str = "10.1.2.3") -> Obj:
    """The status of a pod that runs."""
    return {
        "phase": "Running",
        "podIP": ip,
        "containerStatuses": [{"name": "node", "image": "img", "state": {"running": {}}}],
    }


def waiting(reason: str, message: str = "") -> Obj:
    """The status of a pod whose container waits."""
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {"name": "node", "image": "img", "state": {"waiting": {"reason": reason, "message": message}}}
        ],
    }


def unscheduled(message: str) -> Obj:
    """The status of a pod that no machine takes."""
    return {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        ],
    }


def _place(path: str) -> tuple[str, str, str]:
    parts = path.removeprefix("/api/v1/").split("/")
    if parts[0] == "namespaces" and len(parts) > 2:
        return parts[2], parts[1], parts[3] if len(parts) > 3 else ""
    return parts[0], "", parts[1] if len(parts) > 1 else ""


def _selected(obj: Obj, query: Mapping[str, str]) -> bool:
    labels = obj["metadata"].get("labels") or {}
    selector = query.get("labelSelector", "")
    if selector and any(labels.get(key) != value for key, _, value in [selector.partition("=")]):
        return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        field, operator, wanted = re.fullmatch(r"([\w.]+)(!?=)(.*)", term).groups()  # type: ignore[union-attr]
        found: Any = obj
        for part in field.split("."):
            found = found.get(part, {})
        if (found == wanted) != (operator == "="):
            return False
    return True


def _ok(body: Obj, code: int = 200) -> Response:
    return Response(status=code, headers={"content-type": "application/json"}, body=json.dumps(body).encode())


def _line(event: Obj) -> bytes:
    return json.dumps(event).encode() + b"\n"
