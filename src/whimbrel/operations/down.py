"""`down`: remove a cluster, honestly (law 6).

It forgets only what it saw gone. When the infrastructure does not answer, leads to another cluster, or still
shows something at the end of the time, the record stays and the error says how to go on. With `purge` it
tries for a short while, forgets in any case, says what may be left, and keeps a tombstone by which that can
be found: see `reap`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from whimbrel.infra.base import Infra, Observation
from whimbrel.jobs import records
from whimbrel.jobs.sight import same_place
from whimbrel.model.errors import InfraRefused, LeftBehind, Unreachable, WhimError
from whimbrel.operations.closing import Deed, close_forgotten, close_seen_gone, note
from whimbrel.operations.tools import Tools
from whimbrel.requests.run import Run
from whimbrel.store import clusters, requests, things
from whimbrel.store.clusters import ClusterRow

logger = logging.getLogger(__name__)

ANSWER = 8.0
"""Seconds within which the infrastructure has to say that it is the right one, and what is there."""
REMOVE = 20.0
"""Seconds for everything to go, the grace of the nodes included."""
PURGE = 8.5
"""Seconds that a purge tries before it forgets: enough for nodes that end within their grace."""
PURGE_ANSWER = 4.0
"""Seconds of those that it waits for a first answer."""
PURGE_SILENT = 1.0
"""The same, where the infrastructure is known not to answer."""
NAMED = 10
"""How many of the things that are left a message names; its details have all."""


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

    # ------------------------------------------------------------ what both ways do

    async def _look(
        self, run: Run, cluster: ClusterRow, seconds: float, silent: float | None = None
    ) -> dict[str, Any]:
        """What is there, by name, in the cluster that was recorded; as a step. What is known not to answer is asked
        for `silent` seconds only."""

        async def look(infra: Infra) -> dict[str, Any]:
            await same_place(infra, cluster)
            return {"there": names_of(await infra.observe(records.spec_of(cluster)))}

        return await run.step(
            "look", lambda: self._asked(cluster, look, seconds, silent), deadline=seconds + 2
        )

    async def _make_gone(
        self, run: Run, cluster: ClusterRow, seconds: float, answer: float
    ) -> dict[str, Any]:
        """Delete, as a step: what is left for people to read, and by name."""

        async def remove(infra: Infra) -> dict[str, Any]:
            seen = await infra.remove(records.spec_of(cluster), run.report, seconds)
            return {"left": left_over(seen), "there": names_of(seen)}

        bound = seconds + answer
        return await run.step("remove", lambda: self._asked(cluster, remove, bound), deadline=bound + 2)

    async def _asked(
        self,
        cluster: ClusterRow,
        question: Callable[[Infra], Awaitable[dict[str, Any]]],
        seconds: float,
        silent: float | None = None,
    ) -> dict[str, Any]:
        """Ask the infrastructure of a cluster; whatever goes wrong is a `WhimError`, so that nothing can keep a
        purge from its end."""
        try:
            async with asyncio.timeout(seconds) as limit:
                infra = await self._tools.infra_of(cluster)
                if silent is not None and infra.trouble():
                    seconds = silent
                    limit.reschedule(asyncio.get_running_loop().time() + silent)
                return await question(infra)
        except TimeoutError:
            raise Unreachable(
                f"{cluster.infra} did not answer within {seconds:g} s.",
                remedy="check that it is running, and the network or VPN to it",
            ) from None
        except WhimError:
            raise
        except Exception as error:
            logger.exception("asking %s about %s failed", cluster.infra, cluster.name)
            raise InfraRefused(f"{cluster.infra}: asking about {cluster.name} failed: {error!r}.") from error

    async def _seen_gone(self, run: Run, cluster: ClusterRow, outcome: str) -> dict[str, Any]:
        deed = Deed.of(run, forced=run.body["purge"])
        keys = await run.write(
            lambda connection: close_seen_gone(connection, cluster, deed, outcome=outcome.replace("_", " "))
        )
        await self._tools.vault.wipe(*keys)
        return {"cluster": cluster.name, "outcome": outcome, "left": []}

    # ------------------------------------------------------------ down

    async def _remove(self, run: Run, cluster: ClusterRow) -> dict[str, Any]:
        try:
            first = await self._look(run, cluster, ANSWER)
            if not first["there"]:
                return await self._seen_gone(run, cluster, "already_gone")
            seen = await self._make_gone(run, cluster, REMOVE, ANSWER)
            if seen["left"]:
                raise left_behind(cluster.name, seen["left"])
        except WhimError as error:
            await self._refuse(run, cluster, error)
            raise
        return await self._seen_gone(run, cluster, "removed")

    @staticmethod
    async def _refuse(run: Run, cluster: ClusterRow, error: WhimError) -> None:
        """Keep the record, with the reason, and say how to go on."""
        reason = error.message
        purge = f"`whim down --purge {cluster.name}` forgets the cluster without that (and tells what may be left)"
        error.remedy = f"{error.remedy}; {purge}" if error.remedy and purge not in error.remedy else purge
        error.message = f"The cluster {cluster.name} was not taken down, its record is kept. {reason}"
        deed = Deed.of(run)

        def keep(connection: Connection) -> None:
            clusters.failed(connection, cluster.uid, error.to_wire())
            note(
                connection,
                cluster,
                deed,
                outcome="kept",
                reason=reason,
                left=error.details.get("left", []),
            )

        await run.write(keep)

    # ------------------------------------------------------------ purge

    async def _purge(self, run: Run, cluster: ClusterRow) -> dict[str, Any]:
        ends = time.monotonic() + PURGE
        seen: dict[str, Any] | None = None
        reason = "it was still there"
        try:
            seen = await self._look(run, cluster, PURGE_ANSWER, silent=PURGE_SILENT)
            if not seen["there"]:
                return await self._seen_gone(run, cluster, "already_gone")
            seconds = max(0.5, ends - time.monotonic())
            seen = await self._make_gone(run, cluster, seconds, 0.5)
            if not seen["left"]:
                return await self._seen_gone(run, cluster, "removed")
            reason = f"it was still there: {some_of(seen['left'])}"
        except WhimError as error:
            reason = error.message
            run.report(f"forgetting the cluster without having seen it gone: {reason}")
        there = None if seen is None else seen["there"]
        deed = Deed.of(run, forced=True)

        def forget(connection: Connection) -> tuple[list[str], list[str]]:
            ledger = things.of_cluster(connection, cluster.uid)
            gone = [entry.token for entry in ledger if there is not None and entry.name not in there]
            return close_forgotten(connection, cluster, deed, reason=reason, gone=gone)

        left, keys = await run.write(forget)
        await self._tools.vault.wipe(*keys)
        return {
            "cluster": cluster.name,
            "infra": cluster.infra,
            "outcome": "forgotten",
            "left": left,
            "reason": reason,
        }


def left_behind(name: str, left: Sequence[str]) -> LeftBehind:
    """Some of it could not be removed: what, and why."""
    return LeftBehind(
        f"Some of it could not be removed: {some_of(left)}.",
        remedy=f"mend what holds it, and repeat `whim down {name}`",
        details={"left": list(left)},
    )


def some_of(left: Sequence[str]) -> str:
    """The first ones of a list, and how many more there are."""
    more = f"; and {len(left) - NAMED} more" if len(left) > NAMED else ""
    return "; ".join(left[:NAMED]) + more


def left_over(seen: Observation) -> list[str]:
    """What is still there, each with why."""
    nodes = [
        f"Pod {node.name} ({node.phase}{f': {node.message}' if node.message else ''})"
        for node in seen.nodes
        if node.phase != "absent"
    ]
    others = []
    for thing in seen.others:
        why = seen.refused.get(thing.name, "")
        others.append(f"{thing.kind} {thing.name}{f' ({why})' if why else ''}")
    return nodes + others


def names_of(seen: Observation) -> list[str]:
    """What is still there, by the names that the ledger has."""
    return [node.name for node in seen.nodes if node.phase != "absent"] + [
        thing.name for thing in seen.others
    ]
