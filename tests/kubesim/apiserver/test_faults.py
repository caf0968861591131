"""Faults on purpose, each over a real socket: what a client sees, and what the server did meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.serve import Serving
from kubesim.faults import Fault, Faults
from kubewire.client import Client
from kubewire.errors import Gone, StreamBroken, TooManyRequests, Unreachable
from kubewire.exec import ExecSession
from kubewire.http import HttpTransport
from kubewire.resources import CONFIG_MAPS, PODS

from .conftest import FakeNode, configmap, plain

pytestmark = pytest.mark.anyio

LIMIT = 10.0
PATH = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def faults(serving: Serving) -> Faults:
    """Without the control socket between: the server is in this process."""
    return Faults(serving.faults.command)


@pytest.fixture
async def remote(serving: Serving) -> AsyncIterator[Client]:
    async with Client(HttpTransport(plain(serving))) as client:
        yield client


class Raw:
    """One request on a connection of its own, and exactly what came back."""

    def __init__(self, status: int, head: str, body: bytes, end: str) -> None:
        self.status = status
        self.head = head
        self.body = body
        self.end = end  # "eof" or "reset"

    def json(self) -> Any:
        return orjson.loads(self.body)

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None


async def ask(
    serving: Serving,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    agent: str = "raw/1",
    token: str = "admin-token",
) -> Raw:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nUser-Agent: {agent}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    received, end = b"", "eof"
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(head.encode() + body)
        async with asyncio.timeout(LIMIT):
            while piece := await reader.read(65536):
                received += piece
    except ConnectionResetError:
        end = "reset"
    finally:
        if writer is not None:
            writer.close()
    before, _, after = received.partition(b"\r\n\r\n")
    text = before.decode("latin-1")
    status = int(text.split(" ")[1]) if text.startswith("HTTP/") else 0
    return Raw(status, text, after, end)


async def become(true: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(LIMIT):
        while not true():  # noqa: ASYNC110 (what is counted has no event)
            await asyncio.sleep(0.01)


async def struck(faults: Faults, fault: Fault, times: int = 1) -> None:
    await become(lambda: faults.get(fault.id).struck >= times)


async def events(client: Client, query: tuple[tuple[str, str], ...] = ()) -> list[dict[str, Any]]:
    """All events of one watch request, until it ends in order."""
    from kubewire.requests import Request

    request = Request(method="GET", path=PATH, query=(("watch", "1"), *query))
    found = b""
    async with asyncio.timeout(LIMIT), client.transport.stream(request, connect=5, idle=LIMIT) as stream:
        async for chunk in stream.chunks():
            found += chunk
    return [orjson.loads(line) for line in found.splitlines()]


# One after the other


async def test_a_request_that_hangs_goes_on_when_the_fault_is_removed(
    serving: Serving, faults: Faults, api: ApiServer
) -> None:
    fault = faults.add("hang", verbs=["create"], resources=["cm"])
    body = orjson.dumps(configmap("a"))
    hanging = asyncio.create_task(ask(serving, "POST", PATH, body))
    await struck(faults, fault)
    assert (await ask(serving, "GET", PATH)).status == 200
    assert api.store.get("/configmaps", "default/a") is None
    assert not hanging.done()
    faults.remove(fault.id)
    assert (await hanging).status == 201
    assert api.faults is None


async def test_a_change_can_happen_although_its_answer_hangs(
    serving: Serving, faults: Faults, api: ApiServer
) -> None:
    fault = faults.add("hang", applied=True)
    hanging = asyncio.create_task(ask(serving, "POST", PATH, orjson.dumps(configmap("a"))))
    await become(lambda: api.store.get("/configmaps", "default/a") is not None)
    assert not hanging.done()
    faults.remove(fault.id)
    assert (await hanging).status == 201


async def test_a_fault_that_is_spent_holds_whom_it_has_until_it_is_removed(
    serving: Serving, faults: Faults, api: ApiServer
) -> None:
    fault = faults.add("hang", count=1)
    hanging = asyncio.create_task(ask(serving, "GET", PATH))
    await become(lambda: faults.get(fault.id).state == "spent")
    assert api.faults is None
    assert (await ask(serving, "GET", PATH)).status == 200
    assert not hanging.done()
    faults.remove(fault.id)
    assert (await hanging).status == 200


async def test_a_client_that_gives_up_frees_what_hangs_and_a_server_that_ends_waits_for_none(
    serving: Serving, faults: Faults, api: ApiServer, remote: Client
) -> None:
    fault = faults.add("hang", resources=["configmaps"])
    first = asyncio.create_task(remote.list(CONFIG_MAPS, "default"))
    await struck(faults, fault)
    assert len(api.streams) == 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.wait_for(api.streams.none_open.wait(), LIMIT)
    second = asyncio.create_task(ask(serving, "GET", PATH))
    await struck(faults, fault, 2)
    await asyncio.wait_for(serving.stop(), LIMIT)
    assert (await second).status == 0


async def test_a_delay_is_waited_for_and_ends_with_the_fault(serving: Serving, faults: Faults) -> None:
    loop = asyncio.get_running_loop()
    faults.add("delay", delay=0.2, count=1)
    began = loop.time()
    assert (await ask(serving, "GET", PATH)).status == 200
    assert loop.time() - began >= 0.2
    fault = faults.add("delay", delay=3600.0)
    waiting = asyncio.create_task(ask(serving, "GET", PATH))
    await struck(faults, fault)
    faults.clear()
    assert (await waiting).status == 200


async def test_a_dripping_answer_is_whole_and_slow(serving: Serving, faults: Faults) -> None:
    whole = await ask(serving, "GET", "/api/v1/namespaces/default")
    faults.add("drip", rate=len(whole.body) * 4)
    loop = asyncio.get_running_loop()
    began = loop.time()
    dripped = await ask(serving, "GET", "/api/v1/namespaces/default")
    assert dripped.body == whole.body
    assert loop.time() - began >= 0.2


async def test_a_reset_comes_in_the_middle_of_the_answer_after_the_change_was_made(
    serving: Serving, faults: Faults, api: ApiServer
) -> None:
    faults.add("reset", verbs=["create"])
    answer = await ask(serving, "POST", PATH, orjson.dumps(configmap("a")))
    length = int(answer.header("content-length") or 0)
    assert (answer.status, answer.end) == (201, "reset")
    assert len(answer.body) == length // 2
    assert api.store.get("/configmaps", "default/a") is not None


async def test_a_reset_can_come_before_anything_is_done(
    serving: Serving, faults: Faults, api: ApiServer
) -> None:
    faults.add("reset", verbs=["create"], applied=False)
    answer = await ask(serving, "POST", PATH, orjson.dumps(configmap("a")))
    assert (answer.head, answer.end) == ("", "reset")
    assert api.store.get("/configmaps", "default/a") is None


async def test_kubewire_reports_a_reset_as_unreachable(faults: Faults, remote: Client) -> None:
    faults.add("reset", bytes=10)
    with pytest.raises((Unreachable, StreamBroken)):
        await remote.list(CONFIG_MAPS, "default")


async def test_a_truncated_answer_promises_more_than_it_holds(serving: Serving, faults: Faults) -> None:
    faults.add("truncate", bytes=7, count=1)
    answer = await ask(serving, "GET", PATH)
    assert (answer.status, answer.end) == (200, "eof")
    assert len(answer.body) == 7 < int(answer.header("content-length") or 0)
    assert (await ask(serving, "GET", PATH)).json()["kind"] == "ConfigMapList"


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (401, "Unauthorized", "Unauthorized"),
        (
            403,
            "Forbidden",
            'configmaps is forbidden: User "admin" cannot list resource "configmaps" in API group "" in the '
            'namespace "default"',
        ),
        (410, "Expired", "The resourceVersion for the provided list is too old."),
        (
            429,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        ),
        (500, "InternalError", "Internal error occurred: etcdserver: leader changed"),
        (503, "ServiceUnavailable", "the server is currently unable to handle the request"),
        (504, "Timeout", "Timeout: request did not complete within the allotted timeout"),
    ],
)
async def test_a_refusal_is_a_status_in_kubernetes_words(
    serving: Serving, faults: Faults, code: int, reason: str, message: str
) -> None:
    faults.add("status", code=code)
    answer = await ask(serving, "GET", PATH)
    status = answer.json()
    assert answer.status == status["code"] == code
    assert (status["kind"], status["reason"], status["message"]) == ("Status", reason, message)
    assert answer.header("retry-after") == ("1" if code in (429, 503) else None)


async def test_a_client_learns_from_a_429_when_to_come_again(faults: Faults, remote: Client) -> None:
    faults.add("status", code=429, retry_after=7)
    with pytest.raises(TooManyRequests) as refused:
        await remote.list(CONFIG_MAPS, "default")
    assert refused.value.retry_after == 7


async def test_a_refusal_can_be_the_page_of_a_proxy_or_the_text_of_a_filter(
    serving: Serving, faults: Faults
) -> None:
    faults.add("status", code=502, how="proxy", count=1)
    page = await ask(serving, "GET", PATH)
    assert (page.status, page.header("content-type")) == (502, "text/html")
    assert b"<h1>502 Bad Gateway</h1>" in page.body
    faults.add("status", code=429, how="text")
    text = await ask(serving, "GET", PATH)
    assert (text.status, text.header("retry-after")) == (429, "1")
    assert text.body == b"Too many requests, please try again later.\n"


async def test_a_change_can_happen_although_it_is_answered_with_an_error(
    serving: Serving, faults: Faults, api: ApiServer
) -> None:
    faults.add("status", code=504, applied=True)
    assert (await ask(serving, "POST", PATH, orjson.dumps(configmap("a")))).status == 504
    assert api.store.get("/configmaps", "default/a") is not None
    assert (await ask(serving, "GET", PATH + "?watch=1")).status == 504


async def test_garbage_is_no_json_or_a_login_page_or_no_http(serving: Serving, faults: Faults) -> None:
    faults.add("garbage", count=1)
    answer = await ask(serving, "GET", PATH)
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    with pytest.raises(orjson.JSONDecodeError):
        answer.json()
    faults.add("garbage", how="html", count=1)
    page = await ask(serving, "GET", PATH)
    assert page.body.startswith(b"<!DOCTYPE html>")
    faults.add("garbage", how="http")
    assert not (await ask(serving, "GET", PATH)).head.startswith("HTTP")


async def test_a_watch_is_cut_after_some_events(serving: Serving, faults: Faults, remote: Client) -> None:
    for name in "abc":
        await remote.create(CONFIG_MAPS, configmap(name), "default")
    faults.add("cut", events=2, how="end", count=1)
    assert [one["object"]["metadata"]["name"] for one in await events(remote)] == ["a", "b"]
    faults.add("cut", events=1, how="expired", count=1)
    first, error = await events(remote)
    assert first["type"] == "ADDED"
    assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 410, "Expired")
    faults.add("cut", events=0)
    with pytest.raises(StreamBroken):
        await events(remote)


async def test_a_watch_is_cut_after_some_time(faults: Faults, remote: Client) -> None:
    await remote.create(CONFIG_MAPS, configmap("a"), "default")
    faults.add("cut", after=0.1, how="end")
    assert len(await events(remote)) == 1


async def test_a_watch_that_resumes_sees_each_change_once_although_it_is_cut(
    faults: Faults, remote: Client
) -> None:
    faults.add("cut", events=3)
    watching = remote.watch(CONFIG_MAPS, "default")
    seen = []
    for number in range(8):
        await remote.create(CONFIG_MAPS, configmap(f"n{number}"), "default")
    async with asyncio.timeout(LIMIT):
        async for event in watching:
            if event.type == "ADDED":
                seen.append(event.object["metadata"]["name"])
            if len(seen) == 8:
                break
    await watching.aclose()
    assert seen == [f"n{number}" for number in range(8)]


async def test_reads_can_be_stale_by_revisions(serving: Serving, faults: Faults, remote: Client) -> None:
    await remote.create(CONFIG_MAPS, configmap("a", k="old"), "default")
    await remote.patch(CONFIG_MAPS, "a", {"data": {"k": "new"}}, "default")
    newest = await remote.create(CONFIG_MAPS, configmap("b"), "default")
    now = int(newest["metadata"]["resourceVersion"])
    faults.add("stale", revisions=2)
    listed = (await ask(serving, "GET", PATH)).json()
    assert listed["metadata"]["resourceVersion"] == str(now - 2)
    assert [(one["metadata"]["name"], one["data"]) for one in listed["items"]] == [("a", {"k": "old"})]
    assert (await ask(serving, "GET", PATH + "/a")).json()["data"] == {"k": "old"}
    assert (await ask(serving, "GET", PATH + "/b")).status == 404
    not_older = (await ask(serving, "GET", f"{PATH}?resourceVersion={now}")).json()
    assert len(not_older["items"]) == 2
    faults.clear()
    assert (await ask(serving, "GET", PATH + "/a")).json()["data"] == {"k": "new"}


async def test_a_stale_list_pages_at_its_own_revision(
    serving: Serving, faults: Faults, remote: Client
) -> None:
    for name in "abcd":
        await remote.create(CONFIG_MAPS, configmap(name), "default")
    faults.add("stale", revisions=1)
    page = (await ask(serving, "GET", PATH + "?limit=2")).json()
    token = page["metadata"]["continue"]
    rest = (await ask(serving, "GET", f"{PATH}?limit=2&continue={token}")).json()
    assert [one["metadata"]["name"] for one in page["items"] + rest["items"]] == ["a", "b", "c"]


async def test_reads_can_be_stale_by_seconds(serving: Serving, faults: Faults, remote: Client) -> None:
    await remote.create(CONFIG_MAPS, configmap("a"), "default")
    long, short = faults.add("stale", age=3600.0, verbs=["list"]), faults.add("stale", age=0.1, verbs=["get"])
    await remote.create(CONFIG_MAPS, configmap("b"), "default")
    assert len((await ask(serving, "GET", PATH)).json()["items"]) == 1
    async with asyncio.timeout(LIMIT):
        while (await ask(serving, "GET", PATH + "/b")).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert faults.get(short.id).struck
    faults.remove(long.id)
    assert len((await ask(serving, "GET", PATH)).json()["items"]) == 2


# Connections


async def test_a_refused_connection_is_refused_by_the_kernel_and_the_port_is_kept(
    serving: Serving, faults: Faults, remote: Client
) -> None:
    await remote.list(CONFIG_MAPS, "default")
    fault = faults.add("refuse")
    with pytest.raises(ConnectionRefusedError):
        await ask(serving, "GET", PATH)
    assert (await remote.list(CONFIG_MAPS, "default")).items == []  # over the connection that it has
    faults.remove(fault.id)
    assert (await ask(serving, "GET", PATH)).status == 200


async def test_connections_are_reset_or_closed_at_once_so_many_times(
    serving: Serving, faults: Faults
) -> None:
    reset = faults.add("refuse", count=2)
    assert [(await ask(serving, "GET", PATH)).end for _ in range(3)] == ["reset", "reset", "eof"]
    assert faults.get(reset.id).state == "spent"
    faults.add("refuse", how="closed")
    closed = await ask(serving, "GET", PATH)
    assert closed.head == ""


async def test_open_connections_can_be_reset_too(serving: Serving, faults: Faults, remote: Client) -> None:
    watching = asyncio.create_task(events(remote))
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: l\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    faults.add("refuse", existing=True)
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(LIMIT):
            await reader.read()
    with pytest.raises((StreamBroken, Unreachable)):
        await watching
    writer.close()


async def test_a_partition_silences_open_watches_and_new_connections_and_all_go_on_after_it(
    serving: Serving, faults: Faults, local: Client, remote: Client
) -> None:
    watching = remote.watch(CONFIG_MAPS, "default")
    await local.create(CONFIG_MAPS, configmap("before"), "default")
    async with asyncio.timeout(LIMIT):
        while (await anext(watching)).type != "BOOKMARK":
            pass
    fault = faults.add("partition")
    following = asyncio.ensure_future(anext(watching))
    new = asyncio.create_task(ask(serving, "GET", PATH))
    await local.create(CONFIG_MAPS, configmap("meanwhile"), "default")
    done, _ = await asyncio.wait([following, new], timeout=0.3)
    assert not done
    faults.remove(fault.id)
    async with asyncio.timeout(LIMIT):
        assert (await following).object["metadata"]["name"] == "meanwhile"
        assert len((await new).json()["items"]) == 2
    await watching.aclose()


# WebSockets


async def test_exec_can_be_refused_delayed_and_torn(
    serving: Serving, faults: Faults, remote: Client, node: FakeNode
) -> None:
    async def said() -> bytes:
        async with asyncio.timeout(LIMIT), remote.exec("p", "default", ["say", "hello"]) as session:
            return await _output(session)

    faults.add("status", subresources=["exec"], code=503, count=1)
    with pytest.raises(Exception, match="unable to handle"):
        await said()
    faults.add("delay", subresources=["exec"], delay=0.05, count=1)
    assert await said() == b"hello\n"
    faults.add("reset", subresources=["exec"], bytes=1)
    with pytest.raises((StreamBroken, Unreachable)):
        await said()


async def test_an_upgrade_to_spdy_is_struck_as_a_websocket_is(
    serving: Serving, faults: Faults, node: FakeNode
) -> None:
    async def upgrade() -> tuple[bytes, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(
            b"POST /api/v1/namespaces/default/pods/p/exec?command=say&command=hello&stdout=1 HTTP/1.1\r\nHost: l\r\n"
            b"Authorization: Bearer admin-token\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
        )
        try:
            async with asyncio.timeout(LIMIT):
                return await reader.readline(), "answered"
        except ConnectionResetError:
            return b"", "reset"
        finally:
            writer.close()

    faults.add("status", code=503, subresources=["exec"], count=1)
    assert await upgrade() == (b"HTTP/1.1 503 Service Unavailable\r\n", "answered")
    faults.add("reset", applied=False, verbs=["create"], subresources=["exec"], count=1)
    assert await upgrade() == (b"", "reset")
    assert await upgrade() == (b"HTTP/1.1 101 Switching Protocols\r\n", "answered")


async def _output(session: ExecSession) -> bytes:
    found = b""
    async for chunk in session.output():
        found += chunk[1]
    return found


# Whom they strike


async def test_faults_strike_only_the_requests_that_they_are_about(serving: Serving, faults: Faults) -> None:
    faults.add("status", code=500, resources=["Deployment"], verbs=["list"])
    faults.add("status", code=501, user_agents=["helm"])
    faults.add("status", code=502, users=["nobody"])
    faults.add("status", code=503, namespaces=["team-*"], names=["a"])
    faults.add("status", code=504, paths=["/livez*"])
    faults.add("status", code=505, subresources=["status"], groups=["apps"])
    faults.add("status", code=506, resources=["secrets"], groups=["core"])

    async def code(path: str, **options: str) -> int:
        return (await ask(serving, "GET", path, **options)).status

    assert await code("/apis/apps/v1/deployments") == 500
    assert await code("/apis/apps/v1/namespaces/x/deployments/d") == 404
    assert await code(PATH, agent="helm/v3") == 501
    assert await code(PATH, token="nobody-token") == 502
    assert await code("/api/v1/namespaces/team-a/configmaps/a") == 503
    assert await code("/api/v1/namespaces/team-a/configmaps?fieldSelector=metadata.name%3Da") == 503
    assert await code("/api/v1/namespaces/team-a/configmaps/b") == 404
    assert await code("/livez") == 504
    assert await code("/apis/apps/v1/namespaces/x/deployments/d/status") == 505
    assert await code("/api/v1/namespaces/x/pods/p/status") == 404
    assert await code("/api/v1/secrets") == 506
    assert await code(PATH) == 200


async def test_clients_inside_the_process_and_kubesim_itself_are_spared(
    serving: Serving, faults: Faults, local: Client
) -> None:
    faults.add("status", code=500)
    assert (await ask(serving, "GET", PATH, agent="kubesim")).status == 200
    assert (await local.list(CONFIG_MAPS, "default")).items == []
    assert (await ask(serving, "GET", PATH)).status == 500


async def test_the_same_requests_get_the_same_faults_twice(serving: Serving, faults: Faults) -> None:
    async def codes(seed: int) -> list[int]:
        with faults.inject("status", code=500, probability=0.5, seed=seed):
            return [(await ask(serving, "GET", PATH)).status for _ in range(24)]

    first = await codes(7)
    assert set(first) == {200, 500}
    assert await codes(7) == first
    assert await codes(8) != first


async def test_a_fault_ends_after_its_time(serving: Serving, faults: Faults, api: ApiServer) -> None:
    fault = faults.add("hang", seconds=0.1)
    assert (await ask(serving, "GET", PATH)).status == 200
    assert faults.get(fault.id).state == "over"
    assert faults.get(fault.id).struck == 1
    assert api.faults is None


async def test_of_two_faults_that_decide_the_end_the_first_one_does(serving: Serving, faults: Faults) -> None:
    first, second = faults.add("status", code=500, count=1), faults.add("status", code=503)
    assert [(await ask(serving, "GET", PATH)).status for _ in range(2)] == [500, 503]
    assert [faults.get(one.id).struck for one in (first, second)] == [1, 1]


async def test_a_preset_is_set_and_removed_as_one(serving: Serving, faults: Faults) -> None:
    added = faults.preset("apiserver-overloaded", seed=3)
    assert [one.kind for one in added] == ["delay", "status"]
    assert {one.spec.preset for one in faults.list()} == {"apiserver-overloaded"}
    faults.remove("apiserver-overloaded")
    assert faults.list() == []
    with faults.inject("captive-portal"):
        assert b"Sign in" in (await ask(serving, "GET", PATH)).body
    assert faults.list() == []


async def test_an_informer_lives_through_churning_watches(
    faults: Faults, remote: Client, local: Client
) -> None:
    faults.preset("watch-churn")
    watching = remote.watch(PODS, "default")
    names: set[str] = set()
    for number in range(12):
        spec = {"containers": [{"name": "c", "image": "i"}]}
        await local.create(PODS, {"metadata": {"name": f"p{number}"}, "spec": spec}, "default")
    try:
        async with asyncio.timeout(LIMIT):
            while len(names) < 12:
                try:
                    async for event in watching:
                        if event.type == "ADDED":
                            names.add(event.object["metadata"]["name"])
                        if len(names) == 12:
                            break
                except Gone:
                    watching = remote.watch(PODS, "default")
    finally:
        await watching.aclose()
    assert len(names) == 12
