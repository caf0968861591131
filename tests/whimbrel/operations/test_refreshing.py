"""A look at the infrastructure that took a while must not overwrite what was learned meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from whimbrel.infra.base import NodeState, Observation
from whimbrel.jobs.seen import note
from whimbrel.model.status import ClusterStatus
from whimbrel.store import clusters
from whimbrel.store.engine import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state.db") as opened:
        yield opened


def made(connection: Connection) -> clusters.ClusterRow:
    return clusters.add(
        connection, uid="u1234567", name="c1", infra="k8s/one", kubeconfig=[], identity="", num_nodes=1,
        shape={"cpus": 1}, task={}, user="me", now=1.0,
    )  # fmt: skip


def seen(phase: str) -> Observation:
    return Observation(nodes=[NodeState(rank=0, name="n", phase=phase)], at=2.0)


async def test_a_look_that_began_before_a_launch_was_done_does_not_undo_it(store: Store) -> None:
    before = await store.write(made)
    await store.write(
        lambda connection: clusters.observed(
            connection, before.uid, status=ClusterStatus.UP, nodes=[], now=3.0
        )
    )
    await store.write(lambda connection: note(connection, before, seen("pending")))
    after = await store.read(lambda connection: clusters.get(connection, "c1"))
    assert (after.status, after.last_error) == (ClusterStatus.UP, None)


async def test_what_is_seen_is_written_down_with_the_reason(store: Store) -> None:
    row = await store.write(made)
    await store.write(
        lambda connection: clusters.observed(
            connection, row.uid, status=ClusterStatus.UP, nodes=[{"rank": 0}], now=3.0
        )
    )
    for phase, status in (("absent", ClusterStatus.INIT), ("running", ClusterStatus.UP)):
        row = await store.read(lambda connection: clusters.get(connection, "c1"))
        await store.write(lambda connection, row=row, phase=phase: note(connection, row, seen(phase)))  # type: ignore[misc]
        after = await store.read(lambda connection: clusters.get(connection, "c1"))
        assert (after.status, after.last_error is None) == (status, phase == "running")
