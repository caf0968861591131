"""Reach the place of a cluster before anything is promised there: it answers, and it is the one that it was.

A job that is queued where nobody answers would leave its user before an empty screen. The embedded Kubernetes is
ours: a launch starts it again where it has died.
"""

from __future__ import annotations

from whimbrel.infra.base import Infra
from whimbrel.jobs.sight import same_place
from whimbrel.model.errors import ContextNotFound, Unreachable
from whimbrel.operations.tools import Tools
from whimbrel.requests.run import Run
from whimbrel.store.clusters import ClusterRow


async def reach(tools: Tools, cluster: ClusterRow) -> Infra:
    """The place of a cluster, which has just answered.

    Raises:
        InfraError: it does not answer, or is another one; with the command that mends it.
    """
    local = tools.places.local(cluster.kubeconfig)
    try:
        infra = await tools.infra_of(cluster)
        await same_place(infra, cluster)
    except (Unreachable, ContextNotFound) as error:
        if cluster.infra == local.name:
            error.remedy = "whim local up   # starts the embedded Kubernetes again; its jobs are still there"
        raise
    return infra


async def revive(run: Run, tools: Tools, cluster: ClusterRow) -> Infra:
    """The same, and the embedded Kubernetes is started again when it is the place and does not answer."""
    try:
        return await reach(tools, cluster)
    except (Unreachable, ContextNotFound):
        local = tools.places.local(cluster.kubeconfig)
        if cluster.infra != local.name:
            raise
        run.report("the embedded Kubernetes does not answer; starting it again")
        await local.up(run.report)
        return await reach(tools, cluster)
