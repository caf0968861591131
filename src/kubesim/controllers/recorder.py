"""Events of controllers: what was done to an object, said again by counting.

An event that cannot be written is lost, which is what events are: no controller waits for one to succeed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from kubesim import clock
from kubesim.controllers.objects import seconds
from kubewire.client import Client
from kubewire.errors import KubeError, NotFound
from kubewire.informer import Object
from kubewire.resources import EVENTS, Resource

log = logging.getLogger(__name__)

_REMEMBERED = 1024
_MOST_TEXT = 1024

NORMAL, WARNING = "Normal", "Warning"


class Recorder:
    """Speaks for one controller."""

    def __init__(self, client: Client, component: str, *, now: Callable[[], datetime] = clock.now) -> None:
        self._client = client
        self._component = component
        self._now = now
        self._said: OrderedDict[tuple[str, str, str], tuple[str, int]] = OrderedDict()  # -> event name, count

    async def say(self, resource: Resource, about: Object, kind: str, reason: str, message: str) -> None:
        """Write an event, or count one that was written before."""
        metadata = about["metadata"]
        text = message[:_MOST_TEXT]
        said = (metadata["uid"], reason, text)
        try:
            if said in self._said and await self._again(said, _space(metadata)):
                return
            made = self._event(resource, about, kind, reason, text)
            await self._client.create(EVENTS, made, _space(metadata))
        except KubeError as error:
            log.debug("event %s of %s is lost: %s", reason, metadata["name"], error)
            return
        self._said[said] = (made["metadata"]["name"], 1)
        while len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)

    async def _again(self, said: tuple[str, str, str], namespace: str) -> bool:
        name, count = self._said[said]
        try:
            change = {"count": count + 1, "lastTimestamp": seconds(self._now())}
            await self._client.patch(EVENTS, name, change, namespace)
        except NotFound:
            return False
        self._said[said] = (name, count + 1)
        self._said.move_to_end(said)
        return True

    def _event(self, resource: Resource, about: Object, kind: str, reason: str, text: str) -> Object:
        metadata, now = about["metadata"], self._now()
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name']}.{int(now.timestamp() * 1e9):x}",
                "namespace": _space(metadata),
            },
            "involvedObject": {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                **({"namespace": metadata["namespace"]} if "namespace" in metadata else {}),
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "type": kind,
            "reason": reason,
            "message": text,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
            "firstTimestamp": seconds(now),
            "lastTimestamp": seconds(now),
            "count": 1,
        }


def _space(metadata: Object) -> str:
    """Where the events of an object are: in its namespace, or in `default` when it is in none."""
    return str(metadata.get("namespace", "default"))
