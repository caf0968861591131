"""Which clusters need a keeper now, and which ask to be taken down: one loop over rows.

A cluster with a job that has not ended gets a keeper, as soon as its lease can be taken. A cluster that was
launched with `--down` and has nothing left to do gets a `down` request, like one a user makes; when that is
refused because its infrastructure does not answer, it is asked again later. The loop holds no state that
matters.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import Connection, update
from sqlalchemy.exc import OperationalError

from whimbrel.jobs import records
from whimbrel.jobs.keeper import LEASE, POLL, Desk, Keeper
from whimbrel.jobs.pulse import Pulse
from whimbrel.store import clock, clusters, jobs, leases, requests, tables
from whimbrel.store.clusters import ClusterRow

logger = logging.getLogger(__name__)

FIRST_AGAIN, LONGEST_AGAIN = 30.0, 900.0
"""Seconds until an automatic `down` that was refused is asked for again."""
SWEEP = 60.0
"""Seconds between looks for secrets that nobody needs any more."""

TakeDown = Callable[[ClusterRow], Awaitable[None]]
"""Submits a `down` request for a cluster."""


@dataclass(slots=True)
class _Again:
    at: float
    pause: float


class Reconciler:
    """The keepers of one server. `start` it in the running loop, `stop` it; `join` tells when it failed."""

    def __init__(self, desk: Desk, server_id: str, take_down: TakeDown) -> None:
        self._desk = desk
        self._server_id = server_id
        self._take_down = take_down
        self._keepers: dict[str, Keeper] = {}
        self._again: dict[str, _Again] = {}
        self._pulse = Pulse()
        self._main: asyncio.Task[None] | None = None
        self._swept_at = 0.0

    async def start(self, *, alone: bool = False) -> None:
        """Begin. `alone`: the caller's lock proves that no other server lives, so that leases of dead ones
        end now."""
        if alone:
            await self._desk.store.write(
                lambda connection: (
                    connection.execute(update(tables.clusters).values(owner=None, lease_until=None)).rowcount
                )
            )
        self._main = asyncio.create_task(self._serve(), name="whimbrel-jobs")

    def wake(self, uid: str) -> None:
        """Something about this cluster's jobs was written."""
        keeper = self._keepers.get(uid)
        if keeper is not None:
            keeper.wake()
        self._pulse.ring()

    async def join(self) -> None:
        """Wait for its end; raises if it failed."""
        if self._main is not None:
            await asyncio.shield(self._main)

    async def stop(self) -> None:
        """End every keeper; jobs on nodes go on. Idempotent."""
        main, self._main = self._main, None
        if main is not None:
            main.cancel()
            await asyncio.gather(main, return_exceptions=True)
            await self._desk.store.write(
                lambda connection: (
                    connection.execute(
                        update(tables.clusters)
                        .where(tables.clusters.c.owner == self._server_id)
                        .values(owner=None, lease_until=None)
                    ).rowcount
                )
            )

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                changed = self._pulse.next()
                try:
                    await self._look(group)
                except (OperationalError, OSError) as error:
                    logger.warning("jobs could not be looked for: %s", error, extra={"action": "look-failed"})
                try:
                    async with asyncio.timeout(POLL):
                        await changed.wait()
                except TimeoutError:
                    pass  # another server may have written: look again

    async def _look(self, group: asyncio.TaskGroup) -> None:
        uids, idle = await self._desk.store.read(_what_there_is)
        for uid in uids:
            if uid not in self._keepers:
                await self._keep(group, uid)
        for cluster in idle:
            await self._end_of_use(cluster)
        for uid in self._again.keys() - {cluster.uid for cluster in idle}:
            del self._again[uid]
        if time.monotonic() - self._swept_at > SWEEP:
            self._swept_at = time.monotonic()
            await self._sweep()

    async def _keep(self, group: asyncio.TaskGroup, uid: str) -> None:
        def take(connection: Connection) -> tuple[ClusterRow, int] | None:
            fence = leases.take(
                connection,
                tables.clusters,
                clusters.key(uid),
                owner=self._server_id,
                lease=LEASE,
                now=clock.now(),
            )
            return None if fence is None else (clusters.get_uid(connection, uid), fence)

        taken = await self._desk.store.write(take)
        if taken is not None:
            keeper = Keeper(self._desk, *taken)
            self._keepers[uid] = keeper
            group.create_task(self._guard(uid, keeper), name=f"keeper of cluster {taken[0].name}")

    async def _guard(self, uid: str, keeper: Keeper) -> None:
        """A keeper that fails must not end the others; another one takes its place after a while."""
        try:
            await keeper.run()
        except Exception:
            logger.exception("the keeper of cluster %s failed", uid, extra={"action": "keeper-failed"})
            await asyncio.sleep(POLL)
        finally:
            self._keepers.pop(uid, None)
            self._pulse.ring()

    async def _end_of_use(self, cluster: ClusterRow) -> None:
        again = self._again.get(cluster.uid)
        if again is not None and time.monotonic() < again.at:
            return
        pause = FIRST_AGAIN if again is None else min(again.pause * 2, LONGEST_AGAIN)
        self._again[cluster.uid] = _Again(at=time.monotonic() + pause, pause=pause)
        logger.info("cluster %s has nothing left to do and is taken down", cluster.name)
        await self._take_down(cluster)

    async def _sweep(self) -> None:
        """Forget the secrets of requests that have ended and have no job that still needs them."""
        keys = self._desk.vault.keys(older_than=SWEEP)  # a request's secrets are stored before its row
        if not keys:
            return

        def unneeded(connection: Connection) -> list[str]:
            waiting = {
                job.request_id
                for uid in jobs.clusters_with_live_jobs(connection)
                for job in jobs.live(connection, uid)
            }
            found = {key: requests.find(connection, key) for key in keys if key not in waiting}
            return [key for key, request in found.items() if request is None or request.state.finished]

        for key in await self._desk.store.read(unneeded):
            await self._desk.vault.wipe(key)


def _what_there_is(connection: Connection) -> tuple[list[str], list[ClusterRow]]:
    """The uids of clusters with live jobs, and the clusters that ask to be taken down now."""
    live = jobs.clusters_with_live_jobs(connection)
    idle = [
        cluster
        for cluster in clusters.list_open(connection)
        if cluster.autodown and cluster.uid not in live and not records.busy(connection, cluster.name)
    ]
    return live, idle
