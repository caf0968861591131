"""Streams of JSON lines that say when they live, when they end, and when to come back (law 8).

A stream only reads: a client that goes away cancels nothing. When nothing happens a heartbeat is sent; when
the server leaves, the last line is `reconnect`, and the client goes on from its last position at the next
server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import orjson
from starlette.responses import StreamingResponse

from whimbrel.server.draining import Drain

HEARTBEAT = 10.0

Frame = dict[str, Any]


async def lines(
    frames: AsyncGenerator[Frame, None], drain: Drain, heartbeat: float = HEARTBEAT
) -> AsyncIterator[bytes]:
    """The frames as lines, with a heartbeat in silence, until they end or the server leaves."""
    leaving = asyncio.create_task(drain.leaving.wait(), name="stream: server leaves")
    upcoming: asyncio.Task[Frame | None] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.create_task(_next(frames), name="stream: next frame")
            await asyncio.wait((upcoming, leaving), timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED)
            if upcoming.done():
                frame = upcoming.result()
                upcoming = None
                if frame is None:
                    return
                yield orjson.dumps(frame) + b"\n"
            elif leaving.done():
                yield b'{"kind":"reconnect"}\n'
                return
            else:
                yield b'{"kind":"heartbeat"}\n'
    finally:
        tasks = [task for task in (leaving, upcoming) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await frames.aclose()


async def _next(frames: AsyncGenerator[Frame, None]) -> Frame | None:
    return await anext(frames, None)


def stream(frames: AsyncGenerator[Frame, None], drain: Drain) -> StreamingResponse:
    """The answer that carries the frames."""
    return StreamingResponse(
        lines(frames, drain), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"}
    )
