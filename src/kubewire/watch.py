"""Following a collection, without I/O: a state machine that gives requests, eats bytes and yields events.

It remembers the resource version, so that a watch which ends, for whatever reason, goes on where it was; it takes
bookmarks, and when the server has forgotten that version (410) it says that a new list is needed. Sending, waiting
and giving up are the `Client`'s business.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from kubewire import requests
from kubewire.errors import Gone, KubeError, StreamBroken, TooManyRequests
from kubewire.paging import ObjectList
from kubewire.requests import JsonObject, Request
from kubewire.resources import Resource

ADDED = "ADDED"
MODIFIED = "MODIFIED"
DELETED = "DELETED"
BOOKMARK = "BOOKMARK"
RELISTED = "RELISTED"

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""The annotation on the one BOOKMARK that ends the initial ADDED events, as Kubernetes itself writes it."""

MAX_LINE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change: ADDED, MODIFIED, DELETED, BOOKMARK (the initial state is complete) or RELISTED.

    RELISTED means that changes were missed: `object["items"]` is all there is now, and what is not in it is gone.
    """

    type: str
    object: JsonObject

    @property
    def complete(self) -> bool:
        """Whether a mirror fed with the events up to this one is complete."""
        return self.type in (RELISTED, BOOKMARK)


class Watch:
    """The state of one watch over any number of connections."""

    def __init__(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
        bookmarks: bool = True,
        timeout_seconds: float | None = None,
    ) -> None:
        self.resource = resource
        self.namespace = namespace
        self.label_selector = label_selector
        self.field_selector = field_selector
        self.resource_version = resource_version
        self._bookmarks = bookmarks
        self._timeout_seconds = timeout_seconds
        self._buffer = bytearray()
        self._searched = 0  # how much of the buffer is known to have no end of line
        self._listed_before = resource_version is not None

    @property
    def needs_list(self) -> bool:
        """Whether a list must come before the next watch request."""
        return self.resource_version is None

    def next_request(self) -> Request:
        """The request that goes on where the last one ended. What was half received is dropped."""
        if self.resource_version is None:
            raise RuntimeError("a list is needed first")
        self._buffer.clear()
        self._searched = 0
        return requests.watch(
            self.resource,
            self.namespace,
            label_selector=self.label_selector,
            field_selector=self.field_selector,
            resource_version=self.resource_version,
            bookmarks=self._bookmarks,
            timeout_seconds=self._timeout_seconds,
        )

    def listed(self, found: ObjectList) -> list[WatchEvent]:
        """Take in a list: the first is news object by object, a later one replaces what was known."""
        self.resource_version = found.resource_version
        metadata: JsonObject = {"resourceVersion": found.resource_version}
        if self._listed_before:
            return [WatchEvent(RELISTED, {"kind": "List", "metadata": metadata, "items": found.items})]
        self._listed_before = True
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        end = {"apiVersion": self.resource.api_version, "kind": self.resource.kind, "metadata": metadata}
        return [*(WatchEvent(ADDED, item) for item in found.items), WatchEvent(BOOKMARK, end)]

    def expired(self) -> None:
        """The server has forgotten our version: start from a list again."""
        self.resource_version = None

    def feed(self, chunk: bytes) -> Iterator[WatchEvent]:
        """Take in bytes and give the events in them one by one, so that the version never passes one that was not
        given. Raises the `ApiError` of an ERROR event (410: a list is needed) and `StreamBroken` for garbage."""
        self._buffer += chunk
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            if line.strip():
                event = self._event(line)
                if event is not None:
                    yield event
        self._searched = len(self._buffer)
        if self._searched > MAX_LINE:
            raise StreamBroken(f"a watch event of {self.resource} is larger than {MAX_LINE} bytes")

    def _event(self, line: bytes) -> WatchEvent | None:
        """One line; None for what only moves the version."""
        kind, obj = _decode(line, self.resource)
        if kind == "ERROR":
            error = requests.status_error(obj)
            if isinstance(error, Gone):
                self.expired()
            raise error
        metadata = obj.get("metadata")
        if isinstance(metadata, dict) and (version := metadata.get("resourceVersion")):
            self.resource_version = str(version)
        return None if kind == BOOKMARK else WatchEvent(kind, obj)


def _decode(line: bytes, resource: Resource) -> tuple[str, JsonObject]:
    try:
        value: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = None
    if not (
        isinstance(value, dict)
        and isinstance(value.get("type"), str)
        and isinstance(value.get("object"), dict)
    ):
        raise StreamBroken(f"the watch of {resource} delivered something that is no event")
    return value["type"], value["object"]


class Backoff:
    """How long to wait before the next attempt: doubling with jitter, bounded, reset by success."""

    def __init__(
        self, *, first: float = 0.2, most: float = 15.0, chance: random.Random | None = None
    ) -> None:
        self._first = first
        self._most = most
        self._chance = chance or random.Random()
        self._failures = 0

    def reset(self) -> None:
        """Something worked."""
        self._failures = 0

    def delay(self, error: KubeError | None = None) -> float:
        """Seconds until the next attempt; what the server asked for (Retry-After) is honoured up to a minute."""
        asked = error.retry_after if isinstance(error, TooManyRequests) else None
        seconds = min(self._most, self._first * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return max(seconds * (0.5 + self._chance.random() / 2), min(asked or 0.0, 60.0))
