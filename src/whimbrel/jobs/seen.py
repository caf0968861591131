"""What somebody saw of a cluster, written into its record: by `status -r`, the lookout, or the keeper of its jobs.

A cluster of which nothing is seen is not forgotten here: it is shown as not UP, with the reason; `down` is what
forgets.
"""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection

from whimbrel.infra.base import Observation
from whimbrel.jobs import records
from whimbrel.model.errors import NodeLost, SetupFailed
from whimbrel.model.status import ClusterStatus
from whimbrel.store import clock, clusters
from whimbrel.store.clusters import ClusterRow


def note(connection: Connection, row: ClusterRow, seen: Observation) -> None:
    """Write down what was seen since `row` was read, unless somebody who knows better (a launch, another look) has
    written meanwhile."""
    now = clusters.get_uid(connection, row.uid)
    if (now.status, now.observed_at) != (row.status, row.observed_at) or now.status is ClusterStatus.DOWN:
        return
    been_up = row.status is ClusterStatus.UP or bool(row.nodes)
    status = ClusterStatus.UP if seen.running and been_up else ClusterStatus.INIT
    nodes = records.nodes_json(seen.nodes) if seen.nodes else row.nodes
    clusters.observed(connection, row.uid, status=status, nodes=nodes, now=clock.now())
    endpoints = [asdict(endpoint) for endpoint in seen.endpoints]
    clusters.reached(connection, row.uid, endpoints=endpoints, now=clock.now())
    if seen.running:
        if (row.last_error or {}).get("code") != SetupFailed.__name__:  # which nodes that run do not mend
            clusters.failed(connection, row.uid, None)
        return
    away = [f"{node.name} ({node.message or node.phase})" for node in seen.nodes if node.phase != "running"]
    problem = NodeLost(
        f"Not all nodes of {row.name} run: {', '.join(away) or 'none was seen'}.",
        remedy=f"whim launch -c {row.name} ...   # makes what is missing; or: whim down {row.name}",
    )
    if row.status is not ClusterStatus.INIT or row.last_error is None:
        clusters.failed(connection, row.uid, problem.to_wire())
