"""A Kubernetes context as an Infra, against a fake API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubewire.errors import StreamBroken
from kubewire.requests import Response
from whimbrel.infra.base import ClusterSpec, NodeShape
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.model.errors import (
    ContextNotFound,
    Forbidden,
    IdentityChanged,
    InfraRefused,
    NodeLost,
    OutOfCapacity,
    QuotaExceeded,
    Unauthorized,
)

from .fake_api import FakeApi, FakeChannel, machine, running, status, unscheduled, waiting

pytestmark = pytest.mark.anyio


def said(**status: Any) -> bytes:
    """The frame that ends a command."""
    return b"\x03" + json.dumps(status).encode()


def ended_with(code: int) -> bytes:
    """The frame of a command that failed."""
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return said(status="Failure", reason="NonZeroExitCode", details={"causes": causes})


SUCCESS = said(status="Success")


def quiet(text: str) -> None:
    """A Progress that nobody reads."""


def refusing(method: str, part: str, answer: Response) -> Callable[[str, str], Response | None]:
    """Refuse one kind of request."""
    return lambda verb, path: answer if verb == method and part in path else None


async def test_ensure_creates_what_was_announced_and_waits_until_it_runs(
    infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec
) -> None:
    await infra.identity()
    announced = {thing.name for thing in infra.things(spec)}
    said: list[str] = []
    seen = await infra.ensure(spec, said.append, 10)
    assert seen.running
    assert [node.ip for node in seen.nodes] == ["10.1.2.3", "10.1.2.3"]
    assert {*api.named("pods"), *api.named("services")} == announced
    assert {thing.name for thing in seen.others} == {"c1-01234567"}
    assert said == ["creating 2 nodes in k8s/fake", "2 of 2 nodes run"]


async def test_ensure_again_creates_nothing(infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec) -> None:
    await infra.ensure(spec, quiet, 10)
    api.requests.clear()
    assert (await infra.ensure(spec, quiet, 10)).running
    assert not [request for request in api.requests if request.startswith("POST")]


async def test_ensure_creates_only_what_is_missing(
    infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec
) -> None:
    await infra.ensure(spec, quiet, 10)
    api.drop("pods", "default", "c1-01234567-1")
    api.requests.clear()
    assert (await infra.ensure(spec, quiet, 10)).running
    assert [r for r in api.requests if r.startswith("POST")] == ["POST /api/v1/namespaces/default/pods"]


async def test_ensure_replaces_a_node_that_has_ended(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    await infra.ensure(one, quiet, 10)
    api.set_status("c1-01234567-0", {"phase": "Failed", "reason": "Evicted", "message": "low on memory"})
    said: list[str] = []
    assert (await infra.ensure(one, said.append, 10)).running
    assert said[0] == "node 0 is replaced: its machine was short of something and evicted it: low on memory"


async def test_what_is_waited_for_is_told_when_it_changes(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    api.on_create = lambda pod: None
    said: list[str] = []
    told = asyncio.Event()

    def progress(text: str) -> None:
        said.append(text)
        told.set()

    async def until(text: str) -> None:
        async with asyncio.timeout(10):
            while text not in said:
                told.clear()
                await told.wait()

    making = asyncio.create_task(infra.ensure(one, progress, 20))
    await until("it waits for the scheduler")
    name = "c1-01234567-0"
    api.set_status(name, unscheduled("0/1 nodes are available: 1 Insufficient cpu."))
    await until(
        "no machine can take it: 0/1 nodes are available: 1 Insufficient cpu. "
        "(make room: `whim status` shows what runs, `whim down` removes it)"
    )
    api.objects["pods", "default", name]["spec"]["nodeName"] = "m1"
    api.set_status(name, waiting("ErrImagePull", "not found"))
    await until("the image img cannot be pulled (ErrImagePull): not found")
    api.set_status(name, running())
    assert (await making).running
    assert said[-1] == "the node runs"


async def test_a_watch_that_breaks_goes_on(infra: KubernetesInfra, api: FakeApi, one: ClusterSpec) -> None:
    api.on_create = lambda pod: None
    seen = asyncio.Event()
    making = asyncio.create_task(infra.ensure(one, lambda text: seen.set(), 20))
    await seen.wait()
    async with asyncio.timeout(10):
        await api.watched.wait()
    api.break_watches()
    api.set_status("c1-01234567-0", running())
    async with asyncio.timeout(10):
        assert (await making).running


async def test_no_room_within_the_time_is_told_with_what_is_free(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    api.on_create = lambda pod: api.set_status(pod["metadata"]["name"], unscheduled("1 Insufficient cpu."))
    with pytest.raises(OutOfCapacity) as caught:
        await infra.ensure(one, quiet, 0.3)
    assert "no machine can take it: 1 Insufficient cpu." in caught.value.message
    assert "most is free on m1: 4 CPUs" in caught.value.message
    assert caught.value.remedy
    assert api.named("pods") == ["c1-01234567-0"]  # the record says so too: the next launch goes on from here


async def test_a_node_that_ends_at_once_is_told_without_waiting(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    ended = {
        "phase": "Failed",
        "containerStatuses": [{"state": {"terminated": {"exitCode": 127, "reason": "StartError"}}}],
    }
    api.on_create = lambda pod: api.set_status(pod["metadata"]["name"], ended)
    async with asyncio.timeout(10):
        with pytest.raises(InfraRefused, match="its command could not be started"):
            await infra.ensure(one, quiet, 60)


async def test_an_image_name_that_is_none_ends_the_wait(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    api.on_create = lambda pod: api.set_status(pod["metadata"]["name"], waiting("InvalidImageName"))
    api.objects["nodes", "", "m1"]["metadata"]["name"] = "m1"
    async with asyncio.timeout(10):
        with pytest.raises(InfraRefused, match="cannot start"):
            await infra.ensure(one, quiet, 60)


async def test_a_quota_is_told_as_one(infra: KubernetesInfra, api: FakeApi, one: ClusterSpec) -> None:
    message = 'pods "x" is forbidden: exceeded quota: team, requested: requests.cpu=2, used: requests.cpu=9'
    api.refuse = refusing("POST", "/pods", status(403, "Forbidden", message))
    with pytest.raises(QuotaExceeded, match="exceeded quota: team"):
        await infra.ensure(one, quiet, 5)


async def test_an_object_of_that_name_that_is_not_ours_is_not_taken(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    api.put("pods", "default", {"metadata": {"name": "c1-01234567-0"}, "status": running()})
    with pytest.raises(InfraRefused, match="not ours"):
        await infra.ensure(one, quiet, 5)


async def test_remove_deletes_everything_and_sees_it_gone(
    infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec
) -> None:
    await infra.ensure(spec, quiet, 10)
    labels = api.objects["pods", "default", "c1-01234567-0"]["metadata"]["labels"]
    api.put("pods", "default", {"metadata": {"name": "stray", "labels": dict(labels)}, "status": running()})
    seen = await infra.remove(spec, quiet, 10)
    assert seen.gone
    assert api.named("pods") == api.named("services") == []


async def test_remove_of_nothing_is_done_at_once(
    infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec
) -> None:
    assert (await infra.remove(spec, quiet, 10)).gone
    assert not [request for request in api.requests if request.startswith("DELETE")]


async def test_remove_touches_no_other_cluster(
    infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec, one: ClusterSpec
) -> None:
    other = ClusterSpec(name="c1", uid="ffffffffffff", num_nodes=1, shape=one.shape, user="a")
    await infra.ensure(spec, quiet, 10)
    await infra.ensure(other, quiet, 10)
    await infra.remove(spec, quiet, 10)
    assert api.named("pods") == ["c1-ffffffff-0"]


async def test_what_finalizers_keep_is_in_the_answer(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    await infra.ensure(one, quiet, 10)
    pod = api.objects["pods", "default", "c1-01234567-0"]

    def keep(key: Any) -> bool:
        pod["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/keep"]}
        return False

    api.on_delete = keep
    said: list[str] = []
    seen = await infra.remove(one, said.append, 0.3)
    assert not seen.gone
    assert seen.nodes[0].phase == "deleting"
    assert "example.com/keep" in seen.nodes[0].message


async def test_what_may_not_be_deleted_is_in_the_answer_at_once(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    await infra.ensure(one, quiet, 10)
    api.refuse = refusing("DELETE", "/pods", status(403, "Forbidden", "you cannot delete pods"))
    async with asyncio.timeout(5):
        seen = await infra.remove(one, quiet, 60)
    assert seen.nodes[0].phase == "running"
    assert "you cannot delete pods" in seen.nodes[0].message


async def test_a_cluster_in_another_namespace_is_not_taken_for_gone(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec, kubeconfig: Path
) -> None:
    await infra.ensure(one, quiet, 10)
    kubeconfig.write_text(kubeconfig.read_text().replace("user: u}", "user: u, namespace: other}"))
    again = KubernetesInfra(
        "fake", infra._link._contexts, infra._settings, opener=infra._link._opener
    )  # a restarted server
    assert (await again.observe(one)).running
    assert (await again.remove(one, quiet, 10)).gone
    assert api.named("pods") == []


async def test_without_the_right_to_look_everywhere_its_namespace_is_what_counts(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    answer = status(403, "Forbidden", "not cluster-wide")
    api.refuse = lambda verb, path: answer if path in ("/api/v1/pods", "/api/v1/services") else None
    assert (await infra.observe(one)).gone
    await infra.ensure(one, quiet, 10)
    assert (await infra.remove(one, quiet, 10)).gone


async def test_observe_tells_what_is_there(infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec) -> None:
    assert (await infra.observe(spec)).gone
    await infra.ensure(spec, quiet, 10)
    seen = await infra.observe(spec)
    assert seen.running
    assert [thing.name for thing in seen.others] == ["c1-01234567"]
    api.drop("pods", "default", "c1-01234567-1")
    assert [node.phase for node in (await infra.observe(spec)).nodes] == ["running", "absent"]


async def test_check_tells_what_it_is(infra: KubernetesInfra, api: FakeApi) -> None:
    api.put(
        "nodes",
        "",
        machine(
            "m2", "8", "16Gi", room={"nvidia.com/gpu": "2"}, labels={"nvidia.com/gpu.product": "NVIDIA-L4"}
        ),
    )
    check = await infra.check()
    assert check.usable
    assert (check.identity, check.version) == ("uid-of-kube-system", "v1.36.0-fake")
    assert (check.nodes, check.cpus, check.memory_gib, check.accelerators) == (2, 12, 24, {"L4": 2})


async def test_check_without_the_right_to_list_machines_is_still_usable(
    infra: KubernetesInfra, api: FakeApi
) -> None:
    api.refuse = refusing("GET", "/nodes", status(403, "Forbidden", "no"))
    check = await infra.check()
    assert (check.usable, check.nodes) == (True, None)
    assert (await infra.offer(1, NodeShape(cpus=1000))).feasible


@pytest.mark.parametrize(
    ("code", "reason"), [(401, "Unauthorized"), (403, "Forbidden"), (500, "InternalError")]
)
async def test_check_never_raises(infra: KubernetesInfra, api: FakeApi, code: int, reason: str) -> None:
    api.refuse = lambda verb, path: status(code, reason, "no")
    check = await infra.check()
    assert not check.usable
    assert check.reason
    assert check.remedy


async def test_offer_tells_why_not_with_what_there_is(infra: KubernetesInfra) -> None:
    assert (await infra.offer(2, NodeShape(cpus=2))).feasible
    offer = await infra.offer(1, NodeShape(cpus=64))
    assert not offer.feasible
    assert "the largest (m1) has 4 CPUs" in offer.reason


async def test_a_machine_that_has_just_come_is_seen_by_the_next_offer(
    infra: KubernetesInfra, api: FakeApi
) -> None:
    assert not (await infra.offer(1, NodeShape(cpus=64))).feasible
    api.put("nodes", "", machine("big", "64"))
    assert (await infra.offer(1, NodeShape(cpus=64))).feasible


async def test_offer_asks_once_for_many(infra: KubernetesInfra, api: FakeApi) -> None:
    await asyncio.gather(*(infra.offer(1, NodeShape(cpus=1)) for _ in range(20)))
    assert api.requests.count("GET /api/v1/nodes") == 1


async def test_refused_credentials_are_told_as_such(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    api.refuse = lambda verb, path: status(401, "Unauthorized", "expired")
    with pytest.raises(Unauthorized) as caught:
        await infra.observe(one)
    assert caught.value.remedy


async def test_a_context_that_disappears_between_two_calls_is_named(
    infra: KubernetesInfra, one: ClusterSpec, kubeconfig: Path
) -> None:
    await infra.observe(one)
    kubeconfig.write_text(kubeconfig.read_text().replace("name: fake,", "name: other,"))
    with pytest.raises(ContextNotFound, match="other"):
        await infra.observe(one)


async def test_identity_without_the_right_to_read_it_is_the_servers(
    infra: KubernetesInfra, api: FakeApi
) -> None:
    api.refuse = refusing("GET", "kube-system", status(403, "Forbidden", "no"))
    assert (await infra.identity()).startswith("server-")
    assert await infra.identity() == await infra.identity()


async def test_rights_that_come_or_go_do_not_make_it_another_cluster(
    infra: KubernetesInfra, api: FakeApi
) -> None:
    """What was recorded is compared with the same sort of thing; where that cannot be read any more, that is said."""
    uid = await infra.identity()
    api.refuse = refusing("GET", "kube-system", status(403, "Forbidden", "no"))
    by_server = await infra.identity()
    with pytest.raises(Forbidden, match="reading its identity"):
        await infra.identity(uid)
    assert await infra.identity(by_server) == by_server
    api.refuse = lambda method, path: None
    assert await infra.identity(by_server) == by_server
    assert await infra.identity(uid) == uid


async def test_exec_carries_bytes_and_the_exit_code(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    failure = ended_with(7)
    api.next_channel = lambda: FakeChannel([b"\x01out", b"\x02err", failure, None])
    async with infra.node(one, 0).exec(["sh"], stdin=True) as stream:
        await stream.write(b"in")
        await stream.close_stdin()
        assert [piece async for piece in stream.output()] == [(1, b"out"), (2, b"err")]
        assert await stream.exit_code() == 7
    assert api.channels[0].sent == [b"\x00in", b"\xff\x00"]
    assert "EXEC /api/v1/namespaces/default/pods/c1-01234567-0/exec" in api.requests


async def test_an_exec_stream_that_breaks_is_a_lost_node(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    api.next_channel = lambda: FakeChannel([b"\x01out", StreamBroken("reset")])
    async with infra.node(one, 0).exec(["sh"]) as stream:
        with pytest.raises(NodeLost, match="c1-01234567-0"):
            _ = [piece async for piece in stream.output()]


@pytest.mark.parametrize("code", [404, 400, 500])
async def test_a_pod_that_cannot_take_a_command_is_a_lost_node_and_no_dead_infra(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec, code: int
) -> None:
    api.refuse = refusing("EXEC", "/exec", status(code, "", "container not found"))
    with pytest.raises(NodeLost, match="container not found"):
        async with infra.node(one, 0).exec(["sh"]):
            raise AssertionError
    assert infra.breaker.state == "closed"


async def test_exec_without_the_right_to_is_forbidden(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    api.refuse = refusing("EXEC", "/exec", status(403, "Forbidden", "pods/exec"))
    with pytest.raises(Forbidden):
        async with infra.node(one, 0).exec(["sh"]):
            raise AssertionError


async def test_a_command_that_is_not_there_ends_with_127(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    message = said(
        status="Failure",
        reason="InternalError",
        code=500,
        message='exec: "sh": executable file not found in $PATH',
    )
    api.next_channel = lambda: FakeChannel([message, None])
    async with infra.node(one, 0).exec(["sh"]) as stream:
        assert [piece async for piece in stream.output()] == []
        assert await stream.exit_code() == 127


async def test_an_old_server_that_cannot_close_stdin_is_told_as_one(
    infra: KubernetesInfra, api: FakeApi, one: ClusterSpec
) -> None:
    api.next_channel = lambda: FakeChannel([SUCCESS, None], protocol="v4.channel.k8s.io")
    async with infra.node(one, 0).exec(["sh"], stdin=True) as stream:
        with pytest.raises(InfraRefused, match=r"1\.30|cannot close stdin"):
            await stream.close_stdin()


async def test_everything_is_closed_at_the_end(infra: KubernetesInfra, api: FakeApi) -> None:
    await infra.check()
    await infra.aclose()
    assert api.closed


async def test_a_cluster_is_looked_for_where_it_was_made_although_the_context_points_elsewhere_now(
    infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec
) -> None:
    """Who may not look into all namespaces must not take what is in the old one for gone."""
    made = replace(spec, namespace="old")
    api.on_create = lambda pod: api.set_status(pod["metadata"]["name"], running(), "old")
    await infra.ensure(made, quiet, 10)
    assert {namespace for kind, namespace, _ in api.objects if kind == "pods"} == {"old"}
    infra._objects._homes.clear()  # another server
    api.refuse = lambda method, path: (
        status(403, "Forbidden", "not in all namespaces")
        if path in ("/api/v1/pods", "/api/v1/services")
        else None
    )
    assert (await infra.observe(made)).running
    assert (await infra.remove(made, quiet, 10)).gone
    assert api.named("pods") == []


async def test_what_was_made_in_another_cluster_is_not_touched_here(
    infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec
) -> None:
    """A restored copy of a cluster has the same names and labels, and another identity."""
    await infra.ensure(spec, lambda text: None, 5)
    before, made = dict(api.objects), replace(spec, identity="of another cluster")
    api.requests.clear()
    for touch in (
        infra.ensure(made, lambda text: None, 5),
        infra.observe(made),
        infra.remove(made, lambda text: None, 5),
    ):
        with pytest.raises(IdentityChanged, match="nothing was touched"):
            await touch
    with pytest.raises(IdentityChanged):
        async with infra.node(made, 0).exec(["sh"]):
            raise AssertionError("a command was started")
    assert api.objects == before
    assert api.channels == []
    assert {line.split("?")[0] for line in api.requests} <= {"GET /api/v1/namespaces/kube-system"}
    ours = replace(spec, identity="uid-of-kube-system")
    assert (await infra.observe(ours)).running
    assert (await infra.remove(ours, lambda text: None, 5)).gone


async def test_names_that_are_taken_are_told_with_the_labels_they_have_now(
    infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec
) -> None:
    await infra.ensure(spec, lambda text: None, 5)
    things = infra.things(spec)
    first = things[0].name
    api.put(
        "pods", "default", {**api.objects["pods", "default", first], "metadata": {"name": first, "uid": "x"}}
    )
    named = await infra.named(things)
    assert [thing.name for thing in named] == [thing.name for thing in things]
    assert named[0].labels == {}
    assert named[1].labels["whimbrel.dev/cluster-uid"] == spec.uid
    api.drop("pods", "default", first)
    assert first not in [thing.name for thing in await infra.named(things)]


async def test_each_thing_that_was_refused_is_in_the_answer_with_why(
    infra: KubernetesInfra, api: FakeApi, spec: ClusterSpec
) -> None:
    await infra.ensure(spec, lambda text: None, 5)
    api.refuse = refusing("DELETE", "/services", status(403, "Forbidden", "you cannot delete services"))
    seen = await infra.remove(spec, lambda text: None, 5)
    assert [node.phase for node in seen.nodes] == ["absent", "absent"]
    (thing,) = seen.others
    assert "you cannot delete services" in seen.refused[thing.name]
