"""What was: events of clusters in words, and what a past cluster was launched with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from whimbrel.operations.chronicle import Happening, happened
from whimbrel.operations.history import find, lost_files
from whimbrel.server.bodies import LARGEST
from whimbrel.server.caller import With
from whimbrel.server.services import Services
from whimbrel.server.streaming import Frame, stream

router = APIRouter(prefix="/api/v1")

LOOK_AGAIN = 1.0
"""Seconds between looks of a follower."""
AT_ONCE = 500
"""Lines that a follower reads in one look."""
OVERLAP = 2.0
"""Seconds that a look goes back: what was committed late has an earlier moment."""


@router.get("/events", response_model=None)
async def events(
    services: With,
    name: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 50,
    follow: bool = False,
    since_ms: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
) -> StreamingResponse:
    """What happened, oldest first, as JSON lines; with `follow` also what happens next. With `since_ms` everything
    from that moment on, so that a client that comes back misses nothing (and meets a few lines again)."""
    return stream(_frames(services, name, limit, since_ms / 1000, follow=follow), services.drain)


async def _frames(
    services: Services, name: str | None, limit: int, since: float, *, follow: bool
) -> AsyncGenerator[Frame, None]:
    shown: dict[str, float] = {}
    first = True
    while True:
        most = limit if first and not since else AT_ONCE
        found = await _read(services, name, most, since)
        for one in found:
            if one.key not in shown:
                shown[one.key] = one.at
                yield {**asdict(one), "kind": "event", "what": one.kind}
        if not follow:
            yield {"kind": "end"}
            return
        first = False
        since = max([since, *shown.values()], default=0.0) - OVERLAP
        shown = {key: at for key, at in shown.items() if at >= since}
        await asyncio.sleep(LOOK_AGAIN)


async def _read(services: Services, name: str | None, limit: int, since: float) -> list[Happening]:
    return await services.tools.store.read(
        lambda connection: happened(connection, name=name, limit=limit, since=since)
    )


@router.get("/history/{reference}")
async def history(services: With, reference: str) -> dict[str, Any]:
    """What a cluster was launched with, without the values of its secrets; `lost` says which of its files are not
    kept any more."""
    past = await services.tools.store.read(lambda connection: find(connection, reference))
    return {**asdict(past), "lost": await lost_files(services.tools.blobs, past)}
