"""Which jobs of a cluster may start now: first in, first out, packed by what each asks for. Pure.

The order is strict: a job that does not fit yet holds back those behind it, so that a large job is never
starved by small ones. Jobs share a node as long as their CPUs and GPUs fit; GPUs are handed out by index, and
a job that asks for less than one GPU shares a device. Starting what was chosen is the business of
`whimbrel.jobs.keeper`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SMALL = 0.5
"""CPUs that a job takes in the queue when it asks for none (SkyPilot's number)."""

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What one node of the cluster has to give; `node` is its rank in the cluster."""

    node: int
    cpus: float
    gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a waiting job asks for, on each of its nodes."""

    job_id: int
    num_nodes: int = 1
    cpus: float | None = None  # None: a small share
    gpus: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A job's place on one node, and the GPUs it may use there."""

    node: int
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a job runs; the position in `slots` is the job's rank."""

    job_id: int
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupied:
    """A job that already has its place."""

    demand: Demand
    placement: Placement


@dataclass(slots=True)
class _Room:
    """What is left of a node while jobs are placed."""

    capacity: Capacity
    cpus: float
    gpus: list[float] = field(default_factory=list)  # the free part of each device

    def share(self, demand: Demand) -> float:
        return small_share(self.capacity.cpus) if demand.cpus is None else demand.cpus

    def devices(self, gpus: float) -> tuple[int, ...] | None:
        """The devices for such a demand, or None when there are not enough."""
        if gpus <= 0:
            return ()
        if gpus < 1:
            fitting = [(free, index) for index, free in enumerate(self.gpus) if free + _EPSILON >= gpus]
            return (min(fitting)[1],) if fitting else None
        whole = [index for index, free in enumerate(self.gpus) if free >= 1 - _EPSILON]
        wanted = math.ceil(gpus - _EPSILON)
        return tuple(whole[:wanted]) if len(whole) >= wanted else None

    def slot(self, demand: Demand) -> Slot | None:
        """A place for the demand on this node, if there is room."""
        devices = self.devices(demand.gpus)
        if devices is None or self.share(demand) > self.cpus + _EPSILON:
            return None
        return Slot(node=self.capacity.node, gpus=devices)

    def take(self, demand: Demand, slot: Slot) -> None:
        self.cpus -= self.share(demand)
        for index in slot.gpus:
            if index < len(self.gpus):
                self.gpus[index] -= min(1.0, demand.gpus)


def small_share(cpus: float) -> float:
    """What a job that asks for no CPUs takes of a node: small enough that four fit on any node."""
    return min(SMALL, cpus / 4)


def pack(
    nodes: Sequence[Capacity], occupied: Iterable[Occupied], waiting: Sequence[Demand]
) -> list[Placement]:
    """The jobs that may start now, in order, each with its nodes.

    Args:
        nodes: the cluster's nodes that can be used.
        occupied: the jobs that have a place; those on other nodes count for nothing here.
        waiting: the jobs that wait, oldest first.
    """
    rooms = {node.node: _Room(node, node.cpus, [1.0] * node.gpus) for node in nodes}
    for job in occupied:
        for slot in job.placement.slots:
            if slot.node in rooms:
                rooms[slot.node].take(job.demand, slot)
    placements: list[Placement] = []
    for demand in waiting:
        slots = _place(rooms, demand)
        if slots is None:
            break
        for slot in slots:
            rooms[slot.node].take(demand, slot)
        placements.append(Placement(job_id=demand.job_id, slots=slots))
    return placements


def _place(rooms: Mapping[int, _Room], demand: Demand) -> tuple[Slot, ...] | None:
    """One slot on each of as many nodes as the job wants: all or none, lowest ranks first."""
    found = [slot for node in sorted(rooms) if (slot := rooms[node].slot(demand)) is not None]
    return tuple(found[: demand.num_nodes]) if len(found) >= demand.num_nodes else None


def never_fits(nodes: Sequence[Capacity], demand: Demand) -> str:
    """Why the job could not start even if the cluster were empty; an empty text when it could."""
    if demand.num_nodes > len(nodes):
        return f"it asks for {demand.num_nodes} nodes, and the cluster has {len(nodes)}"
    if pack(nodes, (), (demand,)):
        return ""
    best_cpus = max((node.cpus for node in nodes), default=0.0)
    best_gpus = max((node.gpus for node in nodes), default=0)
    if demand.gpus > best_gpus:
        return f"it asks for {demand.gpus:g} GPUs per node, and the cluster's nodes have {best_gpus}"
    return f"it asks for {demand.cpus or 0:g} CPUs per node, and the cluster's nodes have {best_cpus:g}"
