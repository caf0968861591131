"""Events live for an hour.

A real API server gives each Event a lease in etcd; here a look every minute removes what has expired. An event that
is repeated counts from its last time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from kubesim import clock
from kubewire.client import Client
from kubewire.errors import KubeError, NotFound
from kubewire.informer import Object
from kubewire.resources import EVENTS

log = logging.getLogger(__name__)

LIFE = timedelta(hours=1)
PERIOD = 60.0


class EventExpiry:
    """Lists events once in a while, without keeping a mirror: nobody else here reads them."""

    name = "event expiry"

    def __init__(
        self,
        client: Client,
        *,
        life: timedelta = LIFE,
        period: float = PERIOD,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._client = client
        self._life = life
        self._period = period
        self._now = now

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await clock.sleep(self._period)
            try:
                await self.expire()
            except KubeError as error:
                log.warning("%s: %s", self.name, error)

    async def expire(self) -> int:
        """One look; returns how many events were removed."""
        oldest = self._now() - self._life
        removed = 0
        for event in (await self._client.list(EVENTS)).items:
            if last_seen(event) < oldest:
                metadata = event["metadata"]
                try:
                    await self._client.delete(
                        EVENTS, metadata["name"], metadata["namespace"], uid=metadata["uid"]
                    )
                    removed += 1
                except NotFound:
                    pass  # somebody else removed it
        return removed


def last_seen(event: Object) -> datetime:
    """When the event happened last: the newest of all times that it carries."""
    series = event.get("series") or {}
    times = [
        event["metadata"].get("creationTimestamp"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        series.get("lastObservedTime"),
    ]
    return max(datetime.fromisoformat(text) for text in times if text)
