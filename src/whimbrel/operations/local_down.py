"""`local down`: remove the embedded Kubernetes, and close the records of what was in it as seen gone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from whimbrel.operations.closing import Deed, close_seen_gone
from whimbrel.operations.tools import Tools
from whimbrel.requests.run import Run
from whimbrel.store import clusters, tombstones
from whimbrel.store.clusters import ClusterRow

DEADLINE = 90.0


class LocalDown:
    """The operation behind `whim local down`."""

    kind = "local.down"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, run: Run) -> dict[str, Any]:
        """Remove it; what runs in it ends with it."""
        local = self._tools.places.local(run.body["kubeconfig"])

        async def remove() -> None:
            await local.down(run.report)

        await run.step("down", remove, deadline=DEADLINE)

        deed = Deed.of(run)

        def close(connection: Connection) -> tuple[list[ClusterRow], list[str]]:
            there = clusters.list_open(connection, infra=local.name)
            keys: list[str] = []
            for cluster in there:
                keys += close_seen_gone(connection, cluster, deed, outcome="removed with its Kubernetes")
            for stone in tombstones.standing(connection, infra=local.name):
                tombstones.reap(connection, stone.cluster_uid, by=run.actor, now=run.now())
            return there, keys

        closed, keys = await run.write(close)
        await self._tools.vault.wipe(*keys)
        for cluster in closed:
            self._tools.jobs.wake(cluster.uid)
        return {"infra": local.name, "closed": [cluster.name for cluster in closed]}
