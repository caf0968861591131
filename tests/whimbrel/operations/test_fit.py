"""From what a task asks for to what a node is given, and whether a cluster that exists will do."""

from whimbrel.infra.base import NodeShape
from whimbrel.model.task import Accelerators, Amount, Resources
from whimbrel.optimizer.fit import misfits, shape_for


def test_what_the_task_says_wins_and_the_rest_is_the_default_of_the_place() -> None:
    default = NodeShape(cpus=2, memory_gib=4)
    assert shape_for(Resources(), default) == default
    asked = Resources(cpus=Amount(value=8, at_least=True), accelerators=Accelerators(name="H100", count=8))
    assert shape_for(asked, default) == NodeShape(
        cpus=8, memory_gib=4, accelerator="H100", accelerator_count=8
    )


def test_a_cluster_that_is_large_enough_will_do() -> None:
    have = NodeShape(cpus=8, memory_gib=32, accelerator="H100", accelerator_count=8)
    asked = Resources(
        cpus=Amount(value=8),
        memory=Amount(value=16, at_least=True),
        accelerators=Accelerators(name="h100", count=2),
    )
    assert misfits(asked, 2, have=have, have_nodes=2) == []
    assert misfits(Resources(), 1, have=NodeShape(cpus=0.1), have_nodes=1) == []


def test_every_difference_is_named_with_what_there_is() -> None:
    asked = Resources(
        cpus=Amount(value=4), memory=Amount(value=8), accelerators=Accelerators(name="A100", count=1)
    )
    problems = misfits(asked, 3, have=NodeShape(cpus=2, memory_gib=4), have_nodes=1)
    assert problems == [
        "it has 1 node, and 3 are asked for",
        "its nodes have 2 CPUs, and 4 are asked for",
        "its nodes have 4 GiB of memory, and 8 are asked for",
        "its nodes have no accelerators, and A100:1 is asked for",
    ]
