"""FailedScheduling, said once and then counted: a repetition becomes a series of the first event.

The count is written with the second time and then at most every six minutes; after six minutes of silence the next
failure is a new event. Both are the real event library's numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubesim.scheduler import reports
from kubesim.scheduler.model import PodInfo
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.resources import EVENTS

_SILENCE = timedelta(minutes=6)


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last: datetime
    written: datetime


class Failures:
    """What one scheduler has said of which pod."""

    def __init__(self, client: Client, scheduler: str, now: Callable[[], datetime]) -> None:
        self._client = client
        self._scheduler = scheduler
        self._now = now
        self._series: dict[tuple[str, str], _Series] = {}

    async def say(self, pod: PodInfo, message: str) -> None:
        """The pod could not be scheduled, again or for the first time. Raises KubeError."""
        now = self._now()
        self._forget_old(now)
        known = self._series.get((pod.uid, message))
        if known is None:
            event = reports.failed_event(pod, message, self._scheduler, now)
            self._series[pod.uid, message] = _Series(event["metadata"]["name"], 1, now, now)
            await self._client.create(EVENTS, event, pod.namespace)
            return
        known.count += 1
        known.last = now
        if known.count > 2 and now - known.written < _SILENCE:
            return
        known.written = now
        try:
            await self._client.patch(
                EVENTS, known.name, {"series": reports.series(known.count, now)}, pod.namespace
            )
        except NotFound:  # it has expired
            self._series.pop((pod.uid, message), None)

    def forget(self, uid: str) -> None:
        """The pod does not wait any more."""
        for key in [key for key in self._series if key[0] == uid]:
            del self._series[key]

    def _forget_old(self, now: datetime) -> None:
        for key in [key for key, one in self._series.items() if now - one.last > _SILENCE]:
            del self._series[key]
