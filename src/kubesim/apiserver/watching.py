"""Watches: what a client sees of the changes to a table.

A watch is a position in the table's history and a view (which objects, in which form). It sleeps until the
table changes, sends all that is new as one chunk, and shares that chunk with all watches that stand at the
same place with the same view. The view is a function from bytes to bytes; selectors turn changes into what
they mean for the watcher: an object that begins to match is ADDED, one that ceases to is DELETED.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import orjson

from kubesim import errors
from kubesim.apiserver.requests import JsonObject
from kubesim.store import Change, ChangeType, Compacted, Store, Stored, Table

_T = TypeVar("_T")

BOOKMARK_EVERY = 60.0
BATCH = 500
"""Changes in one chunk: between chunks everybody else gets a turn."""

_PREFIX = {
    ChangeType.ADDED: b'{"type":"ADDED","object":',
    ChangeType.MODIFIED: b'{"type":"MODIFIED","object":',
    ChangeType.DELETED: b'{"type":"DELETED","object":',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a watcher wants to see, and how."""

    key: tuple[str, ...]
    """Equal keys, equal bytes: watchers share their chunks by it."""
    render: Callable[[Stored], bytes]
    """An object in the form that the watcher asked for."""
    at_version: Callable[[Stored, int], Stored]
    """The same object under another resourceVersion, for one that has ceased to match."""
    bookmark: Callable[[int, bool], JsonObject]
    """The object of a bookmark at this revision; the flag marks the end of the initial events."""
    namespace: str | None = None
    accept: Callable[[Stored], bool] | None = None

    def takes(self, stored: Stored) -> bool:
        if self.namespace is not None and not stored.name.startswith(self.namespace + "/"):
            return False
        return self.accept is None or self.accept(stored)


@dataclass(slots=True, kw_only=True)
class Watch:
    store: Store
    table: Table
    view: View
    after: int | None
    """See changes after this revision; None: begin with what there is."""
    timeout: float
    bookmarks: bool = False
    mark_initial: bool = False
    """Send the bookmark that ends the initial events."""
    served: Callable[[], bool] | None = None
    """Asked whenever nothing is left to send: when it says no the watch ends."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """Lines of JSON until the timeout, or the end of the history that the watch needs."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout
        position = self.after if self.after is not None else self.store.revision
        if self.after is None:
            accept = self.view.accept
            for batch in _batches(list(self.table.all(self.view.namespace)), BATCH):
                taken = [stored for stored in batch if accept is None or accept(stored)]
                if taken:
                    yield b"".join(_line(ChangeType.ADDED, self.view.render(stored)) for stored in taken)
                await asyncio.sleep(0)
        if self.mark_initial:
            yield self._bookmark(position, initial=True)
        next_bookmark = loop.time() + BOOKMARK_EVERY * random.uniform(0.8, 1.0)
        while True:
            try:
                changes = self.table.changes(position)
            except Compacted as error:
                yield _too_old(error)
                return
            if changes:
                for chunk in self._chunks_of(changes, position):
                    if chunk:
                        yield chunk
                position = changes[-1].revision
                continue
            if self.served is not None and not self.served():
                return
            now = loop.time()
            if now >= deadline:
                if self.bookmarks and self.store.revision > position:
                    yield self._bookmark(self.store.revision)
                return
            if self.bookmarks and now >= next_bookmark:
                next_bookmark = now + BOOKMARK_EVERY
                position = max(position, self.store.revision)
                yield self._bookmark(position)
            await self._sleep(loop, min(deadline, next_bookmark) if self.bookmarks else deadline)

    async def _sleep(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        waiter = self.table.changed()
        timer = loop.call_at(until, _finish, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self.table.ignore(waiter)

    def _chunks_of(self, changes: list[Change], position: int) -> Iterator[bytes]:
        for batch in _batches(changes, BATCH):
            last = batch[-1].revision
            key = (self.view.key, position, last)
            chunk = self.table.memo.get(key)
            if chunk is None:
                chunk = b"".join(self._lines(batch))
                self.table.memo[key] = chunk
            position = last
            yield chunk

    def _lines(self, changes: Iterable[Change]) -> Iterator[bytes]:
        view = self.view
        for change in changes:
            stored, previous = change.stored, change.previous
            if change.type is ChangeType.DELETED:
                if view.takes(previous or stored):
                    yield _line(ChangeType.DELETED, view.render(stored))
                continue
            now = view.takes(stored)
            before = previous is not None and (now if view.accept is None else view.takes(previous))
            if now:
                yield _line(ChangeType.MODIFIED if before else ChangeType.ADDED, view.render(stored))
            elif before and previous is not None:
                yield _line(ChangeType.DELETED, view.render(view.at_version(previous, stored.revision)))

    def _bookmark(self, revision: int, initial: bool = False) -> bytes:
        return orjson.dumps({"type": "BOOKMARK", "object": self.view.bookmark(revision, initial)}) + b"\n"


def _line(type_: ChangeType, obj: bytes) -> bytes:
    return _PREFIX[type_] + obj + b"}\n"


def _batches(items: list[_T], size: int) -> Iterator[list[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _too_old(error: Compacted) -> bytes:
    status = errors.gone(f"too old resource version: {error.requested} ({error.oldest})").to_status()
    return orjson.dumps({"type": "ERROR", "object": status}) + b"\n"
