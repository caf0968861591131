"""A mirror of one collection, kept by a watch, that tells its subscribers what changes.

Level before edge: a subscriber gets to know that something about a key may have changed and looks at the mirror; it
must not count events, because several changes may arrive as one and a new list replaces everything. Mirrors are
shared: whoever watches the same collection gets the same objects and must not change them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from kubewire.client import Client
from kubewire.errors import KubeError, NotFound
from kubewire.resources import Resource
from kubewire.sharing import Sharing
from kubewire.watch import ADDED, BOOKMARK, DELETED, RELISTED, WatchEvent

log = logging.getLogger(__name__)

_RETRY = 1.0

Object = dict[str, Any]
Handler = Callable[["Change"], None]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one object: `old` is None for a new one, `new` for one that has gone."""

    key: str
    old: Object | None
    new: Object | None

    @property
    def object(self) -> Object:
        """The newest state that is known."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found


def key_of(obj: Object) -> str:
    """`namespace/name`, or `name` for what is in no namespace."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def split_key(key: str) -> tuple[str | None, str]:
    """Namespace (None for cluster scope) and name."""
    namespace, _, name = key.rpartition("/")
    return namespace or None, name


class Informer:
    """The mirror of one collection. `run` has to run; `synced` is set when the mirror is complete for once.

    With `sharing` the objects have no managedFields, and parts in common with each other.
    """

    def __init__(self, client: Client, resource: Resource, *, sharing: Sharing | None = None) -> None:
        self.resource = resource
        self._sharing = sharing
        self.synced = asyncio.Event()
        self._client = client
        self._items: dict[str, Object] = {}
        self._handlers: list[Handler] = []
        self._stale: set[str] | None = None  # known from a watch that failed, not seen by the next one yet

    def get(self, key: str) -> Object | None:
        """The object as last seen."""
        return self._items.get(key)

    def all(self) -> list[Object]:
        """All objects as last seen."""
        return list(self._items.values())

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._items))

    def __len__(self) -> int:
        return len(self._items)

    def subscribe(self, handler: Handler) -> None:
        """Call `handler` for everything there is, and from now on for every change. It must be quick and not raise."""
        for key, obj in list(self._items.items()):
            handler(Change(key, None, obj))
        self._handlers.append(handler)

    def unsubscribe(self, handler: Handler) -> None:
        """Stop calling `handler`."""
        self._handlers.remove(handler)

    async def until(self, test: Callable[[Object], bool]) -> None:
        """Wait until an object of the collection passes the test."""
        found = asyncio.Event()

        def look(change: Change) -> None:
            if change.new is not None and test(change.new):
                found.set()

        self.subscribe(look)
        try:
            await found.wait()
        finally:
            self.unsubscribe(look)

    async def run(self) -> None:
        """Follow the collection until cancelled.

        The client goes on by itself over everything that passes. What it gives up on (the kind is not served any
        more, the server refuses us) is tried again here, with the mirror empty if the kind has gone.
        """
        while True:
            try:
                async for event in self._client.watch(self.resource):
                    self._take_again(event)
            except NotFound:
                self._replace([])
                self.synced.set()
            except KubeError as error:
                log.warning("%s cannot be followed: %s", self.resource, error)
            self._stale = set(self._items)
            await asyncio.sleep(_RETRY)

    def _take_again(self, event: WatchEvent) -> None:
        """Events of a watch that began anew: what its first list does not have has gone meanwhile."""
        if self._stale is not None:
            if event.type == ADDED:
                self._stale.discard(key_of(event.object))
            else:
                for key in self._stale & self._items.keys() if event.complete else ():
                    self._tell(Change(key, self._items.pop(key), None))
                self._stale = None
        self.take(event)

    def take(self, event: WatchEvent) -> None:
        """Apply one event of the watch."""
        if self._sharing is not None and event.type != BOOKMARK:
            for obj in event.object["items"] if event.type == RELISTED else (event.object,):
                self._sharing.slim(obj)
        if event.type == BOOKMARK:
            self.synced.set()
        elif event.type == RELISTED:
            self._replace(event.object["items"])
            self.synced.set()
        else:
            key = key_of(event.object)
            old = self._items.get(key)
            if event.type == DELETED:
                self._items.pop(key, None)
                self._tell(Change(key, event.object if old is None else old, None))
            else:
                self._items[key] = event.object
                if old is not None and event.type == ADDED and _version(old) == _version(event.object):
                    return
                self._tell(Change(key, old, event.object))

    def _replace(self, items: list[Object]) -> None:
        current = {key_of(item): item for item in items}
        gone = [(key, old) for key, old in self._items.items() if key not in current]
        for key, old in gone:
            del self._items[key]
            self._tell(Change(key, old, None))
        for key, new in current.items():
            before = self._items.get(key)
            self._items[key] = new
            if before is None or _version(before) != _version(new):
                self._tell(Change(key, before, new))

    def _tell(self, change: Change) -> None:
        for handler in list(self._handlers):
            try:
                handler(change)
            except Exception:  # one subscriber's fault must not keep the others from knowing
                log.exception("a subscriber of %s failed on %s", self.resource, change.key)


def _version(obj: Object) -> str:
    return str(obj["metadata"].get("resourceVersion", ""))


class Informers:
    """One informer per collection, shared by all who ask, running as long as the context lasts."""

    def __init__(self, client: Client, *, sharing: Sharing | None = None) -> None:
        self._client = client
        self._sharing = sharing
        self._informers: dict[Resource, tuple[Informer, asyncio.Task[None]]] = {}
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Informers:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, task in self._informers.values():
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    def of(self, resource: Resource) -> Informer:
        """The informer of a collection; it begins to follow on the first call."""
        if resource not in self._informers:
            informer = Informer(self._client, resource, sharing=self._sharing)
            task = self._group.create_task(informer.run(), name=f"informer {resource}")
            self._informers[resource] = (informer, task)
        return self._informers[resource][0]

    def drop(self, resource: Resource) -> None:
        """Stop following a collection, because its kind no longer exists."""
        found = self._informers.pop(resource, None)
        if found:
            found[1].cancel()

    async def synced(self, *resources: Resource) -> None:
        """Wait until the mirrors of these collections are complete."""
        for resource in resources:
            await self.of(resource).synced.wait()
