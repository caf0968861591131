"""Why a job that waits does not run yet, in the words of `whim queue`. Pure: it repeats the queue's own decision."""

from __future__ import annotations

from collections.abc import Sequence

from whimbrel.jobs import records
from whimbrel.jobs.outcome import placement_of
from whimbrel.jobs.queue import Capacity, Demand, Occupied, pack, small_share
from whimbrel.model.status import ClusterStatus, JobStatus
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.jobs import JobRow


def reasons(cluster: ClusterRow, live: Sequence[JobRow]) -> dict[int, str]:
    """By job id, for those that wait. `live` are the jobs that have not ended, in the order of the queue."""
    waiting = [job for job in live if job.status is JobStatus.PENDING]
    if cluster.status is not ClusterStatus.UP:
        trouble = str((cluster.last_error or {}).get("message") or "")
        said = f"its cluster is {cluster.status}" + (f": {trouble}" if trouble else "")
        return {job.id: said for job in waiting}
    placed = [job for job in live if job.status is not JobStatus.PENDING]
    occupied = [
        Occupied(demand=records.demand(job), placement=placement_of(job.id, records.ranks(job)))
        for job in placed
    ]
    nodes = records.capacity(cluster)
    startable = {one.job_id for one in pack(nodes, occupied, [records.demand(job) for job in waiting])}
    found: dict[int, str] = {}
    first: int | None = None  # the oldest for which there is no room: everybody behind it waits for it
    for job in waiting:
        if job.cancel_requested_at is not None:
            found[job.id] = "it is being cancelled"
        elif job.id in startable:
            found[job.id] = "it is about to start"
        elif first is None:
            first = job.id
            found[job.id] = _for_room(nodes, records.demand(job), placed)
        else:
            found[job.id] = f"behind job {first}"
    return found


def _for_room(nodes: Sequence[Capacity], demand: Demand, placed: Sequence[JobRow]) -> str:
    cpus = (
        demand.cpus
        if demand.cpus is not None
        else max((small_share(node.cpus) for node in nodes), default=0.0)
    )
    asks = f"{cpus:g} CPUs" + (f" and {demand.gpus:g} GPUs" if demand.gpus else "")
    where = f" on each of {demand.num_nodes} nodes" if demand.num_nodes > 1 else ""
    running = ", ".join(str(job.id) for job in placed)
    return f"for {asks}{where}" + (f" (taken by job {running})" if running else "")
