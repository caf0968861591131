"""`status --refresh`: ask every infrastructure, side by side, within a bound (law 3).

What could not be reached is reported beside what could. What was seen is written down by `whimbrel.jobs.seen`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from whimbrel.jobs import records
from whimbrel.jobs.seen import note
from whimbrel.jobs.sight import same_place
from whimbrel.model.errors import InfraError, Unreachable
from whimbrel.operations.tools import Tools
from whimbrel.store.clusters import ClusterRow

BUDGET = 6.0
"""Seconds for all of them together."""


async def refresh(tools: Tools, rows: Sequence[ClusterRow]) -> list[dict[str, Any]]:
    """Look at these clusters and write down what was seen; the errors of what could not be seen."""
    outcomes = await asyncio.gather(*(_look(tools, row) for row in rows))
    return [outcome for outcome in outcomes if outcome is not None]


async def _look(tools: Tools, row: ClusterRow) -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(BUDGET):
            infra = await tools.infra_of(row)
            await same_place(infra, row)
            seen = await infra.observe(records.spec_of(row))
    except TimeoutError:
        error: InfraError = Unreachable(
            f"{row.infra} did not answer within {BUDGET:g} s.", remedy=f"whim check {row.infra}"
        )
    except InfraError as raised:
        error = raised
    else:
        await tools.store.write(lambda connection: note(connection, row, seen))
        return None
    return {"cluster": row.name, "infra": row.infra, "error": error.to_wire()}
