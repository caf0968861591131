"""Rows as the rest of this room needs them: what a job asks for, what a cluster has, who its ranks are.

Pure, but for the two questions that are asked inside a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from whimbrel.infra.base import ClusterSpec, NodeShape, NodeState
from whimbrel.infra.provision import Provision
from whimbrel.jobs.outcome import Rank
from whimbrel.jobs.queue import Capacity, Demand
from whimbrel.runtime.environment import Place, job_environment, make_task_id
from whimbrel.runtime.spool import JobFiles
from whimbrel.store import requests
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.jobs import JobRow


def shape_of(cluster: ClusterRow) -> NodeShape:
    """What each node of the cluster was given."""
    return NodeShape(**cluster.shape)


def provision_of(cluster: ClusterRow) -> Provision:
    """How its nodes are made beside their shape."""
    return Provision.from_json(cluster.provision)


def spec_of(cluster: ClusterRow) -> ClusterSpec:
    """What the infrastructure is asked to make so."""
    return ClusterSpec(
        name=cluster.name,
        uid=cluster.uid,
        num_nodes=cluster.num_nodes,
        shape=shape_of(cluster),
        user=cluster.user,
        namespace=cluster.namespace,
        provision=provision_of(cluster),
        identity=cluster.identity,
    )


def nodes_json(nodes: Sequence[NodeState]) -> list[dict[str, Any]]:
    """Nodes as a cluster's row holds them."""
    return [asdict(node) for node in sorted(nodes, key=lambda node: node.rank)]


def capacity(cluster: ClusterRow) -> list[Capacity]:
    """What the queue may give away."""
    shape = shape_of(cluster)
    return [
        Capacity(node=rank, cpus=shape.cpus, gpus=shape.accelerator_count)
        for rank in range(cluster.num_nodes)
    ]


def demand(job: JobRow) -> Demand:
    """What a job asks for; 0 CPUs in its row means that it did not say."""
    return Demand(job_id=job.id, num_nodes=job.num_nodes, cpus=job.cpus or None, gpus=job.gpus)


def ranks(job: JobRow) -> list[Rank]:
    """The ranks of a job that has a place."""
    return [Rank.from_json(raw) for raw in job.ranks]


def job_files(cluster: ClusterRow, job: JobRow, secrets: Mapping[str, str]) -> list[JobFiles]:
    """What each rank of a job needs on its node."""
    spec, places = job.spec, ranks(job)
    ips = {node["rank"]: node.get("ip") or "" for node in cluster.nodes}
    place = Place(
        cluster=cluster.name,
        infra=cluster.infra,
        ips=[ips.get(rank.node, "") for rank in places],
        gpus_per_node=int(job.gpus),
        user=cluster.user,
        envs=spec.get("envs") or {},
        secrets=secrets,
    )
    task_id = make_task_id(cluster.name, str(job.id), submitted_at=stamp(job.submitted_at))
    return [
        JobFiles(
            id=str(job.id),
            script=spec["run"],
            env={**job_environment(place, rank=rank.rank, job_id=job.id, task_id=task_id), **_devices(rank)},
        )
        for rank in places
    ]


def subject(cluster: str) -> str:
    """The subject of requests about a cluster: they run one at a time, in their order."""
    return f"cluster:{cluster}"


LAUNCH = "cluster.launch"
"""The kind of requests that make a cluster."""
DOWN = "cluster.down"
"""The kind of requests that remove a cluster."""


def being_removed(connection: Connection, cluster: str) -> bool:
    """Whether somebody has asked to remove it, and that has not ended yet."""
    return any(request.kind == DOWN for request in requests.live(connection, subject(cluster)))


def busy(connection: Connection, cluster: str) -> bool:
    """Whether any request about it has not ended."""
    return bool(requests.live(connection, subject(cluster)))


def stamp(at: float) -> str:
    """A moment as the ids of tasks have it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d-%H-%M-%S-%f")


def _devices(rank: Rank) -> dict[str, str]:
    """Which of its node's GPUs a rank may use, so that jobs beside each other do not meet on the first
    one."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, rank.gpus))} if rank.gpus else {}
