"""`local up`: make the embedded Kubernetes run."""

from __future__ import annotations

from typing import Any

from whimbrel.operations.tools import Tools
from whimbrel.requests.run import Run

DEADLINE = 90.0


class LocalUp:
    """The operation behind `whim local up`."""

    kind = "local.up"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, run: Run) -> dict[str, Any]:
        """Start it; done when it runs already."""
        local = self._tools.places.local(run.body["kubeconfig"])

        async def start() -> None:
            await local.up(run.report)

        await run.step("up", start, deadline=DEADLINE)
        return {"infra": local.name}
