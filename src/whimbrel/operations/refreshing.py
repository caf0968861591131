"""`status --refresh`: ask every infrastructure, side by side, within a bound (law 3).

What could not be reached is reported beside what could. A cluster of which nothing is seen is not forgotten
here: it is shown as not UP, with the reason; `down` is what forgets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from whimbrel.infra.base import Observation
from whimbrel.jobs import records
from whimbrel.jobs.sight import same_place
from whimbrel.model.errors import InfraError, NodeLost, Unreachable
from whimbrel.model.status import ClusterStatus
from whimbrel.operations.tools import Tools
from whimbrel.store import clock, clusters
from whimbrel.store.clusters import ClusterRow

BUDGET = 6.0
"""Seconds for all of them together."""


async def refresh(tools: Tools, rows: Sequence[ClusterRow]) -> list[dict[str, Any]]:
    """Look at these clusters and write down what was seen; the errors of what could not be seen."""
    outcomes = await asyncio.gather(*(_look(tools, row) for row in rows))
    return [outcome for outcome in outcomes if outcome is not None]


async def _look(tools: Tools, row: ClusterRow) -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(BUDGET):
            infra = await tools.infra_of(row)
            await same_place(infra, row)
            seen = await infra.observe(records.spec_of(row))
    except TimeoutError:
        error: InfraError = Unreachable(
            f"{row.infra} did not answer within {BUDGET:g} s.", remedy=f"whim check {row.infra}"
        )
    except InfraError as raised:
        error = raised
    else:
        await tools.store.write(lambda connection: _note(connection, row, seen))
        return None
    return {"cluster": row.name, "infra": row.infra, "error": error.to_wire()}


def _note(connection: Connection, row: ClusterRow, seen: Observation) -> None:
    """Write down what was seen, unless somebody who knows better (a launch, another look) has written meanwhile."""
    now = clusters.get_uid(connection, row.uid)
    if (now.status, now.observed_at) != (row.status, row.observed_at):
        return
    been_up = row.status is ClusterStatus.UP or bool(row.nodes)
    status = ClusterStatus.UP if seen.running and been_up else ClusterStatus.INIT
    nodes = records.nodes_json(seen.nodes) if seen.nodes else row.nodes
    clusters.observed(connection, row.uid, status=status, nodes=nodes, now=clock.now())
    endpoints = [asdict(endpoint) for endpoint in seen.endpoints]
    clusters.reached(connection, row.uid, endpoints=endpoints, now=clock.now())
    if seen.running:
        clusters.failed(connection, row.uid, None)
        return
    away = [f"{node.name} ({node.message or node.phase})" for node in seen.nodes if node.phase != "running"]
    problem = NodeLost(
        f"Not all nodes of {row.name} run: {', '.join(away) or 'none was seen'}.",
        remedy=f"whim launch -c {row.name} ...   # makes what is missing; or: whim down {row.name}",
    )
    if row.status is not ClusterStatus.INIT or row.last_error is None:
        clusters.failed(connection, row.uid, problem.to_wire())
