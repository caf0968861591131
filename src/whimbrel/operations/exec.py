"""`exec`: a job on a cluster that is up. Its workdir is synced; nothing is provisioned, and `setup` is not
run."""

from __future__ import annotations

from typing import Any

from whimbrel.jobs.records import provision_of, shape_of
from whimbrel.model.errors import Conflict
from whimbrel.model.status import ClusterStatus
from whimbrel.operations.ask import Ask
from whimbrel.operations.provisioning import differences
from whimbrel.operations.reaching import reach
from whimbrel.operations.submitting import submit_job
from whimbrel.operations.syncing import sync_files
from whimbrel.operations.tools import Tools
from whimbrel.optimizer.fit import misfits
from whimbrel.requests.run import Run
from whimbrel.store import clusters
from whimbrel.store.clusters import ClusterRow


class Exec:
    """The operation behind `whim exec`."""

    kind = "cluster.exec"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, run: Run) -> dict[str, Any]:
        """Check, sync what was sent, queue the job."""
        ask = Ask.of(run.body)
        cluster = await run.read(lambda connection: clusters.get(connection, ask.cluster))
        check_usable(cluster, ask)
        await reach(self._tools, cluster)
        if ask.workdir:
            await sync_files(run, self._tools, ask, cluster, mounts=False)
        cpus = ask.task.resources.cpus.value if ask.task.resources.cpus else 0.0
        job_id = await submit_job(run, self._tools, ask, cluster, cpus=cpus)
        return {"cluster": cluster.name, "job_id": job_id}


def check_usable(cluster: ClusterRow, ask: Ask) -> None:
    """Raise `Conflict` unless jobs like this can run on the cluster as it is."""
    if cluster.status is not ClusterStatus.UP:
        raise Conflict(
            f"The cluster {cluster.name} is {cluster.status}, not UP: its launch has not finished.",
            remedy=f"whim launch -c {cluster.name} ...   # finishes it",
        )
    refuse_misfits(cluster, ask)


def refuse_misfits(cluster: ClusterRow, ask: Ask) -> None:
    """Raise `Conflict` when the cluster is smaller than what is asked for."""
    problems = misfits(
        ask.task.resources, ask.task.num_nodes, have=shape_of(cluster), have_nodes=cluster.num_nodes
    ) + differences(ask.task, provision_of(cluster))
    if problems:
        raise Conflict(
            f"The cluster {cluster.name} cannot run this: {'; '.join(problems)}.",
            remedy=f"ask for less, use another name, or `whim down {cluster.name}` first",
            details={"problems": problems},
        )
