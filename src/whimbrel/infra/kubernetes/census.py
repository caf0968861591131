"""What the machines of a context have and what of it is in use, through the guard's cache.

Asked for by the optimizer, `whim check` and `whim gpus list` alike, so that one question serves them all. A context
that answers nothing is known in the two seconds of a probe, not in the ten of a page.
"""

from __future__ import annotations

import time

from kubewire.client import Client
from kubewire.resources import NODES, PODS
from whimbrel.infra.base import Inventory
from whimbrel.infra.guard import Aged
from whimbrel.infra.kubernetes import capacity
from whimbrel.infra.kubernetes.capacity import Machine
from whimbrel.infra.kubernetes.connection import Link
from whimbrel.model.errors import Forbidden, InfraError

PAGES = 3  # how many slow pages a whole list may cost
_FRESH, _STALE = 10.0, 300.0
_LIVE = "status.phase!=Succeeded,status.phase!=Failed"


class Census:
    """The machines of one context."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def machines(
        self, fresh: float = _FRESH, stale: float = _STALE, patience: float | None = None
    ) -> Aged[list[Machine]]:
        """All of them; see `Guard.cached`. Raises an `InfraError`."""
        client = await self._link.client()
        deadlines = self._link.settings.deadlines

        async def action() -> list[Machine]:
            await client.version()
            found = await client.list(NODES, shrink=lambda node: {"machine": capacity.machine(node)})
            return [node["machine"] for node in found.items]

        return await self._link.guard.cached(
            "machines",
            "listing its machines",
            action,
            timeout=deadlines.probe + PAGES * deadlines.page,
            fresh=fresh,
            stale=stale,
            patience=patience,
        )

    async def in_use(self, patience: float | None = None) -> Aged[dict[str, int]]:
        """Accelerators that pods of anybody have asked for, by machine. Raises an `InfraError`."""
        client = await self._link.client()

        async def action() -> dict[str, int]:
            return capacity.usage(await _live_pods(client))

        return await self._link.guard.cached(
            "accelerators in use",
            "listing all pods",
            action,
            timeout=PAGES * self._link.settings.deadlines.page,
            fresh=_FRESH,
            stale=_STALE,
            patience=patience,
        )

    async def accelerators(self, patience: float) -> Inventory:
        """See `Infra.accelerators`. Without the right to list everybody's pods it is not known what is in use."""
        began = time.monotonic()
        try:
            known = await self.machines(patience=patience)
        except InfraError as error:
            return Inventory(infra=self._link.name, error=error.message, remedy=error.remedy or "")
        age, problem, in_use = known.age, known.error, None
        if any(machine.hardware for machine in known.value):
            try:
                use = await self.in_use(max(0.1, patience - (time.monotonic() - began)))
                age, problem, in_use = max(age, use.age), problem or use.error, use.value
            except Forbidden:
                in_use = None
            except InfraError as error:
                problem = error
        return Inventory(
            infra=self._link.name,
            machines=capacity.inventory(known.value, in_use),
            age=age,
            error=problem.message if problem else "",
            remedy=(problem.remedy or "") if problem else "",
        )


async def _live_pods(client: Client) -> list[dict[str, object]]:
    found = await client.list(PODS, field_selector=_LIVE, shrink=capacity.used)
    return found.items
