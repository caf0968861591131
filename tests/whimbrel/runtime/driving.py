"""A job one step at a time, where the product does all in one exec (`follow_job`): for tests that look between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from whimbrel.infra.base import Node
from whimbrel.model.errors import JobNotFound, NodeLost, Unreachable
from whimbrel.runtime.conversation import run
from whimbrel.runtime.spool import JobFiles, State, _id, _only_state, _shell, _starting, parse_states


async def start_job(node: Node, job: str | JobFiles, *, timeout: float = 8.0) -> State:
    """Start a prepared job (an id), or prepare and start it in one exec (its files). Started before: so be it.
    A stream that breaks is asked again until `timeout`."""
    script, data = _starting(job)
    body = f"{_shell('job', 'state')}\n{script}\nw_code=$?\nw_state_of {_id(job)}\nexit $w_code"
    deadline = time.monotonic() + timeout
    pause = 0.05
    while True:
        try:
            result = await run(node, body, data=data, timeout=max(0.1, deadline - time.monotonic()))
            break
        except (NodeLost, Unreachable):
            if time.monotonic() + pause >= deadline:
                raise
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2)
    if result.exit_code == 44:
        raise JobNotFound(f"job {_id(job)} has not been prepared on node {node.name}")
    result.check(f"starting job {_id(job)}", node)
    return _only_state(result, node)


async def job_states(
    node: Node, job_ids: Sequence[str] | None = None, *, timeout: float = 5.0
) -> dict[str, State]:
    """The states of these jobs, or of all in the spool, in one exec."""
    if job_ids is not None and not job_ids:
        return {}
    ids = " ".join(map(_id, job_ids)) if job_ids is not None else '$(ls "$w_jobs" 2>/dev/null)'
    body = f"{_shell('state')}\nfor j in {ids}; do w_state_of $j; done"
    result = (await run(node, body, timeout=timeout)).check("looking at jobs", node)
    return {state.job_id: state for state in parse_states(result.stdout.decode("utf-8", "replace"))}
