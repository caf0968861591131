"""What is old is forgotten with everything that belongs to it; what may still exist somewhere is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection

from whimbrel.infra.base import Thing
from whimbrel.jobs.logstore import LogStore
from whimbrel.jobs.vault import Vault
from whimbrel.operations import retention
from whimbrel.operations.blobs import BlobStore
from whimbrel.operations.tools import Jobs, Places, Tools
from whimbrel.store import audit, clock, clusters, things
from whimbrel.store.engine import Store

pytestmark = pytest.mark.anyio
DAY = 86400.0


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[Tools]:
    with Store.open(tmp_path / "state.db") as store:
        blobs, logs = BlobStore(tmp_path / "blobs"), LogStore(tmp_path / "logs")
        yield Tools(
            store=store,
            places=cast(Places, None),
            blobs=blobs,
            vault=Vault(tmp_path / "secrets"),
            logs=logs,
            jobs=cast(Jobs, None),
        )
        blobs.close()
        logs.close()


def _cluster(connection: Connection, uid: str, *, closed_days_ago: float | None) -> None:
    clusters.add(
        connection, uid=uid, name=uid, infra="k8s/one", kubeconfig=[], identity="", num_nodes=1,
        shape={"cpus": 1}, task={}, user="me", now=1.0,
    )  # fmt: skip
    for state in ("gone", "left"):
        token = f"k8s/one/Pod/default/{state}/{uid}"
        things.intend(
            connection,
            [Thing(token=token, kind="Pod", name="n")],
            subject=f"cluster:{uid}",
            request="r",
            now=1.0,
        )
    things.absent(connection, uid, now=2.0, tokens=[f"k8s/one/Pod/default/gone/{uid}"])
    things.forget(connection, uid, by="me", reason="purged", now=2.0)
    if closed_days_ago is not None:
        clusters.close(connection, uid, now=clock.moment(clock.now()) - closed_days_ago * DAY)


async def test_clusters_that_were_removed_long_ago_go_with_their_logs_and_tombstones_stay(
    tools: Tools,
) -> None:
    def make(connection: Connection) -> None:
        for number in range(120):  # more than one transaction takes
            _cluster(connection, f"old{number}", closed_days_ago=31)
        _cluster(connection, "recent", closed_days_ago=29)
        _cluster(connection, "up", closed_days_ago=None)

    await tools.store.write(make)
    for uid in ("old0", "old119", "recent", "up"):
        writer = await tools.logs.job(uid, 1).writer(1)
        await writer.append(0, b"printed")
        await writer.close()
    await retention.sweep(tools)
    rows = await tools.store.read(
        lambda connection: {
            uid for uid in ("old0", "old119", "recent", "up") if clusters.latest(connection, uid) is not None
        }
    )
    assert rows == {"recent", "up"}
    sizes = [await tools.logs.job(uid, 1).size() for uid in ("old0", "old119", "recent", "up")]
    assert sizes == [0, 0, 7, 7]
    left = await tools.store.read(things.left)
    assert len(left) == 122
    absent = await tools.store.read(lambda connection: things.of_cluster(connection, "old0"))
    assert [entry.state for entry in absent] == ["forgotten"]


async def test_the_audit_log_is_kept_for_more_than_a_year(tools: Tools) -> None:
    def write(connection: Connection) -> None:
        for days in (401, 399):
            audit.write(
                connection,
                actor="me",
                action="cluster.down",
                subject=f"{days} days ago",
                now=clock.moment(clock.now()) - days * DAY,
            )

    await tools.store.write(write)
    await retention.sweep(tools)
    lines = await tools.store.read(audit.newest)
    assert [line.subject for line in lines] == ["399 days ago"]
