"""What purges may have left behind: the tombstones, a look for what is really there, and its removal."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection

from whimbrel.operations.reaping import Found, Reap, look
from whimbrel.server import views
from whimbrel.server.bodies import LookBody, ReapBody
from whimbrel.server.caller import From, With
from whimbrel.store import things, tombstones

router = APIRouter(prefix="/api/v1/tombstones")


@router.get("")
async def list_tombstones(services: With, reaped: bool = False) -> dict[str, Any]:
    """Those that stand, newest first; with `reaped` also the others."""

    def read(connection: Connection) -> list[dict[str, Any]]:
        stones = tombstones.every(connection) if reaped else tombstones.standing(connection)
        return [views.tombstone(stone, things.of_cluster(connection, stone.cluster_uid)) for stone in stones]

    return {"tombstones": await services.tools.store.read(read)}


@router.post("/look")
async def look_for_leftovers(services: With, caller: From, body: LookBody) -> dict[str, Any]:
    """What is really left, where it answers; side by side, within a bound. Nothing is removed."""
    found = await look(services.tools, body.infra or (), caller.kubeconfig)
    return {"tombstones": [_found(one) for one in found]}


@router.post("/reap", status_code=202)
async def reap(services: With, caller: From, body: ReapBody) -> dict[str, Any]:
    """Remove what is left of these."""
    content = {
        "tombstones": [item.model_dump() for item in body.tombstones],
        "origin": caller.host,
    }
    request = await services.engine.submit(
        Reap.kind, Reap.subject, content, caller.user, caller.idempotency_key
    )
    return {"request_id": request.id}


def _found(one: Found) -> dict[str, Any]:
    stone = one.stone
    return {
        "uid": stone.cluster_uid,
        "id": stone.cluster_uid[:8],
        "name": stone.name,
        "infra": one.at,
        "kubeconfig": list(one.kubeconfig),
        "buried_at": stone.buried_at,
        "there": list(one.there),
        "strangers": list(one.strangers),
        "error": one.error.to_wire() if one.error else None,
    }
