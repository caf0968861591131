"""`reap`: find what purged clusters left behind, now that their infrastructure answers again, and remove it.

Nothing is taken for a leftover on the word of a context's name: only the cluster whose identity the tombstone has is
asked, by the names of the ledger and by the labels. Looking is a read with a bound, side by side; removing is a
request, which marks a tombstone as reaped once nothing was seen any more. What has one of our names but no label of
ours is told, and left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from whimbrel.infra.base import ClusterSpec, Infra, NodeShape, Thing
from whimbrel.jobs import records
from whimbrel.model.config import Config
from whimbrel.model.errors import IdentityChanged, InfraError, InfraRefused, Unreachable, WhimError
from whimbrel.operations.down import left_over, names_of
from whimbrel.operations.tools import Paths, Tools
from whimbrel.requests.run import Run
from whimbrel.store import audit, things, tombstones
from whimbrel.store.tombstones import Tombstone

logger = logging.getLogger(__name__)

LOOK = 6.0
"""Seconds for all places together."""
REMOVE = 10.0
"""Seconds for the leftovers of one cluster to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found of one tombstone, or why nothing could be."""

    stone: Tombstone
    at: str  # the place that was asked
    kubeconfig: tuple[str, ...]
    there: Sequence[str] = ()  # ours, and still there
    strangers: Sequence[str] = ()  # has a name of ours, but is not ours by its labels
    error: WhimError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    infra: str
    kubeconfig: tuple[str, ...]


async def look(tools: Tools, wanted: Sequence[str], kubeconfig: Paths) -> list[Found]:
    """Look for the leftovers of every tombstone that stands, or of those of the places that are named.

    Raises:
        ContextNotFound: a place is named that there is not, and no tombstone names it.
    """
    stones = await tools.store.read(tombstones.standing)
    asked: dict[_Place, list[Tombstone]] = {}
    if wanted:
        own = {stone.infra for stone in stones}
        for name in wanted:
            known = [name] if name in own else list(await tools.places.candidates(name, kubeconfig, Config()))
            asked |= {_Place(infra=place, kubeconfig=tuple(kubeconfig)): stones for place in known}
    else:
        for stone in stones:
            place = _Place(infra=stone.infra, kubeconfig=tuple(stone.kubeconfig))
            asked.setdefault(place, []).append(stone)
    found = await asyncio.gather(*(_look_at(tools, place, some) for place, some in asked.items()))
    best: dict[str, Found] = {}
    for one in (one for some in found for one in some):  # a tombstone may be met at several places
        uid = one.stone.cluster_uid
        if uid not in best or (best[uid].error is not None and one.error is None):
            best[uid] = one
    return list(best.values())


async def _look_at(tools: Tools, place: _Place, stones: Sequence[Tombstone]) -> list[Found]:
    """Those of the tombstones that are of the cluster that this place leads to, and those that name the place."""
    found: list[Found] = []
    try:
        async with asyncio.timeout(LOOK):
            infra = await tools.places.get(place.infra, place.kubeconfig)
            for like in {stone.identity for stone in stones}:  # asked in the words of what was recorded
                some = [stone for stone in stones if stone.identity == like]
                if await infra.identity(like) == like:
                    found += await asyncio.gather(*(_leftovers(tools, infra, place, one) for one in some))
                else:
                    found += [_not_asked(place, one, _elsewhere(place)) for one in some]
    except (TimeoutError, WhimError) as error:
        known, told = _words(place, error), {one.stone.cluster_uid for one in found}
        found += [_not_asked(place, stone, known) for stone in stones if stone.cluster_uid not in told]
    return [one for one in found if one.error is None or one.stone.infra == place.infra]


def _elsewhere(place: _Place) -> IdentityChanged:
    return IdentityChanged(
        f"{place.infra} now leads to another Kubernetes cluster; nothing is looked for there.",
        remedy="point the context back, or name the context that leads to the old one: `whim reap k8s/CONTEXT`",
    )


def _words(place: _Place, error: Exception) -> WhimError:
    if isinstance(error, WhimError):
        return error
    return Unreachable(
        f"{place.infra} did not answer within {LOOK:g} s.", remedy=f"whim check {place.infra}   # asks again"
    )


def _not_asked(place: _Place, stone: Tombstone, error: WhimError) -> Found:
    return Found(stone=stone, at=place.infra, kubeconfig=place.kubeconfig, error=error)


async def _leftovers(tools: Tools, infra: Infra, place: _Place, stone: Tombstone) -> Found:
    """What is left of one, by labels and by names."""
    entries = await tools.store.read(lambda connection: things.of_cluster(connection, stone.cluster_uid))
    known = [
        Thing(token=entry.token, kind=entry.kind, name=entry.name, namespace=entry.namespace)
        for entry in entries
        if entry.state != "absent"
    ]
    try:
        seen, named = await asyncio.gather(infra.observe(spec_of(stone)), infra.named(known))
    except InfraError as error:
        return _not_asked(place, stone, error)
    ours = names_of(seen)
    strangers = [f"{thing.kind} {thing.namespace}/{thing.name}" for thing in named if thing.name not in ours]
    return Found(
        stone=stone,
        at=place.infra,
        kubeconfig=place.kubeconfig,
        there=left_over(seen),
        strangers=strangers,
    )


def spec_of(stone: Tombstone) -> ClusterSpec:
    """The cluster that it stands for."""
    return ClusterSpec(
        name=stone.name,
        uid=stone.cluster_uid,
        num_nodes=stone.num_nodes,
        shape=NodeShape(**stone.shape),
        user=stone.user,
        namespace=stone.namespace,
        identity=stone.identity,
    )


class Reap:
    """The operation behind `whim reap`: removes what was shown. Its body names each tombstone and where it was met."""

    kind = "tombstones.reap"
    subject = "tombstones"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, run: Run) -> dict[str, Any]:
        """All of them side by side, each with its own outcome."""
        wanted = {
            item["uid"]: _Place(infra=item["infra"], kubeconfig=tuple(item["kubeconfig"]))
            for item in run.body["tombstones"]
        }
        stones = await run.read(lambda connection: tombstones.of_uids(connection, list(wanted)))
        outcomes = await asyncio.gather(
            *(self._reap(run, stone, wanted[stone.cluster_uid]) for stone in stones)
        )
        return {"tombstones": list(outcomes)}

    async def _reap(self, run: Run, stone: Tombstone, place: _Place) -> dict[str, Any]:
        async def remove() -> dict[str, Any]:
            return await self._remove(run, stone, place)

        done = await run.step(f"reap {stone.cluster_uid}", remove, deadline=REMOVE + 2 * LOOK + 2)
        outcome = {"name": stone.name, "id": stone.cluster_uid[:8], "infra": place.infra, **done}

        def note(connection: Connection) -> None:
            if done["outcome"] in ("reaped", "nothing_left"):
                tombstones.reap(connection, stone.cluster_uid, by=run.actor, now=run.now())
            audit.write(
                connection,
                actor=run.actor,
                action="tombstone.reap",
                subject=records.subject(stone.name),
                request=run.id,
                now=run.now(),
                data={
                    "uid": stone.cluster_uid,
                    "infra": place.infra,
                    "origin": str(run.body.get("origin") or ""),
                    "forced": False,
                    **{**done, "outcome": done["outcome"].replace("_", " ")},
                },
            )

        await run.write(note)
        return outcome

    async def _remove(self, run: Run, stone: Tombstone, place: _Place) -> dict[str, Any]:
        """Remove what is ours; a failure of one is data, not the end of the others."""
        try:
            async with asyncio.timeout(REMOVE + 2 * LOOK):
                infra = await self._tools.places.get(place.infra, place.kubeconfig)
                found = await _leftovers(self._tools, infra, place, stone)
                if found.error is not None:
                    raise found.error
                seen = await infra.remove(spec_of(stone), run.report, REMOVE) if found.there else None
        except TimeoutError:
            return {"outcome": "kept", "left": [], "reason": f"{place.infra} did not answer in time"}
        except WhimError as error:
            return {"outcome": "kept", "left": [], "reason": error.message}
        except Exception as error:
            logger.exception("reaping %s failed", stone.name)
            refused = InfraRefused(f"{place.infra}: reaping {stone.name} failed: {error!r}")
            return {"outcome": "kept", "left": [], "reason": refused.message}
        left = [*(left_over(seen) if seen else ()), *(f"{name} (not ours)" for name in found.strangers)]
        if left:
            return {"outcome": "left_behind", "left": left, "reason": "some of it could not be removed"}
        return {
            "outcome": "reaped" if found.there else "nothing_left",
            "left": [],
            "removed": list(found.there),
        }
