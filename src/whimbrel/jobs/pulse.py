"""How one task of this process tells another that something has changed, without telling what.

Take `Pulse.next()` first, then look, then wait for what was taken: nothing that happens in between is missed.
A pulse is only a hint for speed; whoever waits also looks again after a while, because another process may
have written.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict


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
    """A pulse per topic, made when it is first asked for."""

    def __init__(self) -> None:
        self._pulses: defaultdict[str, Pulse] = defaultdict(Pulse)

    def __getitem__(self, topic: str) -> Pulse:
        return self._pulses[topic]

    def ring(self, topic: str) -> None:
        """Wake who waits for this topic, if anybody does."""
        pulse = self._pulses.get(topic)
        if pulse is not None:
            pulse.ring()

    def forget(self, topic: str) -> None:
        """Wake who waits, and keep nothing of the topic."""
        pulse = self._pulses.pop(topic, None)
        if pulse is not None:
            pulse.ring()


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
