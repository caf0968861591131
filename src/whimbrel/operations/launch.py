"""`launch`: make a cluster, or use the one of that name; sync files, run `setup`, queue the job.

Each step finds itself done. What will exist is in the database before the first call that makes it: the
cluster's row with the names that follow from its uid, and the ledger of things. Whatever fails after that
leaves the row, with the reason, and the same command carries on from there. Which place is taken, and what happens
when it has no room after all, is `placing`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from whimbrel.jobs import records
from whimbrel.model.errors import Conflict, InfraError, WhimError
from whimbrel.model.status import ClusterStatus
from whimbrel.operations.ask import Ask
from whimbrel.operations.exec import refuse_misfits
from whimbrel.operations.placing import PASSED_OVER, Placing, closed, nowhere
from whimbrel.operations.reaching import revive
from whimbrel.operations.setting_up import set_up
from whimbrel.operations.submitting import submit_job, taken_down
from whimbrel.operations.syncing import sync_files
from whimbrel.operations.tools import Tools
from whimbrel.requests.run import Run
from whimbrel.store import clusters
from whimbrel.store.clusters import ClusterRow

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
        placing = Placing(self._tools, run, ask)
        cluster = await run.read(lambda connection: clusters.find(connection, ask.cluster))
        if cluster is None or await placing.owned(cluster):
            cluster = await self._place(run, ask, placing)
        else:
            self._check_same(cluster, ask)
            async with self._remembering(run, cluster):
                cluster = await self._make(run, ask, cluster)
        async with self._remembering(run, cluster):
            await sync_files(run, self._tools, ask, cluster, mounts=True)
            await set_up(run, self._tools, ask, cluster)
        job_id = await submit_job(run, self._tools, ask, cluster, cpus=0.0)
        return {"cluster": cluster.name, "job_id": job_id}

    # ------------------------------------------------------------ where

    async def _place(self, run: Run, ask: Ask, placing: Placing) -> ClusterRow:
        """Make the cluster in the best place that can: one without room, or without an answer, is passed over."""
        passed: list[tuple[str, str]] = []
        places = await placing.places()
        for number, place in enumerate(places, 1):
            row = await placing.row(place)
            if row is not None and closed(row):
                passed.append((row.infra, str((row.last_error or {}).get("message") or "it was passed over")))
                continue
            try:
                row = row or await placing.record(place)
                async with self._remembering(run, row):
                    return await self._make(run, ask, row)
            except PASSED_OVER as error:
                passed.append((place["infra"], error.message))
                if len(places) == 1:
                    raise
                if number == len(places):
                    raise nowhere(passed) from error
                run.report(f"{place['infra']} is passed over: {error.message}")
                if row is not None:
                    await placing.pass_over(row, error)
                run.report(f"trying {places[number]['infra']}")
        raise nowhere(passed)

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

        timeout = NODES + (spec.provision.patience or 0.0)

        async def ensure() -> dict[str, Any]:
            seen = await infra.ensure(spec, run.report, timeout)
            endpoints = [asdict(endpoint) for endpoint in seen.endpoints]
            return {"nodes": records.nodes_json(seen.nodes), "endpoints": endpoints}

        step = f"nodes-{cluster.uid[:8]}"
        made = await run.step(step, ensure, deadline=timeout + 30, things=infra.things(spec))

        def note(connection: Connection) -> ClusterRow:
            clusters.observed(
                connection, cluster.uid, status=ClusterStatus.UP, nodes=made["nodes"], now=run.now()
            )
            clusters.reached(connection, cluster.uid, endpoints=made["endpoints"], now=run.now())
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
    @asynccontextmanager
    async def _remembering(run: Run, cluster: ClusterRow) -> AsyncIterator[None]:
        """Show with the cluster what goes wrong, where `status` finds it."""
        try:
            yield
        except WhimError as error:
            wire = error.to_wire()
            await run.write(lambda connection: clusters.failed(connection, cluster.uid, wire))
            if isinstance(error, InfraError):
                run.report(f"keeping the record of cluster {cluster.name}: the same command carries on")
            raise
