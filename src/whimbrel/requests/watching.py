"""Watching requests: waiting for an end, and following events so that none is missed (I12).

Within a server a watcher is woken when something is written; across servers, and to be sure, it polls. What is handed
out always comes from the database, so that a client can go on with any server, from the last number that it saw.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from whimbrel.store import requests as rows
from whimbrel.store.engine import Store
from whimbrel.store.requests import Event, Request

POLL = 2.0  # seconds; waking is a hint, polling is the guarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events after a number, and the request as it was in the same snapshot."""

    events: list[Event]
    request: Request

    @property
    def complete(self) -> bool:
        """Whether no further event will ever follow these."""
        last = self.events[-1].idx if self.events else None
        return self.request.state.finished and (last is None or last == self.request.events)


class Watchers:
    """Those who wait for news of a request of one database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners: dict[str, set[asyncio.Event]] = {}

    async def wait(self, request_id: str) -> Request:
        """The request, once it has finished."""
        with self._listen(request_id) as changed:
            while True:
                changed.clear()
                request = await self._store.read(lambda connection: rows.get(connection, request_id))
                if request.state.finished:
                    return request
                await wait_for(changed, POLL)

    async def poll_events(
        self, request_id: str, after: int = 0, *, timeout: float = 10.0, limit: int = 500
    ) -> EventPage:
        """The events after number `after`; waits up to `timeout` seconds for one, unless the request has finished.

        For streams with heartbeats: unlike the iterator, it can be called again after a timeout.
        """

        def page(connection: Connection) -> EventPage:
            request = rows.get(connection, request_id)
            return EventPage(events=rows.events_after(connection, request_id, after, limit), request=request)

        ends = time.monotonic() + timeout
        with self._listen(request_id) as changed:
            while True:
                changed.clear()
                found = await self._store.read(page)
                left = ends - time.monotonic()
                if found.events or found.request.state.finished or left <= 0:
                    return found
                await wait_for(changed, min(POLL, left))

    async def events(self, request_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Every event after number `after`, as they come, until the request has finished."""
        while True:
            page = await self.poll_events(request_id, after)
            for event in page.events:
                after = event.idx
                yield event
            if page.complete:
                return

    def publish(self, request_id: str) -> None:
        """Something was written for this request."""
        for event in self._listeners.get(request_id, ()):
            event.set()

    @contextmanager
    def _listen(self, request_id: str) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        self._listeners.setdefault(request_id, set()).add(changed)
        try:
            yield changed
        finally:
            remaining = self._listeners[request_id]
            remaining.discard(changed)
            if not remaining:
                del self._listeners[request_id]


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for so long; whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
