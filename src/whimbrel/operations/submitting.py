"""The last step of a launch and of an exec: the job's row, made once per request, and a word to its keeper.

No step is recorded for it: the row itself says which request made it, so that doing it again finds it done.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from whimbrel.model.errors import NotFound
from whimbrel.model.status import ClusterStatus
from whimbrel.operations.ask import Ask
from whimbrel.operations.tools import Tools
from whimbrel.requests.run import Run
from whimbrel.store import clusters, jobs
from whimbrel.store.clusters import ClusterRow


async def submit_job(run: Run, tools: Tools, ask: Ask, cluster: ClusterRow, *, cpus: float) -> int | None:
    """Queue the task's `run`; the job's id, or None for a task that has nothing to run.

    Args:
        run: of the request.
        tools: of the server.
        ask: what was asked for.
        cluster: where.
        cpus: what the job takes of each node in the queue; 0 for the small share of one that did not say.
    """
    task = ask.task
    if not task.run:
        return None
    spec: dict[str, Any] = {
        "run": task.run,
        "envs": dict(task.envs),
        "secret_names": list(ask.secret_names),
        "resources": ask.task_wire()["resources"],
    }
    gpus = task.resources.accelerators.count if task.resources.accelerators else 0.0

    def insert(connection: Connection) -> int:
        if clusters.get_uid(connection, cluster.uid).status is ClusterStatus.DOWN:
            raise taken_down(cluster)
        job = jobs.submit(
            connection,
            cluster.uid,
            name=task.name or "",
            spec=spec,
            num_nodes=task.num_nodes,
            cpus=cpus,
            gpus=gpus,
            request_id=run.id,
            now=run.now(),
        )
        return job.id

    job_id = await run.write(insert)
    tools.jobs.wake(cluster.uid)
    return job_id


def taken_down(cluster: ClusterRow) -> NotFound:
    """Somebody has removed the cluster under the request that works on it."""
    return NotFound(f"The cluster {cluster.name} was taken down meanwhile.", remedy="launch it again")
