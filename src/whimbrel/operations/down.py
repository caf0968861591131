"""`down`: remove a cluster, honestly (law 6).

It forgets only what it saw gone. When the infrastructure does not answer, leads to another cluster, or still
shows something at the end of the time, the record stays and the error says how to go on. With `purge` it
tries for a short while, forgets in any case, says what may be left, and keeps a tombstone by which that can
be found.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Connection

from whimbrel.infra.base import Observation
from whimbrel.jobs import records
from whimbrel.jobs.sight import same_place
from whimbrel.model.errors import DeadlineExceeded, InfraError, LeftBehind, Unreachable, WhimError
from whimbrel.operations.closing import close_forgotten, close_seen_gone
from whimbrel.operations.tools import Tools
from whimbrel.requests.run import Run
from whimbrel.store import clusters, requests, things
from whimbrel.store.clusters import ClusterRow

ANSWER = 8.0
"""Seconds within which the infrastructure has to say that it is there and the right one."""
REMOVE = 20.0
"""Seconds for everything to go, the grace of the nodes included."""
PURGE = 5.0
"""Seconds that a purge tries before it forgets."""


class Down:
    """The operation behind `whim down`."""

    kind = records.DOWN

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, run: Run) -> dict[str, Any]:
        """Remove, and close the record when nothing is left to see."""
        name = run.body["cluster"]
        cluster = await run.read(lambda connection: clusters.find(connection, name))
        if cluster is None:
            return await self._nothing_open(run, name)
        await run.write(lambda connection: things.deleting(connection, cluster.uid, now=run.now()))
        outcome = await (self._purge(run, cluster) if run.body["purge"] else self._remove(run, cluster))
        self._tools.jobs.wake(cluster.uid)
        return outcome

    @staticmethod
    async def _nothing_open(run: Run, name: str) -> dict[str, Any]:
        """Repeating a `down` that worked is no error, nor is one that came before its launch had recorded anything;
        taking down what never was is."""

        def known(connection: Connection) -> bool:
            asked = requests.newest(connection, subject=run.request.subject)
            return clusters.latest(connection, name) is not None or any(
                request.kind == records.LAUNCH and request.seq < run.request.seq for request in asked
            )

        if not await run.read(known):
            await run.read(
                lambda connection: clusters.get(connection, name)
            )  # raises, with the names there are
        return {"cluster": name, "outcome": "already_gone", "left": []}

    async def _remove(self, run: Run, cluster: ClusterRow) -> dict[str, Any]:
        try:
            seen = await self._make_gone(run, cluster, REMOVE)
        except WhimError as error:
            await self._refuse(run, cluster, error)
            raise
        if seen["left"]:
            refusal = LeftBehind(
                f"Some of the cluster {cluster.name} is still there after {REMOVE:g} s: {', '.join(seen['left'])}.",
                remedy=f"repeat `whim down {cluster.name}`; or `whim down --purge {cluster.name}` to forget it",
                details={"left": seen["left"]},
            )
            await self._refuse(run, cluster, refusal)
            raise refusal
        return await self._seen_gone(run, cluster)

    async def _seen_gone(self, run: Run, cluster: ClusterRow) -> dict[str, Any]:
        keys = await run.write(
            lambda connection: close_seen_gone(
                connection, cluster, actor=run.actor, request=run.id, now=run.now(), action="cluster.down"
            )
        )
        await self._tools.vault.wipe(*keys)
        return {"cluster": cluster.name, "outcome": "removed", "left": []}

    async def _make_gone(self, run: Run, cluster: ClusterRow, seconds: float) -> dict[str, Any]:
        """Delete, as a step: what is left for people to read, and by name."""
        answer = min(ANSWER, seconds)

        async def remove() -> dict[str, Any]:
            infra = await self._tools.infra_of(cluster)
            try:
                async with asyncio.timeout(answer):
                    await same_place(infra, cluster)
                async with asyncio.timeout(seconds + answer):
                    seen = await infra.remove(records.spec_of(cluster), run.report, seconds)
            except TimeoutError:
                raise Unreachable(f"{cluster.infra} did not answer in time.") from None
            return {"left": left_over(seen), "there": names_of(seen)}

        return await run.step("remove", remove, deadline=seconds + 2 * answer + 1)

    async def _refuse(self, run: Run, cluster: ClusterRow, error: WhimError) -> None:
        """Keep the record, with the reason, and say how to go on."""
        purge = f"`whim down --purge {cluster.name}` forgets the cluster without that (and tells what may be left)"
        error.remedy = f"{error.remedy}; {purge}" if error.remedy and purge not in error.remedy else purge
        error.message = f"The cluster {cluster.name} was not taken down, its record is kept. {error.message}"
        await run.write(lambda connection: clusters.failed(connection, cluster.uid, error.to_wire()))

    async def _purge(self, run: Run, cluster: ClusterRow) -> dict[str, Any]:
        seen: dict[str, Any] | None = None
        reason = "it was still there"
        try:
            seen = await self._make_gone(run, cluster, PURGE)
        except (InfraError, DeadlineExceeded) as error:
            reason = error.message
            run.report(f"forgetting the cluster without having seen it gone: {reason}")
        if seen is not None and not seen["left"]:
            return await self._seen_gone(run, cluster)

        def forget(connection: Connection) -> tuple[list[str], list[str]]:
            ledger = things.of_cluster(connection, cluster.uid)
            gone = [entry.token for entry in ledger if seen is not None and entry.name not in seen["there"]]
            return close_forgotten(
                connection, cluster, actor=run.actor, request=run.id, now=run.now(), reason=reason, gone=gone
            )

        left, keys = await run.write(forget)
        await self._tools.vault.wipe(*keys)
        return {"cluster": cluster.name, "outcome": "forgotten", "left": left, "reason": reason}


def left_over(seen: Observation) -> list[str]:
    """The names of what is still there."""
    nodes = [f"Pod {node.name} ({node.phase})" for node in seen.nodes if node.phase != "absent"]
    return nodes + [f"{thing.kind} {thing.name}" for thing in seen.others]


def names_of(seen: Observation) -> list[str]:
    """What is still there, by the names that the ledger has."""
    return [node.name for node in seen.nodes if node.phase != "absent"] + [
        thing.name for thing in seen.others
    ]
