"""From what a task asks for to what a node is given, and whether a cluster that exists will do. Pure."""

from __future__ import annotations

from dataclasses import replace

from whimbrel.infra.base import NodeShape
from whimbrel.model.task import Resources

_EPSILON = 1e-6


def shape_for(resources: Resources, default: NodeShape) -> NodeShape:
    """The shape of a node: what the task says, completed by the default of the place. `4+` is given 4."""
    shape = default
    if resources.cpus is not None:
        shape = replace(shape, cpus=resources.cpus.value)
    if resources.memory is not None:
        shape = replace(shape, memory_gib=resources.memory.value)
    if resources.accelerators is not None:
        shape = replace(
            shape,
            accelerator=resources.accelerators.name,
            accelerator_count=max(1, round(resources.accelerators.count)),
        )
    return shape


def misfits(resources: Resources, num_nodes: int, *, have: NodeShape, have_nodes: int) -> list[str]:
    """Why a cluster that exists cannot run a task, as phrases; empty when it can."""
    problems = []
    if num_nodes > have_nodes:
        problems.append(f"it has {have_nodes} node{'s' * (have_nodes != 1)}, and {num_nodes} are asked for")
    if resources.cpus is not None and resources.cpus.value > have.cpus + _EPSILON:
        problems.append(f"its nodes have {have.cpus:g} CPUs, and {resources.cpus.value:g} are asked for")
    if resources.memory is not None:
        if have.memory_gib is None:
            problems.append(
                f"its nodes were given no memory of their own, and {resources.memory} GiB are asked for"
            )
        elif resources.memory.value > have.memory_gib + _EPSILON:
            problems.append(
                f"its nodes have {have.memory_gib:g} GiB of memory, and {resources.memory.value:g} are asked for"
            )
    wanted = resources.accelerators
    if wanted is not None:
        has = f"{have.accelerator}:{have.accelerator_count}" if have.accelerator else "no accelerators"
        same = have.accelerator is not None and wanted.name.lower() == have.accelerator.lower()
        if not same or wanted.count > have.accelerator_count + _EPSILON:
            problems.append(f"its nodes have {has}, and {wanted} is asked for")
    return problems
