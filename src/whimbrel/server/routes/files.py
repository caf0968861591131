"""Files: what the server lacks of an upload, the upload, and `cp` to and from a cluster's first node."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from whimbrel.infra.base import Node
from whimbrel.jobs import records
from whimbrel.model.errors import Conflict
from whimbrel.model.status import ClusterStatus
from whimbrel.operations.reaching import reach
from whimbrel.runtime.copy import copy_down, copy_up
from whimbrel.server.bodies import MissingBody
from whimbrel.server.caller import With
from whimbrel.server.services import Services
from whimbrel.store import clusters

router = APIRouter(prefix="/api/v1")


@router.post("/files/missing")
async def missing(services: With, body: MissingBody) -> dict[str, Any]:
    """Which of these the server does not have."""
    return {"missing": await services.tools.blobs.missing(body.sha256)}


@router.post("/files")
async def upload(services: With, request: Request) -> dict[str, Any]:
    """A tar stream of files, each named by its SHA-256."""
    return {"stored": await services.tools.blobs.store_tar(request.stream())}


@router.put("/clusters/{name}/files")
async def copy_in(
    services: With, request: Request, name: str, path: Annotated[str, Query(min_length=1)]
) -> dict[str, Any]:
    """A tar stream to a path on the first node."""
    copied = await copy_up(await _head(services, name), path, request.stream())
    return {"files": copied.files, "bytes": copied.bytes}


@router.get("/clusters/{name}/files", response_model=None)
async def copy_out(services: With, name: str, path: Annotated[str, Query(min_length=1)]) -> StreamingResponse:
    """A tar stream of a path on the first node."""
    pieces = copy_down(await _head(services, name), path)
    first = await anext(pieces, b"")  # raises while an error can still be an answer
    return StreamingResponse(_rest(first, pieces), media_type="application/x-tar")


async def _rest(first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        yield first
        async for piece in pieces:
            yield piece


async def _head(services: Services, name: str) -> Node:
    cluster = await services.tools.store.read(lambda connection: clusters.get(connection, name))
    if cluster.status is not ClusterStatus.UP:
        raise Conflict(
            f"The cluster {name} is {cluster.status}, not UP.",
            remedy=f"whim launch -c {name} ...   # finishes it",
        )
    infra = await reach(services.tools, cluster)
    return infra.node(records.spec_of(cluster), 0)
