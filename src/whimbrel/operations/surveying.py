"""`whim gpus list`: ask every place for its accelerators, side by side, within a bound.

A place that does not answer is one line of the answer. What was known of it before is shown with its age.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from whimbrel.infra.base import Inventory
from whimbrel.model.errors import WhimError
from whimbrel.operations.tools import Paths, Places

PATIENCE = 2.5
"""Seconds for all of them together; the command as a whole is to end within 3."""
_MARGIN = 0.2


async def survey(places: Places, names: Iterable[str], kubeconfig: Paths) -> list[Inventory]:
    """What each of these places has, in their order. Never raises."""
    return list(await asyncio.gather(*(_look(places, name, kubeconfig) for name in names)))


async def _look(places: Places, name: str, kubeconfig: Paths) -> Inventory:
    try:
        async with asyncio.timeout(PATIENCE + _MARGIN):
            return await (await places.get(name, kubeconfig)).accelerators(PATIENCE)
    except TimeoutError:
        reason, remedy = f"{name} did not answer within {PATIENCE:g} s.", f"whim check {name}"
    except WhimError as error:
        reason, remedy = error.message, error.remedy or ""
    return Inventory(infra=name, error=reason, remedy=remedy)
