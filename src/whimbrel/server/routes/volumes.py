"""Volumes: apply, delete, and what there is. The list answers from the database, unless a refresh is asked for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from whimbrel.model.volume import volume_of
from whimbrel.operations.volumes import refresh, subject, users_of
from whimbrel.server import views
from whimbrel.server.bodies import VolumeBody, VolumeDeleteBody
from whimbrel.server.caller import From, With
from whimbrel.store import volumes

router = APIRouter(prefix="/api/v1")


@router.post("/volumes/{name}/apply", status_code=202)
async def apply(services: With, caller: From, name: str, body: VolumeBody) -> dict[str, Any]:
    """Make it so that there is such a volume."""
    volume = volume_of({**body.volume, "name": name})
    config = await services.configs.read(caller.config)
    content = {
        "volume": volume.to_wire(),
        "kubeconfig": list(caller.kubeconfig),
        "config": config.to_wire(),
    }
    request = await services.engine.submit(
        "volume.apply", subject(name), content, caller.user, caller.idempotency_key
    )
    return {"request_id": request.id}


@router.post("/volumes/{name}/delete", status_code=202)
async def delete(services: With, caller: From, name: str, body: VolumeDeleteBody) -> dict[str, Any]:
    """Delete a volume that nobody uses."""
    await services.tools.store.read(lambda connection: volumes.get(connection, name))
    content = {"volume": name, "purge": body.purge}
    request = await services.engine.submit(
        "volume.delete", subject(name), content, caller.user, caller.idempotency_key
    )
    return {"request_id": request.id}


@router.get("/volumes")
async def list_volumes(
    services: With, refresh_: Annotated[bool, Query(alias="refresh")] = False
) -> dict[str, Any]:
    """What there is, and who uses it."""
    errors = await refresh(services.tools) if refresh_ else []

    def read(connection: Connection) -> list[dict[str, Any]]:
        return [views.volume(row, users_of(connection, row.name)) for row in volumes.list_open(connection)]

    return {"volumes": await services.tools.store.read(read), "errors": errors}
