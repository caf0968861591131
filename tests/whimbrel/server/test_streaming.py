"""A stream lives, ends, and says when to come back."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from whimbrel.server.draining import Drain
from whimbrel.server.streaming import Frame, lines

pytestmark = pytest.mark.anyio


async def test_frames_are_lines_and_the_stream_ends_with_its_source() -> None:
    async def frames() -> AsyncGenerator[Frame, None]:
        yield {"kind": "log", "text": "ü"}
        yield {"kind": "end"}

    got = [line async for line in lines(frames(), Drain())]
    assert got == ['{"kind":"log","text":"ü"}\n'.encode(), b'{"kind":"end"}\n']


async def test_silence_is_filled_with_heartbeats_and_leaving_ends_it() -> None:
    closed = asyncio.Event()

    async def frames() -> AsyncGenerator[Frame, None]:
        try:
            await asyncio.Event().wait()
            yield {}
        finally:
            closed.set()

    drain = Drain()
    stream = lines(frames(), drain, heartbeat=0.01)
    assert await anext(stream) == b'{"kind":"heartbeat"}\n'
    drain.leaving.set()
    rest = [line async for line in stream]
    assert rest[-1] == b'{"kind":"reconnect"}\n'
    assert closed.is_set()


async def test_draining_alone_does_not_end_a_stream() -> None:
    async def frames() -> AsyncGenerator[Frame, None]:
        yield {"kind": "log"}
        yield {"kind": "end"}

    drain = Drain()
    drain.draining.set()
    assert [line async for line in lines(frames(), drain)] == [b'{"kind":"log"}\n', b'{"kind":"end"}\n']
