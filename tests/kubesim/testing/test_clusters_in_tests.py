"""The fixtures of the pytest plugin, used as an author of a tool would use them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubesim.faults import Faults
from kubesim.pytest_plugin import AddNodes, FreshCluster
from kubesim.testing import BlockingClient, ClusterClock, EmbeddedCluster, NotInTime
from kubewire.errors import Forbidden, NotFound, ServerError
from kubewire.resources import (
    CONFIG_MAPS,
    CRON_JOBS,
    JOBS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    Resource,
)

Body = dict[str, object]
TEMPLATE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "any"}]}}


def settings(name: str) -> Body:
    return {"metadata": {"name": name}, "data": {"k": "v"}}


def pod(name: str, **spec: object) -> Body:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "any"}], **spec}}


def test_a_fresh_cluster_is_empty_and_nobody_elses(
    kubesim_fresh_cluster: FreshCluster, kubesim_cluster: EmbeddedCluster
) -> None:
    one, other = kubesim_fresh_cluster(), kubesim_fresh_cluster()
    one.client.create(CONFIG_MAPS, settings("a"), "default")
    for cluster in (other, kubesim_cluster):
        with pytest.raises(NotFound):
            cluster.client.get(CONFIG_MAPS, "a", "default")
    assert other.client.list(NODES).items == []
    names = {one["metadata"]["name"] for one in other.client.list(NAMESPACES).items}
    assert names == {"default", "kube-system", "kube-public", "kube-node-lease"}


def test_a_closed_cluster_leaves_no_thread_and_no_file(kubesim_fresh_cluster: FreshCluster) -> None:
    before = set(threading.enumerate())
    cluster = kubesim_fresh_cluster(store="durable")
    cluster.client.create(CONFIG_MAPS, settings("a"), "default")
    folder = cluster.kubeconfig.parent
    cluster.close()
    assert not folder.exists()
    assert {one for one in threading.enumerate() if one.is_alive()} <= before


def test_a_namespace_is_ready_for_pods_and_is_told_to_go(
    kubesim_cluster: EmbeddedCluster, request: pytest.FixtureRequest
) -> None:
    with kubesim_cluster.namespace(request.node.name) as name:
        assert name.startswith("test-a-namespace-is-ready-for-pods-and-i-")
        assert kubesim_cluster.client.create(PODS, pod("p"), name)["spec"]["serviceAccountName"] == "default"
    kubesim_cluster.client.wait_gone(NAMESPACES, name)


def test_nodes_by_hand_get_pods_that_nobody_runs(
    kubesim_nodes: AddNodes, kubesim_client: BlockingClient, kubesim_namespace: str
) -> None:
    names = kubesim_nodes(2, cpu="2", labels={"pool": "a"})
    big = {"name": "main", "image": "any", "resources": {"requests": {"cpu": "2"}}}
    for name in "ab":
        kubesim_client.create(
            PODS, pod(name, containers=[big], nodeSelector={"pool": "a"}), kubesim_namespace
        )
    for name in "ab":
        kubesim_client.wait_for(PODS, kubesim_namespace, lambda one, name=name: _on_a_node(one, name))
    pods = kubesim_client.list(PODS, kubesim_namespace).items
    assert {one["spec"]["nodeName"] for one in pods} == set(names)
    assert {one["status"]["phase"] for one in pods} == {"Pending"}


def _on_a_node(one: dict[str, dict[str, str]], name: str) -> bool:
    return one["metadata"]["name"] == name and "nodeName" in one["spec"]


def test_waiting_in_vain_says_for_what(kubesim_client: BlockingClient, kubesim_namespace: str) -> None:
    with pytest.raises(NotInTime, match=r"no ConfigMap passed the test within 0\.1 s"):
        kubesim_client.wait_for(CONFIG_MAPS, kubesim_namespace, lambda _: False, timeout=0.1)
    kubesim_client.create(CONFIG_MAPS, settings("a"), kubesim_namespace)
    with pytest.raises(NotInTime, match="ConfigMap a was still there"):
        kubesim_client.wait_gone(CONFIG_MAPS, "a", kubesim_namespace, timeout=0.1)


async def test_an_event_loop_of_the_test_can_have_a_client_of_its_own(
    kubesim_cluster: EmbeddedCluster, kubesim_namespace: str
) -> None:
    async with kubesim_cluster.connect() as client:
        await client.create(CONFIG_MAPS, settings("a"), kubesim_namespace)
        assert (await client.get(CONFIG_MAPS, "a", kubesim_namespace))["data"] == {"k": "v"}


test_an_event_loop_of_the_test_can_have_a_client_of_its_own = pytest.mark.anyio(
    test_an_event_loop_of_the_test_can_have_a_client_of_its_own
)


def test_the_kubeconfig_holds_an_administrator_over_tls(
    kubesim_kubeconfig: Path, kubesim_cluster: EmbeddedCluster
) -> None:
    assert kubesim_kubeconfig.stat().st_mode & 0o077 == 0
    assert kubesim_cluster.server.startswith("https://127.0.0.1:")


def test_a_cron_job_is_due_sixty_times_in_an_hour(
    kubesim_clock: ClusterClock, kubesim_client: BlockingClient, kubesim_namespace: str
) -> None:
    cron = {
        "metadata": {"name": "c"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": TEMPLATE}}},
    }
    kubesim_client.create(CRON_JOBS, cron, kubesim_namespace)
    before = kubesim_clock.now()
    kubesim_clock.advance(3600)
    assert (kubesim_clock.now() - before).total_seconds() >= 3600
    assert len(kubesim_client.list(JOBS, kubesim_namespace).items) == 60


def test_a_finished_job_goes_when_its_time_to_live_is_over(
    kubesim_clock: ClusterClock, kubesim_client: BlockingClient, kubesim_namespace: str
) -> None:
    job = {"metadata": {"name": "j"}, "spec": {"ttlSecondsAfterFinished": 600, "template": TEMPLATE}}
    kubesim_client.create(JOBS, job, kubesim_namespace)
    made = kubesim_client.wait_for(PODS, kubesim_namespace, lambda _: True)
    status = {"status": {"phase": "Succeeded"}}
    kubesim_client.patch(PODS, made["metadata"]["name"], status, kubesim_namespace, subresource="status")
    kubesim_client.wait_for(JOBS, kubesim_namespace, _complete)
    kubesim_clock.advance(590)
    assert len(kubesim_client.list(JOBS, kubesim_namespace).items) == 1
    kubesim_clock.advance(20)
    assert kubesim_client.list(JOBS, kubesim_namespace).items == []


def _complete(job: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    return any(one["type"] == "Complete" for one in job.get("status", {}).get("conditions", []))


def test_a_node_that_renews_no_lease_is_given_up_and_its_pods_are_evicted(
    kubesim_fresh_cluster: FreshCluster,
) -> None:
    cluster = kubesim_fresh_cluster()
    with cluster.nodes(1) as (name,):
        cluster.client.create(LEASES, _lease(name), "kube-node-lease")
        cluster.client.create(PODS, pod("p"), "default")
        cluster.client.wait_for(PODS, "default", lambda one: _on_a_node(one, "p"))
        cluster.clock.advance(60)
        node = cluster.client.get(NODES, name)
        assert {one["status"] for one in node["status"]["conditions"]} == {"Unknown"}
        assert {one["key"] for one in node["spec"]["taints"]} == {"node.kubernetes.io/unreachable"}
        cluster.clock.advance(200)
        assert "deletionTimestamp" not in cluster.client.get(PODS, "p", "default")["metadata"]
        cluster.clock.advance(120)
        assert "deletionTimestamp" in cluster.client.get(PODS, "p", "default")["metadata"]


def _lease(name: str) -> Body:
    spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": "2030-01-01T00:00:00.000000Z"}
    return {"metadata": {"name": name}, "spec": spec}


def test_a_cluster_can_begin_at_a_moment_and_with_a_seed(kubesim_fresh_cluster: FreshCluster) -> None:
    start = datetime(2031, 5, 17, 12, 0, tzinfo=UTC)
    made = []
    for _ in range(2):
        cluster = kubesim_fresh_cluster(seed=7, start=start)
        cluster.clock.advance(3600)
        named = {"metadata": {"generateName": "x-"}}
        made.append(cluster.client.create(CONFIG_MAPS, named, "default")["metadata"])
    assert made[0]["creationTimestamp"][:14] == "2031-05-17T13:"
    assert (made[0]["name"], made[0]["uid"]) == (made[1]["name"], made[1]["uid"])


def test_a_process_node_runs_pods_and_their_backoff_follows_the_clock(
    kubesim_fresh_cluster: FreshCluster,
) -> None:
    cluster = kubesim_fresh_cluster(process_node=True)
    failing = {"name": "main", "image": "any", "command": ["false"]}
    cluster.client.create(PODS, pod("p", containers=[failing]), "default")
    for restarts in (1, 2, 3):
        cluster.client.wait_for(PODS, "default", lambda one, n=restarts - 1: _waits(one, n), timeout=20)
        cluster.clock.advance(300)
        cluster.client.wait_for(PODS, "default", lambda one, n=restarts: _restarts(one) >= n, timeout=20)
    (node,) = cluster.client.list(NODES).items
    assert {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] == "True"


def _restarts(one: dict[str, dict[str, list[dict[str, int]]]]) -> int:
    return sum(status["restartCount"] for status in one["status"].get("containerStatuses", []))


def _waits(one: dict[str, dict[str, list[dict[str, dict[str, dict[str, str]]]]]], restarts: int) -> bool:
    """Whether it is in backoff after so many restarts, or already on; the first restart does not wait."""
    for status in one["status"].get("containerStatuses", []):
        if status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff":
            return True
    return restarts == 0


def test_a_fault_strikes_what_comes_over_the_wire_and_goes_with_the_test(
    kubesim_faults: Faults, kubesim_namespace: str, kubesim_client: BlockingClient
) -> None:
    with kubesim_faults.inject("status", code=503, verbs=["get"], resources=["configmaps"]) as fault:
        with pytest.raises(ServerError):
            kubesim_client.get(CONFIG_MAPS, "a", kubesim_namespace)
        assert kubesim_client.list(CONFIG_MAPS, kubesim_namespace).items is not None
        assert kubesim_faults.get(fault.id).struck == 1
    with pytest.raises(NotFound):
        kubesim_client.get(CONFIG_MAPS, "a", kubesim_namespace)
    kubesim_faults.add("status", code=500, verbs=["delete"])  # the namespace is deleted all the same


def test_rights_hold_as_everywhere(kubesim_cluster: EmbeddedCluster, kubesim_namespace: str) -> None:
    account = Resource("", "v1", "serviceaccounts", "ServiceAccount")
    request = {"spec": {"expirationSeconds": 600}}
    answer = kubesim_cluster.client.create(
        account, request, kubesim_namespace, name="default", subresource="token"
    )
    review = {"spec": {"token": answer["status"]["token"]}}
    reviews = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
    assert kubesim_cluster.client.create(reviews, review)["status"]["authenticated"] is True
    with pytest.raises(Forbidden):
        kubesim_cluster.client.delete(NAMESPACES, "kube-system")
