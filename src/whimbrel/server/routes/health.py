"""Is it alive, is it ready, what is it: answered without touching any infrastructure."""

from __future__ import annotations

import os
from typing import Any

from fastapi import APIRouter, Response

import whimbrel
from whimbrel.server.caller import With
from whimbrel.server.metrics import CONTENT_TYPE, process, render
from whimbrel.store import requests
from whimbrel.store.tables import REVISION

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, Any]:
    """The loop turns."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(services: With, response: Response) -> dict[str, Any]:
    """Whether new work should be sent here."""
    if services.drain.draining.is_set():
        response.status_code = 503
        return {"status": "draining"}
    return {"status": "ready"}


@router.get("/api/v1/info")
async def info(services: With) -> dict[str, Any]:
    """What this server is."""
    counts = await services.tools.store.read(requests.count_by_state)
    return {
        "pid": os.getpid(),
        "version": whimbrel.__version__,
        "address": services.address,
        "state": "draining" if services.drain.draining.is_set() else "ready",
        "started_at": services.started_at,
        "home": str(services.home.root),
        "schema": REVISION,
        "requests": counts,
        "loop": services.watchdog.to_wire(),
        "infras": {name: view.to_wire() for name, view in services.tools.places.views().items()},
        "process": process(),
    }


@router.get("/metrics")
async def metrics(services: With) -> Response:
    """What the server counts, for Prometheus."""
    counts = await services.tools.store.read(requests.count_by_state)
    page = render(services.metrics, counts, services.tools.places.views(), services.watchdog)
    return Response(page, media_type=CONTENT_TYPE)
