"""Deletes finished Jobs when their ttlSecondsAfterFinished has passed, their pods first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from kubesim import clock
from kubesim.controllers.family import Indexes
from kubesim.controllers.objects import condition, deleting, moment
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.informer import Object
from kubewire.resources import JOBS


class TtlController:
    """Keys are those of Jobs."""

    name = "time to live after finished"

    def __init__(self, client: Client, indexes: Indexes, *, now: Callable[[], datetime] = clock.now) -> None:
        self._client = client
        self._now = now
        self._jobs = indexes.of(JOBS)
        self._queue = WorkQueue()
        self._jobs.informer.subscribe(lambda change: self._queue.add(change.key))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._jobs.informer.synced.wait()
        await work(self.name, self._queue, self.reconcile)

    async def reconcile(self, key: str) -> float | None:
        """Delete the job, or come back when it is time."""
        job = self._jobs.informer.get(key)
        left = time_left(job, self._now()) if job is not None else None
        if job is None or left is None or left > 0:
            return left
        about = job["metadata"]
        fresh = await self._client.get(JOBS, about["name"], about["namespace"])
        left = time_left(fresh, self._now())
        if left is not None and left <= 0:
            await self._client.delete(
                JOBS,
                about["name"],
                about["namespace"],
                propagation="Foreground",
                uid=fresh["metadata"]["uid"],
            )
            return None
        return left


def time_left(job: Object, now: datetime) -> float | None:
    """Seconds until the job is to go; None when it may stay."""
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or deleting(job):
        return None
    for kind in ("Complete", "Failed"):
        found = condition(job, kind)
        if found is not None and found["status"] == "True":
            since = moment(found.get("lastTransitionTime")) or now
            return float(ttl) - (now - since).total_seconds()
    return None
