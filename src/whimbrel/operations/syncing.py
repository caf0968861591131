"""Bring what a client sent to every node of a cluster: its workdir and its file mounts.

Manifests and contents are in the blob store; each node gets only what it lacks. All nodes at once, a few at a
time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from whimbrel.infra.base import Node
from whimbrel.jobs import records
from whimbrel.model.errors import InfraRefused, InvalidTask, NodeLost
from whimbrel.model.manifest import Manifest
from whimbrel.operations.ask import Ask
from whimbrel.operations.tools import Tools
from whimbrel.requests.run import Run
from whimbrel.runtime.sync import Pushed, Spoiled, push
from whimbrel.store.clusters import ClusterRow

WORKDIR = "~/whimbrel_workdir"
DEADLINE = 3600.0
TRIES = 4
AT_ONCE = 8
"""Nodes that receive files at the same time."""


async def sync_files(run: Run, tools: Tools, ask: Ask, cluster: ClusterRow, *, mounts: bool) -> None:
    """The workdir (and the file mounts) of the request, as a step of it."""
    wanted = {**(ask.mounts if mounts else {}), **({WORKDIR: ask.workdir} if ask.workdir else {})}
    if cluster.infra == tools.places.local(cluster.kubeconfig).name:
        _spare_this_machine(wanted)
    if wanted:
        await run.step("sync", lambda: _sync(run, tools, cluster, wanted), deadline=DEADLINE)


def _spare_this_machine(targets: Iterable[str]) -> None:
    """A node of the embedded Kubernetes is a plain process: its /data is the user's own /data.

    Raises:
        InvalidTask: a file mount would write there.
    """
    absolute = sorted(target for target in targets if target.startswith("/"))
    if absolute:
        raise InvalidTask(
            f"On `local` the file mount {absolute[0]} would be written into this machine's own {absolute[0]}.",
            remedy=f"mount it below the node's home, for example ~{absolute[0]}",
        )


async def _sync(run: Run, tools: Tools, cluster: ClusterRow, wanted: Mapping[str, str]) -> dict[str, Any]:
    infra, spec = await tools.infra_of(cluster), records.spec_of(cluster)
    manifests = {
        target: Manifest.from_json(await tools.blobs.read(digest)) for target, digest in wanted.items()
    }
    limit = asyncio.Semaphore(AT_ONCE)

    async def to_node(node: Node) -> list[Pushed]:
        async with limit:
            return [await _push(run, tools, node, target, manifest) for target, manifest in manifests.items()]

    tasks: list[asyncio.Task[list[Pushed]]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [
                group.create_task(to_node(infra.node(spec, rank)), name=f"files to rank {rank}")
                for rank in range(cluster.num_nodes)
            ]
    except* Exception as errors:
        raise errors.exceptions[0] from None
    done = [pushed for task in tasks for pushed in task.result()]
    files, size = sum(pushed.files for pushed in done), sum(pushed.bytes for pushed in done)
    if files:
        where = f" on {cluster.num_nodes} nodes" if cluster.num_nodes > 1 else ""
        run.report(f"sent {files} file{'s' * (files != 1)} ({size / 1e6:.1f} MB){where}")
    return {"files": files, "bytes": size}


async def _push(run: Run, tools: Tools, node: Node, target: str, manifest: Manifest) -> Pushed:
    """A stream that breaks in the middle is no reason to fail: the next one sends what is still missing."""
    for attempt in range(TRIES):
        try:
            return await push(node, target, manifest, tools.blobs.path, run.report)
        except Spoiled as error:
            await tools.blobs.drop(error.details["sha256"])
            raise InfraRefused(error.message, remedy=error.remedy) from error
        except NodeLost as error:
            if attempt == TRIES - 1:
                raise
            run.report(f"sending files to {node.name} again: {error.message}")
            await asyncio.sleep(0.5 * 2**attempt)
    raise AssertionError("unreachable")
