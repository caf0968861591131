"""Events about pods, sent in the background: a slow API server never holds a container up.

What repeats is counted on one Event instead of making new ones. An event that cannot be sent is dropped: events tell
of things, they are not the things.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubesim.clock import timestamp
from kubesim.kubelet.status import rfc3339
from kubewire.client import Client
from kubewire.errors import KubeError, NotFound
from kubewire.resources import EVENTS

log = logging.getLogger(__name__)

BACKLOG = 1000
REMEMBERED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    pod: dict[str, Any]
    kind: str
    reason: str
    message: str
    field_path: str
    at: float

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.pod["uid"], self.reason, self.message, self.field_path)


class EventRecorder:
    """Sends events of one kubelet."""

    def __init__(self, client: Client, node_name: str, clock: Callable[[], float] = timestamp) -> None:
        self._client = client
        self._node_name = node_name
        self._clock = clock
        self._queue: asyncio.Queue[_Note] = asyncio.Queue(BACKLOG)
        self._sent: OrderedDict[tuple[str, str, str, str], tuple[str, int]] = OrderedDict()

    def normal(self, pod: dict[str, Any], reason: str, message: str, container: str = "") -> None:
        """Something that is as it should be."""
        self._note(pod, "Normal", reason, message, container)

    def warning(self, pod: dict[str, Any], reason: str, message: str, container: str = "") -> None:
        """Something that is not."""
        self._note(pod, "Warning", reason, message, container)

    async def run(self) -> None:
        """Send what is noted, for ever."""
        while True:
            note = await self._queue.get()
            try:
                await self._send(note)
            except (KubeError, TimeoutError, OSError) as error:
                log.debug("event %s of pod %s was not sent: %s", note.reason, note.pod["name"], error)
            except Exception:  # events tell of things; a mistake in here must not end them
                log.exception("event %s of pod %s was not sent", note.reason, note.pod["name"])

    def _note(self, pod: dict[str, Any], kind: str, reason: str, message: str, container: str) -> None:
        metadata = pod["metadata"]
        reference = {
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
        note = _Note(
            pod=reference,
            kind=kind,
            reason=reason,
            message=message[:1024],
            field_path=_field_path(pod, container) if container else "",
            at=self._clock(),
        )
        try:
            self._queue.put_nowait(note)
        except asyncio.QueueFull:
            log.debug("event %s of pod %s was dropped", reason, metadata["name"])

    async def _send(self, note: _Note) -> None:
        known = self._sent.get(note.key)
        namespace = note.pod["namespace"]
        if known is not None:
            name, count = known
            change = {"count": count + 1, "lastTimestamp": rfc3339(note.at)}
            try:
                await self._client.patch(EVENTS, name, change, namespace)
                self._sent[note.key] = (name, count + 1)
                return
            except NotFound:
                del self._sent[note.key]  # it was too old; a new one begins
        name = f"{note.pod['name']}.{secrets.token_hex(8)}"
        await self._client.create(EVENTS, self._event(name, note), namespace)
        self._sent[note.key] = (name, 1)
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)

    def _event(self, name: str, note: _Note) -> dict[str, Any]:
        involved = dict(note.pod)
        if note.field_path:
            involved["fieldPath"] = note.field_path
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": note.pod["namespace"]},
            "involvedObject": involved,
            "reason": note.reason,
            "message": note.message,
            "source": {"component": "kubelet", "host": self._node_name},
            "firstTimestamp": rfc3339(note.at),
            "lastTimestamp": rfc3339(note.at),
            "count": 1,
            "type": note.kind,
            "reportingComponent": "kubelet",
            "reportingInstance": self._node_name,
        }


def _field_path(pod: dict[str, Any], container: str) -> str:
    spec = pod.get("spec") or {}
    for kind in ("initContainers", "ephemeralContainers"):
        if any(one["name"] == container for one in spec.get(kind) or ()):
            return f"spec.{kind}{{{container}}}"
    return f"spec.containers{{{container}}}"
