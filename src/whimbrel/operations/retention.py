"""What the server forgets by itself, and when: so that a home does not grow for ever.

| what | kept for |
| --- | --- |
| requests that have finished, with their events | 30 days (`requests.engine`) |
| clusters that were removed, with their jobs and logs | 30 days |
| files that clients sent and no launch has named since | 7 days |
| lines of the audit log | 400 days |
| tombstones of what may still exist somewhere | until it is seen gone; then 400 days more |
| the server's own log | three files of 10 MB (`server.logfile`) |

It is done in small pieces with pauses between them: files in threads, rows in short transactions, the files first, so
that a crash leaves a row that names nothing, and never a file that nobody names.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from sqlalchemy.exc import OperationalError

from whimbrel.operations.tools import Tools
from whimbrel.store import clock, retention

logger = logging.getLogger(__name__)

DAY = 86400.0
CLUSTERS = 30 * DAY
AUDIT = 400 * DAY
EVERY = 3600.0
FIRST = 60.0
"""Seconds until the first look: a server that has just started has better things to do."""
PAUSE = 0.05


async def forget_what_is_old(tools: Tools) -> None:
    """For as long as the server lives."""
    await asyncio.sleep(FIRST)
    while True:
        try:
            await sweep(tools)
        except (OperationalError, OSError) as error:
            logger.warning("old things were not removed: %s", error, extra={"action": "sweep-failed"})
        await asyncio.sleep(EVERY)


async def sweep(tools: Tools) -> None:
    """Once through all of it."""
    clusters = await _closed_clusters(tools)
    lines = await _audit(tools)
    files = await tools.blobs.sweep()
    await tools.store.write(
        lambda connection: retention.drop_tombstones(connection, before=clock.moment(clock.now()) - AUDIT)
    )
    if clusters or files or lines:
        logger.info(
            "forgot %d removed clusters, %d files and %d lines of the audit log, all old",
            clusters,
            files,
            lines,
        )


async def _closed_clusters(tools: Tools) -> int:
    total = 0
    while uids := await tools.store.read(
        lambda connection: retention.closed_clusters(connection, before=clock.moment(clock.now()) - CLUSTERS)
    ):
        for uid in uids:
            await tools.logs.forget(uid)
        gone = await tools.store.write(partial(retention.drop_clusters, uids=uids))
        total += gone
        if not gone:
            break  # somebody else is at it
        await asyncio.sleep(PAUSE)
    return total


async def _audit(tools: Tools) -> int:
    total = 0
    while gone := await tools.store.write(
        lambda connection: retention.drop_audit(connection, before=clock.moment(clock.now()) - AUDIT)
    ):
        total += gone
        await asyncio.sleep(PAUSE)
    return total
