"""Clusters: launch, exec, down, and what there is. Reads answer from the database, unless a refresh is asked
for."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from whimbrel.jobs import records
from whimbrel.model.errors import InvalidTask
from whimbrel.model.names import check_cluster_name, generate_cluster_name
from whimbrel.model.yamltask import from_wire
from whimbrel.operations.ask import Ask
from whimbrel.operations.blobs import is_digest
from whimbrel.operations.choosing import choose_place
from whimbrel.operations.exec import check_usable, refuse_misfits
from whimbrel.operations.refreshing import refresh
from whimbrel.operations.stopping import refuse_stop
from whimbrel.server import views
from whimbrel.server.bodies import DownBody, FilesBody, LaunchBody, PlanBody
from whimbrel.server.caller import Caller, From, With
from whimbrel.server.services import Services
from whimbrel.store import clusters, jobs, requests, volumes
from whimbrel.store.clusters import ClusterRow

router = APIRouter(prefix="/api/v1")


@router.post("/plan")
async def plan(services: With, caller: From, body: PlanBody) -> dict[str, Any]:
    """Where a task could run, and which place would be taken. Nothing is written."""
    task = from_wire(body.task)
    name = check_cluster_name(body.cluster) if body.cluster else generate_cluster_name(caller.user)
    config = await services.configs.read(caller.config)
    ask = Ask(cluster=name, task=task, kubeconfig=caller.kubeconfig, config=config)
    row = await services.tools.store.read(lambda connection: clusters.find(connection, name))
    if row is not None:
        refuse_misfits(row, ask)
        here = {
            **views.resources(records.shape_of(row)),
            "infra": row.infra,
            "feasible": True,
            "reason": "",
            "note": "",
            "hourly_price": None,
            "chosen": True,
        }
        return _plan(name, row.num_nodes, [here], exists=True)
    rows = await services.tools.store.read(lambda connection: volumes.of_task(connection, task))
    choice = await choose_place(services.tools.places, ask, rows)
    choice.taken()  # raises, with what each place said, when there is none
    offers = [views.offer(offer, chosen=offer is choice.chosen) for offer in choice.offers]
    return _plan(name, task.num_nodes, offers, exists=False, local=choice.local_will_start)


def _plan(
    name: str, num_nodes: int, offers: list[dict[str, Any]], *, exists: bool, local: bool = False
) -> dict[str, Any]:
    return {
        "cluster": name,
        "exists": exists,
        "num_nodes": num_nodes,
        "offers": offers,
        "local_will_start": local,
    }


@router.post("/clusters/{name}/launch", status_code=202)
async def launch(services: With, caller: From, name: str, body: LaunchBody) -> dict[str, Any]:
    """Make it so that the task runs on a cluster of this name."""
    config = await services.configs.read(caller.config)
    ask = replace(_ask(caller, check_cluster_name(name), body), config=config)
    await services.tools.store.read(lambda connection: volumes.of_task(connection, ask.task))  # raises
    return await _submit(services, caller, records.LAUNCH, ask)


@router.post("/clusters/{name}/exec", status_code=202)
async def execute(services: With, caller: From, name: str, body: LaunchBody) -> dict[str, Any]:
    """Queue a job on a cluster that is up."""
    ask = _ask(caller, name, body)
    row = await services.tools.store.read(lambda connection: clusters.get(connection, name))
    waiting = await services.tools.store.read(lambda connection: records.busy(connection, name))
    if not waiting:
        check_usable(row, ask)  # else when its turn has come
    return await _submit(services, caller, "cluster.exec", ask)


def _ask(caller: Caller, name: str, body: LaunchBody) -> Ask:
    task = from_wire(body.task)
    _check_files(body.files)
    return Ask(
        cluster=name,
        task=task,
        kubeconfig=caller.kubeconfig,
        infra=body.infra,
        workdir=body.files.workdir,
        mounts=body.files.mounts,
        down=body.down,
        secret_names=tuple(task.secrets),
    )


def _check_files(files: FilesBody) -> None:
    for digest in (files.workdir, *files.mounts.values()):
        if digest is not None and not is_digest(digest):
            raise InvalidTask("A manifest must be named by its SHA-256.")


async def _submit(services: Services, caller: Caller, kind: str, ask: Ask) -> dict[str, Any]:
    """Secrets first, then the row: an accepted request has all that it needs."""
    key = caller.idempotency_key
    if not key:
        raise InvalidTask("This call needs an Idempotency-Key (a UUID).")
    if ask.task.secrets:
        await services.tools.vault.put(key, ask.task.secrets)
    request = await services.engine.submit(
        kind, records.subject(ask.cluster), ask.to_body(), caller.user, key
    )
    return {"request_id": request.id}


@router.post("/clusters/{name}/down", status_code=202)
async def down(services: With, caller: From, name: str, body: DownBody) -> dict[str, Any]:
    """Remove the cluster. What is being done to it is cancelled, so that a stuck launch does not hold it
    up."""

    def known(connection: Connection) -> None:
        if clusters.latest(connection, name) is None and not records.busy(connection, name):
            clusters.get(connection, name)  # raises, with the names that there are

    await services.tools.store.read(known)
    subject = records.subject(name)
    content = {"cluster": name, "purge": body.purge, "origin": caller.host}
    request = await services.engine.submit(
        records.DOWN, subject, content, caller.user, caller.idempotency_key
    )
    before = await services.tools.store.read(lambda connection: requests.live(connection, subject))
    for other in before:
        if other.seq < request.seq and (other.kind != records.DOWN or body.purge):
            await services.engine.cancel(other.id, actor=caller.user, reason="the cluster is taken down")
    return {"request_id": request.id}


@router.post("/clusters/{name}/stop")
async def stop(services: With, name: str) -> dict[str, Any]:
    """Keep the cluster's disks and give back its machines: no infrastructure of this version can."""
    row = await services.tools.store.read(lambda connection: clusters.get(connection, name))
    raise refuse_stop(row)


@router.get("/clusters")
async def list_clusters(
    services: With,
    refresh_: Annotated[bool, Query(alias="refresh")] = False,
    name: Annotated[list[str] | None, Query()] = None,
) -> dict[str, Any]:
    """What there is, from the database; with `refresh`, after a bounded look at each infrastructure."""
    rows = await services.tools.store.read(lambda connection: _open(connection, name or []))
    errors: list[dict[str, Any]] = []
    if refresh_:
        errors = await refresh(services.tools, rows)

    def read(connection: Connection) -> list[dict[str, Any]]:
        found = _open(connection, name or [])
        counts = jobs.count_by_status(connection, [row.uid for row in found])
        return [
            views.cluster(row, counts[row.uid], services.tools.places.view(row.infra, row.kubeconfig))
            for row in found
        ]

    return {"clusters": await services.tools.store.read(read), "errors": errors}


def _open(connection: Connection, names: list[str]) -> list[ClusterRow]:
    if not names:
        return clusters.list_open(connection)
    return [clusters.get(connection, name) for name in dict.fromkeys(names)]
