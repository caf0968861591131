"""Work that can be held: the controllers stand still while a snapshot is restored.

A Deployment that comes back before its pods would be given new ones. Whoever restores holds the work for as long as a
request stays open, so that a command that is killed cannot leave a cluster without controllers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable


class Pause:
    """Any number of holders; the work goes on when the last one has let go."""

    def __init__(self) -> None:
        self._holders = 0
        self._held = asyncio.Event()
        self._free = asyncio.Event()
        self._free.set()
        self._still = asyncio.Event()
        self._still.set()

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """The work stands still while this is open."""
        self._holders += 1
        self._free.clear()
        self._held.set()
        try:
            await self._still.wait()
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._held.clear()
                self._free.set()

    async def during_freedom(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work; end it when it is held, and begin it anew afterwards."""
        while True:
            await self._free.wait()
            self._still.clear()
            doing = asyncio.ensure_future(work())
            held = asyncio.create_task(self._held.wait(), name="wait for a pause")
            try:
                await asyncio.wait({doing, held}, return_when=asyncio.FIRST_COMPLETED)
                if doing.done():
                    await doing
                    return
            finally:
                doing.cancel()
                held.cancel()
                await asyncio.gather(doing, held, return_exceptions=True)
                self._still.set()
