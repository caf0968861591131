"""Whether a node of a cluster is gone for good: only the infrastructure's own word counts.

Silence proves nothing, and neither does the word of another cluster that now answers under the same name. One
look serves everybody who asks within a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from whimbrel.infra.base import Infra, Observation, moved
from whimbrel.jobs import records
from whimbrel.model.errors import InfraError
from whimbrel.store.clusters import ClusterRow

logger = logging.getLogger(__name__)

FRESH = 1.0
"""Seconds for which one look is good enough."""
LOOK = 8.0
"""Seconds that a look may take."""


class Sight:
    """Looks at one cluster."""

    def __init__(
        self,
        cluster: ClusterRow,
        infra_of: Callable[[ClusterRow], Awaitable[Infra]],
        saw: Callable[[Observation], Awaitable[None]] | None = None,
    ) -> None:
        """`saw` is told of each look: what was learned here belongs into the record."""
        self._cluster = cluster
        self._infra_of = infra_of
        self._saw = saw
        self._lock = asyncio.Lock()
        self._seen: Observation | None = None
        self._seen_at = 0.0

    async def missing(self, node: int) -> str:
        """Why the node of this rank is gone for good; empty as long as nobody has seen that."""
        try:
            async with asyncio.timeout(LOOK):
                seen = await self.look()
        except (InfraError, TimeoutError) as error:
            logger.info("cluster %s cannot be looked at: %s", self._cluster.name, error)
            return ""
        for state in seen.nodes:
            if state.rank == node and state.phase in ("absent", "ended"):
                why = f" ({state.message})" if state.message else ""
                return f"its node {state.name} {'is gone' if state.phase == 'absent' else 'has ended'}{why}"
        return ""

    async def look(self) -> Observation:
        """What is there, at most a second old.

        Raises:
            IdentityChanged: another cluster answers.
        """
        async with self._lock:
            if self._seen is None or time.monotonic() - self._seen_at > FRESH:
                infra = await self._infra_of(self._cluster)
                await same_place(infra, self._cluster)
                self._seen = await infra.observe(records.spec_of(self._cluster))
                self._seen_at = time.monotonic()
                if self._saw is not None:
                    await self._saw(self._seen)
            return self._seen


async def same_place(infra: Infra, cluster: ClusterRow) -> None:
    """Raise `IdentityChanged` unless the infrastructure is the one in which the cluster was made."""
    if cluster.identity and await infra.identity(cluster.identity) != cluster.identity:
        raise moved(cluster.infra, cluster.name)
