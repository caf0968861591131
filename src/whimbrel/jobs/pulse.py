"""How one task of this process tells another that something has changed, without telling what.

Take `Pulse.next()` first, then look, then wait for what was taken: nothing that happens in between is missed.
A pulse is only a hint for speed; whoever waits also looks again after a while, because another process may
have written.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Pulse:
    """Wakes everybody who waits for the next change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        """The event of the next change after this call."""
        return self._event

    def ring(self) -> None:
        """Something has changed."""
        event, self._event = self._event, asyncio.Event()
        event.set()


class Pulses:
    """The next change of each topic. Nothing is kept of a topic that nobody waits for."""

    def __init__(self) -> None:
        self._events: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def next(self, topic: str) -> asyncio.Event:
        """The event of the topic's next change after this call; it lives as long as somebody holds it."""
        event = self._events.get(topic)
        if event is None:
            event = self._events[topic] = asyncio.Event()
        return event

    def ring(self, topic: str) -> None:
        """Wake who waits for this topic, if anybody does."""
        event = self._events.pop(topic, None)
        if event is not None:
            event.set()

    def __len__(self) -> int:
        return len(self._events)


async def wait_any(seconds: float, *events: asyncio.Event) -> bool:
    """Whether one of the events was set within so many seconds."""
    if any(event.is_set() for event in events):
        return True
    tasks = [asyncio.create_task(event.wait(), name="wait for a pulse") for event in events]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
