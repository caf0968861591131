"""A task's `setup`, on every node of the cluster at once, its output in the events of the request.

It runs like a job (spooled on the nodes, all or none, followed from an offset), so that it survives the
server: the same request, taken up again, goes on where the log store and the events end. A setup that fails
leaves the cluster up, for somebody to look at it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from whimbrel.infra.base import Node
from whimbrel.jobs import records
from whimbrel.jobs.attend import Around, Attendance
from whimbrel.jobs.logstore import JobLog, text_of
from whimbrel.jobs.outcome import Rank, judge
from whimbrel.jobs.sight import Sight
from whimbrel.model.errors import SetupFailed, WhimError
from whimbrel.model.status import JobStatus
from whimbrel.operations.ask import Ask
from whimbrel.operations.tools import Tools
from whimbrel.requests.run import Run, Stop
from whimbrel.runtime.environment import Place, make_task_id, setup_environment
from whimbrel.runtime.gang import cancel_gang
from whimbrel.runtime.spool import JobFiles
from whimbrel.store import requests
from whimbrel.store.clusters import ClusterRow

DEADLINE = 24 * 3600.0
MIB = 1024 * 1024
HEAD, TAIL = MIB, 64 * 1024
"""Bytes of a setup's output that become events of its request: of its beginning, and of its end when there is more."""
_ALL_EVENTS = 1_000_000
_GOODBYE = 4.0  # seconds for telling the nodes of a cancelled request


async def set_up(run: Run, tools: Tools, ask: Ask, cluster: ClusterRow) -> None:
    """Run `setup` as a step of the request.

    Raises:
        SetupFailed: it ended with another code than 0 on some node.
    """
    script = ask.task.setup
    if not script:
        return
    run.report("running setup" + (f" on {cluster.num_nodes} nodes" if cluster.num_nodes > 1 else ""))

    async def action() -> dict[str, Any]:
        secrets = await tools.vault.get(run.id)
        await _run(run, tools, cluster, _files(run, ask, cluster, script, secrets))
        return {}

    await run.step("setup", action, deadline=DEADLINE)


async def _run(run: Run, tools: Tools, cluster: ClusterRow, files: Sequence[JobFiles]) -> None:
    infra, spec = await tools.infra_of(cluster), records.spec_of(cluster)
    nodes = [infra.node(spec, rank) for rank in range(cluster.num_nodes)]
    log = tools.logs.job(cluster.uid, files[0].id)
    writer = await log.writer(len(nodes))

    async def trouble(error: WhimError) -> None:
        run.report(f"waiting for a node: {error.message}")

    async def nothing() -> None:
        return

    ranks = [Rank(rank=rank, node=rank) for rank in range(len(nodes))]
    around = Around(
        started=nothing,
        trouble=trouble,
        recovered=nothing,
        missing=Sight(cluster, tools.infra_of).missing,
    )
    attendance = Attendance(ranks, nodes, files, writer, around, begun=False)
    ended = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_tell(run, log, ended), name=f"setup output of {run.id}")
            ends = await attendance.run()
            ended.set()
            log.ring()
    except asyncio.CancelledError:
        if run.cancelled is Stop.USER:
            await _end(nodes, files[0].id)
        raise
    finally:
        await writer.close()
    outcome = judge(ends)
    if outcome.status is not JobStatus.SUCCEEDED:
        raise SetupFailed(
            f"The setup on cluster {cluster.name} failed: {outcome.reason}. The cluster stays up.",
            remedy=f"whim api logs {run.id[:8]}   # what setup printed (request {run.id})\n"
            f"whim exec {cluster.name} -- ls -la   # look around\n"
            f"whim launch -c {cluster.name} ...   # try again; or: whim down {cluster.name}",
            details={
                "request_id": run.id,
                "exit_codes": [rank.exit_code for rank in sorted(ends, key=lambda rank: rank.rank)],
            },
        )


async def _tell(run: Run, log: JobLog, ended: asyncio.Event) -> None:
    """Bring what the nodes print into the events of the request, each byte once, also after a restart. Of a setup
    that prints without measure, that is its beginning and, once it has ended, its end."""
    told = await run.read(lambda connection: _told(connection, run.id))
    while True:
        changed = log.next()
        final = ended.is_set()
        if told >= HEAD:
            if not final:
                run.report(
                    f"setup goes on; it has printed over {HEAD // MIB} MiB, and its end is shown at the end"
                )
                await ended.wait()
                continue
            told = await _leave_out(run, log, told)
        data = await log.read(told)
        text, length = text_of(data, final=final)
        told += length
        if text:
            await run.log(text, upto=told)
        elif final:
            return
        else:
            await changed.wait()


async def _leave_out(run: Run, log: JobLog, told: int) -> int:
    """Say what is not told of the middle; where to go on."""
    begin = max(told, await log.size() - TAIL)
    if begin > told:
        cut = f"\n[{(begin - told) / MIB:.1f} MiB of setup's output are left out here; all of it is in {log.run_log}]\n"
        await run.log(cut, upto=begin)
    return begin


def _told(connection: Connection, request: str) -> int:
    events = requests.events_after(connection, request, 0, _ALL_EVENTS)
    return max((event.data.get("upto", 0) for event in events if event.kind == "log"), default=0)


async def _end(nodes: Sequence[Node], job_id: str) -> None:
    """The user does not want it any more: tell the nodes, as far as they can be told now."""
    try:
        async with asyncio.timeout(_GOODBYE):
            await cancel_gang(nodes, job_id, grace=1.0)
    except TimeoutError:
        pass  # a node that cannot be reached goes on with its setup; the cluster can be taken down


def _files(run: Run, ask: Ask, cluster: ClusterRow, script: str, secrets: dict[str, str]) -> list[JobFiles]:
    ips = {node["rank"]: node.get("ip") or "" for node in cluster.nodes}
    shape = records.shape_of(cluster)
    place = Place(
        cluster=cluster.name,
        infra=cluster.infra,
        ips=[ips.get(rank, "") for rank in range(cluster.num_nodes)],
        gpus_per_node=shape.accelerator_count,
        user=cluster.user,
        envs=ask.task.envs,
        secrets=secrets,
    )
    task_id = make_task_id(cluster.name, "setup", submitted_at=records.stamp(run.request.created_at))
    return [
        JobFiles(
            id=f"setup-{run.id}", script=script, env=setup_environment(place, rank=rank, task_id=task_id)
        )
        for rank in range(cluster.num_nodes)
    ]
