"""Requests: list, look, follow their events, cancel."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from fastapi.responses import StreamingResponse

from whimbrel.model.status import RequestState
from whimbrel.server import views
from whimbrel.server.bodies import LARGEST, CancelRequestBody
from whimbrel.server.caller import From, With
from whimbrel.server.services import Services
from whimbrel.server.streaming import HEARTBEAT, Frame, stream
from whimbrel.store import requests
from whimbrel.store.requests import Request

router = APIRouter(prefix="/api/v1/requests")


@router.get("")
async def list_requests(services: With, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> dict[str, Any]:
    """The latest requests, newest first."""
    rows = await services.tools.store.read(lambda connection: requests.newest(connection, limit=limit))
    return {"requests": [views.request(row) for row in rows]}


@router.get("/{request_id}")
async def show(services: With, request_id: str) -> dict[str, Any]:
    """One request."""
    return views.request(await services.engine.get(request_id))


@router.post("/{request_id}/cancel")
async def cancel(
    services: With,
    caller: From,
    request_id: str,
    body: Annotated[CancelRequestBody | None, Body()] = None,
) -> dict[str, Any]:
    """Ask for its end. Idempotent; a finished request stays as it is."""
    reason = body.reason if body else "user"
    row = await services.engine.cancel(request_id, actor=caller.user, reason=f"{reason} ({caller.user})")
    return views.request(row)


@router.get("/{request_id}/events", response_model=None)
async def events(
    services: With, request_id: str, after: Annotated[int, Query(ge=0, le=LARGEST)] = 0, follow: bool = False
) -> StreamingResponse:
    """What happens to it, as JSON lines, from the event after number `after` on; the last line is `end`."""
    await services.engine.get(request_id)  # 404 before the stream begins
    return stream(_frames(services, request_id, after, follow=follow), services.drain)


async def _frames(
    services: Services, request_id: str, after: int, *, follow: bool
) -> AsyncGenerator[Frame, None]:
    told = ""
    while True:
        timeout = HEARTBEAT if follow else 0.0
        page = await services.engine.poll_events(request_id, after, timeout=timeout)
        for row in page.events:
            after = row.idx
            yield views.event(row)
        request = page.request
        if follow and request.state is RequestState.QUEUED:
            message = await _blocked(services, request)
            if message != told:
                told = message
                yield {"kind": "waiting", "data": {"message": message}}
        if page.complete or (not follow and not page.events):
            yield {
                "kind": "end",
                "state": request.state,
                "output": request.output,
                "error": request.error,
            }
            return


async def _blocked(services: Services, request: Request) -> str:
    """What a queued request waits for: those of its subject that came before it."""
    live = await services.tools.store.read(lambda connection: requests.live(connection, request.subject))
    before = [other for other in live if other.seq < request.seq]
    if not before:
        return "waiting for its turn at the API server"
    first = before[0]
    what = f"request {first.id[:8]} ({first.kind} by {first.actor}, {first.state})"
    more = f" and {len(before) - 1} more" if len(before) > 1 else ""
    return f"waiting for {what}{more} to end; see it with: whim api logs {first.id[:8]}"
