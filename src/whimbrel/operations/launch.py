"""`launch`: make a cluster, or use the one of that name; sync files, run `setup`, queue the job.

Each step finds itself done. What will exist is in the database before the first call that makes it: the
cluster's row with the names that follow from its uid, and the ledger of things. Whatever fails after that
leaves the row, with the reason, and the same command carries on from there.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from whimbrel.infra.base import ClusterSpec, Infra, NodeShape, Offer
from whimbrel.jobs import records
from whimbrel.model.errors import Conflict, InfraError, WhimError
from whimbrel.model.status import ClusterStatus
from whimbrel.operations.ask import Ask
from whimbrel.operations.choosing import choose_place
from whimbrel.operations.exec import refuse_misfits
from whimbrel.operations.reaching import revive
from whimbrel.operations.setting_up import set_up
from whimbrel.operations.submitting import submit_job, taken_down
from whimbrel.operations.syncing import sync_files
from whimbrel.operations.tools import Tools
from whimbrel.optimizer.choose import no_room
from whimbrel.requests.run import Run
from whimbrel.store import clusters
from whimbrel.store.clusters import ClusterRow

CHOOSE = 20.0
LOCAL_UP = 90.0
SETTLE = 12.0
"""Seconds that a Kubernetes which has just been started gets until its nodes take work."""
NODES = 900.0
"""Seconds until all nodes run: images are pulled and machines added in this time, with progress to see."""


class Launch:
    """The operation behind `whim launch`."""

    kind = records.LAUNCH

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, run: Run) -> dict[str, Any]:
        """The whole way from a task to a queued job."""
        ask = Ask.of(run.body)
        cluster = await run.read(lambda connection: clusters.find(connection, ask.cluster))
        if cluster is None:
            cluster = await self._record(run, ask)
        else:
            self._check_same(cluster, ask)
        try:
            cluster = await self._make(run, ask, cluster)
            await sync_files(run, self._tools, ask, cluster, mounts=True)
            await set_up(run, self._tools, ask, cluster)
        except WhimError as error:
            await self._remember(run, cluster, error)
            raise
        job_id = await submit_job(run, self._tools, ask, cluster, cpus=0.0)
        return {"cluster": cluster.name, "job_id": job_id}

    # ------------------------------------------------------------ where

    async def _record(self, run: Run, ask: Ask) -> ClusterRow:
        """Choose a place and write the cluster down, before anything of it exists."""
        place = await run.step("choose", lambda: self._choose(run, ask), deadline=CHOOSE)
        if place["local"]:
            local = self._tools.places.local(ask.kubeconfig)

            async def start() -> None:
                await local.up(run.report)

            await run.step("local", start, deadline=LOCAL_UP)
        infra = await self._tools.places.get(place["infra"], ask.kubeconfig)
        shape = NodeShape(**place["shape"])
        if place["local"]:
            await run.step("room", lambda: self._check_room(infra, ask, shape), deadline=SETTLE + 10)
        identity = await infra.identity()
        uid, num_nodes, user = place["uid"], ask.task.num_nodes, run.actor
        spec = ClusterSpec(name=ask.cluster, uid=uid, num_nodes=num_nodes, shape=shape, user=user)
        namespace = infra.things(spec)[0].namespace

        def add(connection: Connection) -> ClusterRow:
            return clusters.add(
                connection,
                uid=uid,
                name=ask.cluster,
                infra=infra.name,
                kubeconfig=ask.kubeconfig,
                identity=identity,
                num_nodes=num_nodes,
                shape=asdict(shape),
                task=ask.task_wire(),
                user=user,
                now=run.now(),
                autodown=ask.down,
                namespace=namespace,
                sent=ask.sent(),
            )

        return await run.write(add)

    async def _choose(self, run: Run, ask: Ask) -> dict[str, Any]:
        choice = await choose_place(
            self._tools.places, ask.wanted, ask.task.num_nodes, ask.task.resources, ask.kubeconfig
        )
        taken: Offer = choice.taken()
        shape = taken.shape or self._tools.places.default_shape(taken.infra)
        return {
            "infra": taken.infra,
            "shape": asdict(shape),
            "local": choice.local_will_start,
            "uid": uuid.uuid4().hex,
        }

    async def _check_room(self, infra: Infra, ask: Ask, shape: NodeShape) -> None:
        """Whether it fits on what has just been started, which may need a moment to take work."""
        ends = time.monotonic() + SETTLE
        while not (offer := await infra.offer(ask.task.num_nodes, shape)).feasible:
            if time.monotonic() > ends:
                raise no_room([offer])
            await asyncio.sleep(0.5)

    @staticmethod
    def _check_same(cluster: ClusterRow, ask: Ask) -> None:
        """Whether the cluster of that name will do."""
        wanted = ask.wanted
        local = wanted == "local" and cluster.infra.endswith("kubesim-local")
        if wanted not in (None, "k8s", "kubernetes", cluster.infra) and not local:
            raise Conflict(
                f"The cluster {cluster.name} is on {cluster.infra}, and {wanted} is asked for.",
                remedy=f"use another name, or `whim down {cluster.name}` first",
            )
        refuse_misfits(cluster, ask)

    # ------------------------------------------------------------ nodes

    async def _make(self, run: Run, ask: Ask, cluster: ClusterRow) -> ClusterRow:
        """Create what is missing of the cluster, and wait until all its nodes run."""
        infra, spec = await revive(run, self._tools, cluster), records.spec_of(cluster)

        async def ensure() -> dict[str, Any]:
            seen = await infra.ensure(spec, run.report, NODES)
            return {"nodes": records.nodes_json(seen.nodes)}

        made = await run.step("nodes", ensure, deadline=NODES + 30, things=infra.things(spec))

        def note(connection: Connection) -> ClusterRow:
            clusters.observed(
                connection, cluster.uid, status=ClusterStatus.UP, nodes=made["nodes"], now=run.now()
            )
            clusters.failed(connection, cluster.uid, None)
            clusters.launched(
                connection,
                cluster.uid,
                task=ask.task_wire(),
                autodown=True if ask.down else None,
                now=run.now(),
                sent=ask.sent(),
            )
            row = clusters.get_uid(connection, cluster.uid)
            if row.status is ClusterStatus.DOWN:  # `local down` does not wait for us
                raise taken_down(row)
            return row

        return await run.write(note)

    @staticmethod
    async def _remember(run: Run, cluster: ClusterRow, error: WhimError) -> None:
        """Show with the cluster what went wrong last, where `status` finds it."""
        await run.write(lambda connection: clusters.failed(connection, cluster.uid, error.to_wire()))
        if isinstance(error, InfraError):
            run.report(f"keeping the record of cluster {cluster.name}: the same command carries on")
