"""Where a new cluster goes: ask every place that is meant, side by side and within a bound, and choose.

The plan that a user sees and the launch that follows use this same function. When nothing is configured, or
the embedded Kubernetes is meant and does not run yet, it will be started: its offer is then this machine's.
Once a place has said yes, the others get a moment and no more: a dead one holds nobody up who does not need it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from whimbrel.infra.base import NodeShape, Offer
from whimbrel.infra.provision import Provision
from whimbrel.model.errors import InfraError, Unreachable
from whimbrel.operations.ask import Ask
from whimbrel.operations.provisioning import provision_for
from whimbrel.operations.tools import Local, Places
from whimbrel.optimizer.choose import choose, no_room, ranked
from whimbrel.optimizer.fit import shape_for
from whimbrel.store.volumes import VolumeRow

BUDGET = 9.0
"""Seconds for all places together; one that needs longer is reported as not answering."""
GRACE = 0.2
"""Seconds that the others get once one place will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the places said, and which one is taken."""

    offers: Sequence[Offer]
    chosen: Offer | None
    local_will_start: bool = False
    provisions: Mapping[str, Provision] = field(default_factory=dict)  # of each place that was asked

    def taken(self) -> Offer:
        """The chosen offer.

        Raises:
            OutOfCapacity: none is feasible.
        """
        if self.chosen is None:
            raise no_room(self.offers)
        return self.chosen

    def in_order(self) -> list[Offer]:
        """Every offer that would do, the chosen one first."""
        taken = self.taken()
        return [taken, *(offer for offer in ranked(self.offers) if offer is not taken)]


class _NotHere(Exception):
    """Why a task cannot run in a place, before the place is asked."""


async def choose_place(
    places: Places, ask: Ask, volumes: Sequence[VolumeRow], *, elsewhere: bool = False
) -> Choice:
    """Ask the places that are meant; with `elsewhere`, also those that could be taken instead of a chosen one.

    Raises:
        ContextNotFound: there is no such place, with the names that there are.
        InfraError: the one place that was named does not answer.
    """
    local = places.local(ask.kubeconfig)
    names = await _names(places, local, ask, elsewhere=elsewhere)
    asking = _Asking(places, ask, volumes, alone=len(names) <= 1)
    if names in ([], [local.name]):
        return await _choose_local(asking, local)
    offers = await asking.everybody(names)
    preferred = next((offer for offer in offers if offer.infra == ask.infra and offer.feasible), None)
    return Choice(offers=offers, chosen=preferred or choose(offers), provisions=asking.provisions)


async def _names(places: Places, local: Local, ask: Ask, *, elsewhere: bool) -> list[str]:
    if ask.wanted in ("local", local.name):
        return [local.name]
    names = list(await places.candidates(ask.wanted, ask.kubeconfig, ask.config))
    if elsewhere and ask.infra and ask.may_go_elsewhere:
        others = await places.candidates(ask.task.resources.infra, ask.kubeconfig, ask.config)
        names = list(dict.fromkeys([*names, *others]))
    return names


class _Asking:
    """The questions of one choice."""

    def __init__(self, places: Places, ask: Ask, volumes: Sequence[VolumeRow], *, alone: bool) -> None:
        self._places = places
        self._ask = ask
        self._volumes = volumes
        self._alone = alone
        self.provisions: dict[str, Provision] = {}

    @property
    def num_nodes(self) -> int:
        """How many nodes are asked for."""
        return self._ask.task.num_nodes

    def shape(self, name: str) -> NodeShape:
        """What a node gets there."""
        return shape_for(self._ask.task.resources, self._places.default_shape(name))

    def provision(self, name: str) -> Provision:
        """How its nodes are made there. Raises `_NotHere`."""
        elsewhere = [row for row in self._volumes if row.infra != name]
        if elsewhere:
            raise _NotHere(f"the volume {elsewhere[0].name} is in {elsewhere[0].infra}")
        namespaces = {row.namespace for row in self._volumes}
        if len(namespaces) > 1:
            raise _NotHere(f"its volumes are in several namespaces ({', '.join(sorted(namespaces))})")
        local = name == self._places.local(self._ask.kubeconfig).name
        if local and self._ask.task.volumes:
            raise _NotHere("its nodes are processes of this machine, in whose paths nothing is mounted")
        claims = {row.name: row.claim for row in self._volumes}
        made = provision_for(self._ask.task, self._ask.config, name, claims, local=local)
        home = next(iter(namespaces), "")
        if home and made.namespace not in ("", home):
            raise _NotHere(f"its volumes are in the namespace {home}, and it is to run in {made.namespace}")
        made = replace(made, namespace=made.namespace or home)
        self.provisions[name] = made
        return made

    async def everybody(self, names: Sequence[str]) -> list[Offer]:
        """The offers of all of them, in this order."""
        tasks = {
            name: asyncio.create_task(self.one(name), name=f"offer of {name}")
            for name in dict.fromkeys(names)
        }
        waiting = set(tasks.values())
        loop, ends = asyncio.get_running_loop(), float("inf")  # each of them has a bound of its own
        try:
            while waiting and (left := ends - loop.time()) > 0:
                done, waiting = await asyncio.wait(
                    waiting, timeout=min(left, BUDGET), return_when=asyncio.FIRST_COMPLETED
                )
                if any(task.result().feasible for task in done):
                    ends = min(ends, loop.time() + GRACE)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return [task.result() if not task.cancelled() else self._silent(name) for name, task in tasks.items()]

    def _silent(self, name: str) -> Offer:
        return Offer(
            infra=name,
            feasible=False,
            reason="it has not answered by the time that another place had room",
            shape=self.shape(name),
        )

    async def one(self, name: str) -> Offer:
        """What one place says."""
        shape, places = self.shape(name), self._places
        try:
            provision = self.provision(name)
            async with asyncio.timeout(BUDGET):
                infra = await places.get(name, self._ask.kubeconfig)
                return await infra.offer(self.num_nodes, shape, provision)
        except _NotHere as error:
            return Offer(infra=name, feasible=False, reason=str(error), shape=shape)
        except TimeoutError:
            reason = f"it did not answer within {BUDGET:g} s"
            if self._alone:
                raise Unreachable(
                    f"{name} did not answer within {BUDGET:g} s.",
                    remedy=f"whim check {name}   # says what is wrong with it",
                ) from None
            return Offer(infra=name, feasible=False, reason=reason, shape=shape)
        except InfraError as error:
            if self._alone:
                raise
            return Offer(infra=name, feasible=False, reason=error.message, shape=shape)


async def _choose_local(asking: _Asking, local: Local) -> Choice:
    """The embedded Kubernetes, as it answers; when it does not because it does not run, as it will."""
    try:
        offer = await asking.one(local.name)
    except InfraError:
        if await local.running():
            raise
        shape, num_nodes = asking.shape(local.name), asking.num_nodes
        offer = _this_machine(local.name, num_nodes, shape)
        return Choice(
            offers=[offer],
            chosen=choose([offer]),
            local_will_start=offer.feasible,
            provisions=asking.provisions,
        )
    return Choice(offers=[offer], chosen=choose([offer]), provisions=asking.provisions)


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
