"""Where the cluster of a launch is made: the place that is chosen, and the next one when that has no room after all.

The places are chosen once and stored with their order; each has the uid that the cluster would have there, so that a
launch which is carried on after a crash knows which of them it is in. What is passed over is removed there first, and
where that cannot be seen, a tombstone says what may be left.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection

from whimbrel.infra.base import ClusterSpec, Infra, NodeShape
from whimbrel.infra.provision import Provision
from whimbrel.jobs import records
from whimbrel.jobs.sight import same_place
from whimbrel.model.errors import (
    ContextNotFound,
    DeadlineExceeded,
    Forbidden,
    InfraError,
    NotFound,
    OutOfCapacity,
    Unauthorized,
    Unreachable,
    WhimError,
)
from whimbrel.model.status import ClusterStatus
from whimbrel.operations.ask import Ask
from whimbrel.operations.choosing import choose_place
from whimbrel.operations.closing import Deed, close_forgotten, close_seen_gone
from whimbrel.operations.down import left_over, names_of
from whimbrel.operations.tools import Tools
from whimbrel.optimizer.choose import no_room
from whimbrel.requests.run import Run
from whimbrel.store import clusters, steps, things, volumes
from whimbrel.store.clusters import ClusterRow

CHOOSE = 20.0
LOCAL_UP = 90.0
SETTLE = 12.0
"""Seconds that a Kubernetes which has just been started gets until its nodes take work."""
REMOVE = 10.0
"""Seconds for what was made in a place that is passed over to go."""
ELSEWHERE = 60.0
"""Seconds that nodes wait for a machine where another place could be taken, unless `provision_timeout` says."""
SCALING = 600.0
"""The same where machines are added by an autoscaler."""

PASSED_OVER = (OutOfCapacity, Unreachable, Unauthorized, Forbidden, ContextNotFound)
"""What is wrong with a place and not with the task: another place may do."""


class Placing:
    """The places of one launch."""

    def __init__(self, tools: Tools, run: Run, ask: Ask) -> None:
        self._tools = tools
        self._run = run
        self._ask = ask

    async def owned(self, cluster: ClusterRow) -> bool:
        """Whether this launch has made that record, before its server went away."""
        step = await self._run.read(lambda connection: steps.find(connection, self._run.id, "choose"))
        if step is None or not step.done:
            return False
        return cluster.uid in {place["uid"] for place in (step.output or {}).get("places", ())}

    async def places(self) -> list[dict[str, Any]]:
        """Where the cluster can be made, best first."""
        chosen = await self._run.step("choose", self._choose, deadline=CHOOSE)
        found: list[dict[str, Any]] = chosen["places"]
        return found

    async def row(self, place: dict[str, Any]) -> ClusterRow | None:
        """The record of the cluster there, if it got so far."""

        def read(connection: Connection) -> ClusterRow | None:
            try:
                return clusters.get_uid(connection, place["uid"])
            except NotFound:
                return None

        return await self._run.read(read)

    async def record(self, place: dict[str, Any]) -> ClusterRow:
        """Write the cluster down, before anything of it exists there."""
        run, ask = self._run, self._ask
        if place["local"]:
            local = self._tools.places.local(ask.kubeconfig)

            async def start() -> None:
                await local.up(run.report)

            await run.step("local", start, deadline=LOCAL_UP)
        infra = await self._tools.places.get(place["infra"], ask.kubeconfig)
        shape, provision = NodeShape(**place["shape"]), Provision.from_json(place["provision"])
        if place["local"]:
            await run.step("room", lambda: self._check_room(infra, shape, provision), deadline=SETTLE + 10)
        identity = await infra.identity()
        spec = ClusterSpec(
            name=ask.cluster,
            uid=place["uid"],
            num_nodes=ask.task.num_nodes,
            shape=shape,
            user=run.actor,
            provision=provision,
        )
        namespace = infra.things(spec)[0].namespace

        def add(connection: Connection) -> ClusterRow:
            volumes.of_task(connection, ask.task)  # raises where one has been deleted since
            return clusters.add(
                connection,
                uid=spec.uid,
                name=ask.cluster,
                infra=infra.name,
                kubeconfig=ask.kubeconfig,
                identity=identity,
                num_nodes=spec.num_nodes,
                shape=asdict(shape),
                task=ask.task_wire(),
                user=run.actor,
                now=run.now(),
                autodown=ask.down,
                namespace=namespace,
                provision=provision.to_json(),
                sent=ask.sent(),
            )

        return await run.write(add)

    async def pass_over(self, cluster: ClusterRow, error: WhimError) -> None:
        """Remove what was made there, within a short bound, and close the record."""
        run, uid = self._run, cluster.uid
        await run.write(lambda connection: things.deleting(connection, uid, now=run.now()))
        seen: dict[str, Any] | None = None
        try:
            seen = await run.step(f"leave-{uid[:8]}", lambda: self._remove(cluster), deadline=2 * REMOVE + 5)
        except (InfraError, DeadlineExceeded) as problem:
            run.report(f"what was made in {cluster.infra} was not seen gone: {problem.message}")

        def close(connection: Connection) -> None:
            deed = Deed.of(run)
            if seen is not None and not seen["left"]:
                close_seen_gone(connection, cluster, deed, outcome="passed over: seen gone")
                return
            ledger = things.of_cluster(connection, uid)
            gone = [entry.token for entry in ledger if seen is not None and entry.name not in seen["there"]]
            reason = f"the launch went on elsewhere: {error.message}"
            close_forgotten(connection, cluster, deed, reason=reason, gone=gone)

        await run.write(close)

    async def _remove(self, cluster: ClusterRow) -> dict[str, Any]:
        infra = await self._tools.infra_of(cluster)
        try:
            async with asyncio.timeout(REMOVE):
                await same_place(infra, cluster)
            async with asyncio.timeout(REMOVE + 2):
                seen = await infra.remove(records.spec_of(cluster), self._run.report, REMOVE)
        except TimeoutError:
            raise Unreachable(f"{cluster.infra} did not answer in time.") from None
        return {"left": left_over(seen), "there": names_of(seen)}

    async def _choose(self) -> dict[str, Any]:
        ask = self._ask
        rows = await self._run.read(lambda connection: volumes.of_task(connection, ask.task))
        choice = await choose_place(self._tools.places, ask, rows, elsewhere=True)
        offers = choice.in_order() if ask.may_go_elsewhere else [choice.taken()]
        return {
            "places": [
                {
                    "infra": offer.infra,
                    "shape": asdict(offer.shape or self._tools.places.default_shape(offer.infra)),
                    "provision": _patient(choice.provisions[offer.infra], last=offer is offers[-1]).to_json(),
                    "local": choice.local_will_start,
                    "uid": uuid.uuid4().hex,
                }
                for offer in offers
            ]
        }

    async def _check_room(self, infra: Infra, shape: NodeShape, provision: Provision) -> None:
        """Whether it fits on what has just been started, which may need a moment to take work."""
        ends = time.monotonic() + SETTLE
        while not (offer := await infra.offer(self._ask.task.num_nodes, shape, provision)).feasible:
            if time.monotonic() > ends:
                raise no_room([offer])
            await asyncio.sleep(0.5)


def _patient(provision: Provision, *, last: bool) -> Provision:
    """For how long its nodes wait for machines: not for ever where another place could be taken."""
    if last or provision.patience is not None:
        return provision
    return replace(provision, patience=SCALING if provision.autoscaler else ELSEWHERE)


def nowhere(passed: list[tuple[str, str]]) -> OutOfCapacity:
    """The error that says, place by place, why it was passed over."""
    width = max(len(infra) for infra, _ in passed)
    table = "\n".join(f"  {infra:<{width}}  {reason}" for infra, reason in passed)
    return OutOfCapacity(
        f"No place could run this; each was tried, and passed over because of this:\n{table}",
        remedy="ask for less, take something down, or name another place with --infra",
        details={"passed_over": [{"infra": infra, "reason": reason} for infra, reason in passed]},
    )


def closed(row: ClusterRow) -> bool:
    """Whether a place was passed over already."""
    return row.status is ClusterStatus.DOWN
