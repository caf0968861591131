"""A uvicorn server that leaves gracefully (law 8): two events tell the application when to let go of what.

uvicorn closes its sockets first and tells nobody. Here, while the sockets are still open, `draining` stops
the claim of new work and turns readiness off; after the delay that load balancers need (none on a laptop)
`leaving` lets every stream say "reconnect" and end, and running work is handed back; then uvicorn closes.
Signals are handled by `whimbrel.server.process`, because uvicorn raises a captured signal again, which skips
everything after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Generator

import uvicorn

logger = logging.getLogger(__name__)


class Drain:
    """What the rest of the server asks: are we on notice (`draining`), and must streams end (`leaving`)?"""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.leaving = asyncio.Event()


class DrainingServer(uvicorn.Server):
    """uvicorn, with something to do once it listens and a drain before its shutdown.

    Args:
        config: uvicorn's.
        drain: the events to set.
        opened: called when the socket answers.
        let_go: hands running work back; ends within its own bound.
        delay: seconds of readiness off while everything is still served.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Drain,
        *,
        opened: Callable[[], None],
        let_go: Callable[[], Awaitable[None]],
        delay: float = 0.0,
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._opened = opened
        self._let_go = let_go
        self._delay = delay

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._opened()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called after the serving loop, while sockets are still open."""
        self._drain.draining.set()
        logger.info("draining: no new work is taken", extra={"action": "drain"})
        await asyncio.sleep(self._delay)
        self._drain.leaving.set()
        await self._let_go()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to `whimbrel.server.process`."""
        yield
