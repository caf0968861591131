"""Where a new cluster goes: ask every place that is meant, side by side and within a bound, and choose.

The plan that a user sees and the launch that follows use this same function. When nothing is configured, or
the embedded Kubernetes is meant and does not run yet, it will be started: its offer is then this machine's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

from whimbrel.infra.base import NodeShape, Offer
from whimbrel.model.errors import InfraError, Unreachable
from whimbrel.model.task import Resources
from whimbrel.operations.tools import Local, Paths, Places
from whimbrel.optimizer.choose import choose, no_room
from whimbrel.optimizer.fit import shape_for

BUDGET = 9.0
"""Seconds for all places together; one that needs longer is reported as not answering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the places said, and which one is taken."""

    offers: Sequence[Offer]
    chosen: Offer | None
    local_will_start: bool = False

    def taken(self) -> Offer:
        """The chosen offer.

        Raises:
            OutOfCapacity: none is feasible.
        """
        if self.chosen is None:
            raise no_room(self.offers)
        return self.chosen


async def choose_place(
    places: Places, wanted: str | None, num_nodes: int, resources: Resources, kubeconfig: Paths
) -> Choice:
    """Ask the places that `wanted` means.

    Raises:
        ContextNotFound: there is no such place, with the names that there are.
        InfraError: the one place that was named does not answer.
    """
    local = places.local(kubeconfig)
    names = (
        [local.name] if wanted in ("local", local.name) else list(await places.candidates(wanted, kubeconfig))
    )
    if names in ([], [local.name]):
        return await _choose_local(places, local, num_nodes, resources, kubeconfig)
    offers = await asyncio.gather(
        *(_ask(places, name, num_nodes, resources, kubeconfig, alone=len(names) == 1) for name in names)
    )
    return Choice(offers=offers, chosen=choose(offers))


async def _choose_local(
    places: Places, local: Local, num_nodes: int, resources: Resources, kubeconfig: Paths
) -> Choice:
    """The embedded Kubernetes, as it answers; when it does not because it does not run, as it will."""
    try:
        offer = await _ask(places, local.name, num_nodes, resources, kubeconfig, alone=True)
    except InfraError:
        if await local.running():
            raise
        offer = _this_machine(local.name, num_nodes, shape_for(resources, places.default_shape(local.name)))
        return Choice(offers=[offer], chosen=choose([offer]), local_will_start=offer.feasible)
    return Choice(offers=[offer], chosen=choose([offer]))


async def _ask(
    places: Places, name: str, num_nodes: int, resources: Resources, kubeconfig: Paths, *, alone: bool
) -> Offer:
    shape = shape_for(resources, places.default_shape(name))
    try:
        async with asyncio.timeout(BUDGET):
            return await (await places.get(name, kubeconfig)).offer(num_nodes, shape)
    except TimeoutError:
        if alone:
            raise Unreachable(
                f"{name} did not answer within {BUDGET:g} s.",
                remedy=f"whim check {name}   # says what is wrong with it",
            ) from None
        return Offer(infra=name, feasible=False, reason=f"it did not answer within {BUDGET:g} s", shape=shape)
    except InfraError as error:
        if alone:
            raise
        return Offer(infra=name, feasible=False, reason=error.message, shape=shape)


def _this_machine(name: str, num_nodes: int, shape: NodeShape) -> Offer:
    """What the embedded Kubernetes will be able to run: this machine is its one node."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    too_much = shape.cpus * num_nodes > cpus or (shape.memory_gib or 0) * num_nodes > memory
    if too_much:
        asked = f"{shape.cpus:g} CPUs" + (f" and {shape.memory_gib:g} GiB memory" if shape.memory_gib else "")
        each = f"{num_nodes} nodes of {asked} each" if num_nodes > 1 else asked
        has = f"{cpus} CPUs and {memory:.0f} GiB memory"
        return Offer(infra=name, feasible=False, reason=f"this machine has {has}, not {each}", shape=shape)
    return Offer(infra=name, feasible=True, shape=shape)
