"""Rows of clusters, jobs, external things and the audit log: what they promise whoever writes them."""

from dataclasses import dataclass, field

import pytest
from sqlalchemy import Connection, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from whimbrel.model.errors import Conflict, JobNotFound, NotFound
from whimbrel.model.redaction import BLANK
from whimbrel.model.status import ClusterStatus, JobStatus
from whimbrel.store import audit, clusters, jobs, leases, things
from whimbrel.store.tables import clusters as clusters_table
from whimbrel.store.tables import things as things_table

COPIED = [column.name for column in clusters_table.c if column.name != "uid"]


@dataclass(frozen=True)
class Thing:
    """As an infra would say it."""

    token: str
    kind: str = "Pod"
    name: str = "c-0"
    namespace: str = "default"
    labels: dict[str, str] = field(default_factory=dict)


def cluster(
    connection: Connection, name: str = "c", uid: str = "u1", now: float = 1.0
) -> clusters.ClusterRow:
    return clusters.add(
        connection,
        uid=uid,
        name=name,
        infra="k8s/x",
        kubeconfig=["/k"],
        identity="i",
        num_nodes=2,
        shape={"cpus": 1},
        task={"run": "x", "secrets": {"T": "hunter2"}},
        user="me",
        now=now,
    )


def job(connection: Connection, request: str = "r1", uid: str = "u1") -> jobs.JobRow:
    return jobs.submit(
        connection,
        uid,
        name="j",
        spec={"run": "x", "secrets": {"T": "hunter2"}},
        num_nodes=1,
        cpus=1,
        gpus=0,
        request_id=request,
        now=2.0,
    )


def test_a_name_is_taken_until_the_cluster_is_seen_gone(connection: Connection) -> None:
    cluster(connection)
    with pytest.raises(Conflict):
        cluster(connection, uid="u2")
    with pytest.raises(IntegrityError):
        connection.execute(
            insert(clusters_table).from_select(
                ["uid", *COPIED], select(literal("u3"), *(clusters_table.c[name] for name in COPIED))
            )
        )
    clusters.close(connection, "u1", now=5.0)
    second = cluster(connection, uid="u2", now=6.0)
    assert second.status is ClusterStatus.INIT
    assert clusters.get_uid(connection, "u1").closed_at == 5.0
    latest = clusters.latest(connection, "c")
    assert latest is not None
    assert latest.uid == "u2"


def test_a_cluster_keeps_no_secret_value(connection: Connection) -> None:
    assert cluster(connection).task["secrets"] == {"T": BLANK}
    clusters.launched(connection, "u1", task={"secrets": {"T": "hunter3"}}, autodown=True, now=3.0)
    again = clusters.get(connection, "c")
    assert (again.task["secrets"], again.autodown, again.launched_at) == ({"T": BLANK}, True, 3.0)


def test_a_closed_cluster_stays_closed(connection: Connection) -> None:
    cluster(connection)
    clusters.close(connection, "u1", now=5.0)
    clusters.observed(connection, "u1", status=ClusterStatus.UP, nodes=[], now=6.0)
    clusters.close(connection, "u1", now=7.0)
    row = clusters.get_uid(connection, "u1")
    assert (row.status, row.closed_at, row.observed_at) == (ClusterStatus.DOWN, 5.0, None)
    with pytest.raises(ValueError, match="close"):
        clusters.observed(connection, "u1", status=ClusterStatus.DOWN, nodes=[], now=6.0)


def test_an_unknown_cluster_is_answered_with_the_names_that_there_are(connection: Connection) -> None:
    with pytest.raises(NotFound, match="There are no clusters"):
        clusters.get(connection, "x")
    cluster(connection, "alpha")
    with pytest.raises(NotFound, match="There are: alpha"):
        clusters.get(connection, "x")


def test_jobs_are_numbered_per_cluster_and_a_request_makes_one(connection: Connection) -> None:
    cluster(connection)
    cluster(connection, "d", "u2")
    assert [job(connection, f"r{n}").id for n in range(3)] == [1, 2, 3]
    assert job(connection, "r1").id == 2, "a retried request finds its job"
    assert job(connection, "r1", "u2").id == 1
    assert [row.id for row in jobs.of_cluster(connection, "u1")] == [3, 2, 1]
    assert [row.id for row in jobs.live(connection, "u1")] == [1, 2, 3]
    assert jobs.clusters_with_live_jobs(connection) == ["u1", "u2"]
    assert jobs.count_by_status(connection, ["u1", "u9"]) == {"u1": {JobStatus.PENDING: 3}, "u9": {}}


def test_a_job_that_has_ended_stays_as_it_ended_and_has_no_secrets(connection: Connection) -> None:
    cluster(connection)
    job(connection)
    jobs.started(connection, "u1", 1, status=JobStatus.STARTING, ranks=[{"rank": 0}], now=2.5)
    jobs.started(connection, "u1", 1, status=JobStatus.RUNNING, ranks=[{"rank": 0}], now=3.0)
    jobs.started(connection, "u1", 1, status=JobStatus.RUNNING, ranks=[{"rank": 0}], now=4.0)
    assert jobs.get(connection, "u1", 1).started_at == 3.0
    assert jobs.get(connection, "u1", 1).spec["secrets"] == {"T": "hunter2"}
    assert jobs.end(connection, "u1", 1, status=JobStatus.FAILED, reason="exit code 3", now=5.0)
    assert not jobs.end(connection, "u1", 1, status=JobStatus.SUCCEEDED, reason="", now=6.0)
    jobs.set_status(connection, "u1", 1, JobStatus.RUNNING)
    jobs.set_log_bytes(connection, "u1", 1, 77)
    row = jobs.get(connection, "u1", 1)
    assert (row.status, row.reason, row.ended_at, row.ranks) == (
        JobStatus.FAILED,
        "exit code 3",
        5.0,
        [{"rank": 0}],
    )
    assert (row.spec["secrets"], row.log_bytes) == ({"T": BLANK}, 77)
    with pytest.raises(ValueError, match="ends through"):
        jobs.set_status(connection, "u1", 1, JobStatus.SUCCEEDED)
    with pytest.raises(ValueError, match="not an end"):
        jobs.end(connection, "u1", 1, status=JobStatus.RUNNING, reason="", now=6.0)


def test_a_cancel_is_an_intent_for_live_jobs_only(connection: Connection) -> None:
    cluster(connection)
    for n in range(3):
        job(connection, f"r{n}")
    jobs.end(connection, "u1", 1, status=JobStatus.SUCCEEDED, reason="", now=5.0)
    assert jobs.ask_to_cancel(connection, "u1", ids=[1, 2], now=6.0) == [2]
    assert jobs.ask_to_cancel(connection, "u1", ids=None, now=7.0) == [2, 3]
    assert [jobs.get(connection, "u1", n).cancel_requested_at for n in (1, 2, 3)] == [None, 6.0, 7.0]
    with pytest.raises(JobNotFound):
        jobs.ask_to_cancel(connection, "u1", ids=[9], now=8.0)


TOKEN = "k8s/team/ctx/Pod/default/c-0/u1"


def test_the_ledger_knows_infra_and_cluster_from_the_token(connection: Connection) -> None:
    things.intend(connection, [Thing(TOKEN, labels={"a": "b"})], subject="cluster:c", request="r", now=1.0)
    (entry,) = things.of_cluster(connection, "u1")
    assert (entry.infra, entry.state, entry.labels, entry.namespace) == (
        "k8s/team/ctx",
        "intended",
        {"a": "b"},
        "default",
    )
    assert things.left(connection, "k8s/team/ctx") == [entry]
    assert things.left(connection, "k8s/other") == []


def test_a_thing_is_absent_only_when_it_was_seen_gone_and_forgotten_only_by_a_person(
    connection: Connection,
) -> None:
    other = TOKEN.replace("c-0", "c-1")
    things.intend(connection, [Thing(TOKEN), Thing(other, name="c-1")], subject="s", request="r", now=1.0)
    things.saw(connection, [TOKEN], now=2.0)
    things.deleting(connection, "u1", now=3.0)
    things.absent(connection, "u1", tokens=[TOKEN], now=4.0)
    assert [entry.state for entry in things.of_cluster(connection, "u1")] == ["absent", "deleting"]
    (tombstone,) = things.forget(connection, "u1", by="alice", reason="context gone", now=5.0)
    assert (tombstone.token, tombstone.state, tombstone.forgotten_by) == (other, "forgotten", "alice")
    assert things.left(connection) == [tombstone], "the tombstone can still be found"
    things.absent(connection, "u1", now=6.0)
    assert things.left(connection) == []
    with pytest.raises(IntegrityError):
        connection.execute(update(things_table).values(state="forgotten"))


def test_a_thing_that_is_made_again_is_intended_again(connection: Connection) -> None:
    things.intend(connection, [Thing(TOKEN)], subject="s", request="r1", now=1.0)
    things.saw(connection, [TOKEN], now=2.0)
    things.intend(connection, [Thing(TOKEN)], subject="s", request="r2", now=3.0)
    (entry,) = things.of_cluster(connection, "u1")
    assert (entry.state, entry.request, entry.created_at) == ("exists", "r2", 1.0)
    things.absent(connection, "u1", now=4.0)
    things.intend(connection, [Thing(TOKEN)], subject="s", request="r3", now=5.0)
    assert things.of_cluster(connection, "u1")[0].state == "intended"


def test_a_lease_has_one_owner_and_a_fence_that_grows(connection: Connection) -> None:
    cluster(connection)
    key, table = clusters.key("u1"), clusters_table
    first = leases.take(connection, table, key, owner="a", lease=10, now=100.0)
    assert first == 1
    assert leases.take(connection, table, key, owner="b", lease=10, now=105.0) is None
    assert leases.renew(connection, table, key, fence=first, lease=10, now=108.0)
    assert leases.take(connection, table, key, owner="b", lease=10, now=112.0) is None
    second = leases.take(connection, table, key, owner="b", lease=10, now=119.0)
    assert second == 2
    with pytest.raises(leases.LostLease):
        leases.prove(connection, table, key, fence=first)
    assert not leases.renew(connection, table, key, fence=first, lease=10, now=119.0)
    assert not leases.release(connection, table, key, fence=first)
    leases.prove(connection, table, key, fence=second)
    assert leases.release(connection, table, key, fence=second)
    with pytest.raises(leases.LostLease):
        leases.prove(connection, table, key, fence=second)
    assert leases.take(connection, table, key, owner="a", lease=10, now=119.5) == 3
    assert connection.execute(select(table.c.owner)).scalar_one() == "a"


def test_the_audit_log_keeps_order_and_no_secrets(connection: Connection) -> None:
    for n, action in enumerate(("cluster.down", "cluster.purge")):
        audit.write(
            connection,
            actor="me",
            action=action,
            subject="cluster:c",
            now=float(n),
            data={"secrets": {"a": "b"}},
        )
    audit.write(connection, actor="me", action="x", subject="other", now=9.0)
    lines = audit.newest(connection, subject="cluster:c")
    assert [line.action for line in lines] == ["cluster.purge", "cluster.down"]
    assert lines[0].data == {"secrets": {"a": BLANK}}
