"""The server's own look at its clusters, so that `status` is not older than it need be though it asks nobody.

Clusters that nobody has looked at for a while are looked at side by side, a few at a time, within the bound of a
refresh. What does not answer is left as it was: its age shows it. A cluster that is being worked on is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import time

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from whimbrel.jobs import records
from whimbrel.operations.refreshing import refresh
from whimbrel.operations.tools import Tools
from whimbrel.store import clusters
from whimbrel.store.clusters import ClusterRow

logger = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds after which a cluster is looked at again."""
AT_ONCE = 8


async def look_out(tools: Tools) -> None:
    """For as long as the server lives."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            rows = await tools.store.read(lambda connection: _old(connection, time.time() - EVERY))
            for begin in range(0, len(rows), AT_ONCE):
                for missed in await refresh(tools, rows[begin : begin + AT_ONCE]):
                    why = missed["error"]["message"]
                    logger.info("cluster %s could not be looked at: %s", missed["cluster"], why)
        except (OperationalError, OSError) as error:
            logger.warning("clusters were not looked at: %s", error, extra={"action": "lookout-failed"})


def _old(connection: Connection, before: float) -> list[ClusterRow]:
    """The clusters that nobody has looked at since then, and nobody works on."""
    return [
        row
        for row in clusters.list_open(connection)
        if (row.observed_at or 0.0) < before and not records.busy(connection, row.name)
    ]
