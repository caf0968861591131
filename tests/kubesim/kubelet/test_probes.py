"""Probes: how results are counted, what each handler finds and says, and what follows for the pod."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from kubesim.cluster import pki
from kubesim.kubelet import handlers, probes
from kubesim.kubelet.containers import Health
from kubesim.kubelet.handlers import Target
from kubesim.kubelet.probes import Outcome, Probe, Result, Tally
from kubesim.kubelet.probing import Prober

from .conftest import DEADLINE, Box, eventually
from .nodecluster import NodeCluster, Pod, main_state, node_cluster

pytestmark = pytest.mark.anyio

GOOD, BAD, UNKNOWN = Outcome.SUCCESS, Outcome.FAILURE, Outcome.UNKNOWN


@pytest.fixture
async def cluster(root: Path) -> AsyncIterator[NodeCluster]:
    async with node_cluster(root) as made:
        yield made


# --- counting ---


@pytest.mark.parametrize(
    ("results", "verdicts"),
    [
        ([GOOD], [True]),
        ([BAD, BAD, BAD], [None, None, False]),
        ([BAD, BAD, GOOD, BAD, BAD, BAD], [None, None, True, None, None, False]),
        ([BAD, UNKNOWN, BAD, UNKNOWN, BAD], [None, None, None, None, False]),
        ([Outcome.WARNING], [True]),
    ],
)
def test_a_verdict_needs_its_threshold_of_results_in_a_row(
    results: list[Outcome], verdicts: list[bool | None]
) -> None:
    tally = Tally(Probe(kind="readiness", handler={}))
    assert [tally.take(one) for one in results] == verdicts


def test_readiness_may_need_several_successes() -> None:
    tally = Tally(Probe(kind="readiness", handler={}, successes=2))
    assert [tally.take(one) for one in (GOOD, BAD, GOOD, GOOD)] == [None, None, None, True]


def test_a_probe_has_the_defaults_of_kubernetes() -> None:
    read = probes.read({"livenessProbe": {"exec": {"command": ["true"]}}}, "liveness")
    assert read is not None
    assert (read.initial_delay, read.period, read.timeout, read.successes, read.failures, read.grace) == (
        *(0, 10, 1, 1, 3),
        None,
    )


class Script:
    """Results that are ready, in a time that passes only when somebody sleeps."""

    def __init__(self, **results: list[Result]) -> None:
        self.now = 1000.0
        self.results = results
        self.performed: list[tuple[float, str]] = []
        self.events: list[tuple[str, str]] = []
        self.exhausted = asyncio.Event()

    async def perform(self, handler: dict[str, Any], target: Target, timeout: float) -> Result:
        kind = handler["kind"]
        if not self.results[kind]:
            self.exhausted.set()
            await asyncio.Event().wait()
        self.performed.append((self.now - 1000, kind))
        return self.results[kind].pop(0)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def play(self, health: Health, *found: Probe) -> Prober:
        """Probe until there are no results left, or the container is given up."""
        prober = Prober(
            Target(directory=Path("/nowhere"), container={"name": "c"}, pod_ip=""),
            list(found),
            health,
            started_at=self.now,
            changed=lambda: None,
            complain=lambda reason, message: self.events.append((reason, message)),
            perform=self.perform,
            clock=lambda: self.now,
            sleep=self.sleep,
        )
        ends = [asyncio.ensure_future(prober.run()), asyncio.ensure_future(self.exhausted.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        return prober


def fake(kind: str, **options: Any) -> Probe:
    return Probe(kind=kind, handler={"kind": kind}, **options)


async def test_probing_begins_after_the_initial_delay_and_goes_on_at_its_period() -> None:
    script = Script(readiness=[Result(BAD, "no"), Result(GOOD), Result(BAD)])
    prober = await script.play(
        Health(ready=False), fake("readiness", initial_delay=5.0, period=7.0, failures=1)
    )
    assert [at for at, _ in script.performed] == [5, 12, 19]
    assert not prober.health.ready


async def test_the_other_probes_wait_for_the_success_of_the_startup_probe() -> None:
    script = Script(
        startup=[Result(BAD, "not yet"), Result(GOOD)], liveness=[Result(GOOD)] * 3, readiness=[Result(GOOD)]
    )
    prober = await script.play(
        Health(started=False, ready=False),
        fake("startup"),
        fake("liveness"),
        fake("readiness", period=1000.0),
    )
    assert [kind for _, kind in script.performed[:2]] == ["startup", "startup"]
    assert prober.health == Health()
    assert script.events == [("Unhealthy", "Startup probe failed: not yet")]


async def test_a_liveness_probe_that_fails_often_enough_gives_the_container_up_and_is_not_repeated() -> None:
    script = Script(liveness=[Result(BAD, "dead")] * 4)
    prober = await script.play(Health(), fake("liveness"))
    assert prober.health.failed == "liveness"
    assert len(script.performed) == 3
    assert script.events == [("Unhealthy", "Liveness probe failed: dead")] * 3


async def test_a_probe_that_cannot_be_performed_is_repeated_and_then_counts_for_nothing() -> None:
    script = Script(liveness=[Result(UNKNOWN, "no such program")] * 9)
    prober = await script.play(Health(), fake("liveness", failures=1))
    assert prober.health == Health()
    message = "Liveness probe errored and resulted in unknown state: no such program"
    assert script.events == [("Unhealthy", message)] * 3
    assert [at for at, _ in script.performed] == [0, 0, 0, 10, 10, 10, 20, 20, 20]


# --- handlers ---


class Http:
    """A server that answers with what it was given, and keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answers.pop(0) if self.answers else b"")
            await writer.drain()


@contextlib.asynccontextmanager
async def serving(handler: Callable[..., Any], tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.append(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if served:
            await asyncio.wait(served, timeout=DEADLINE)


def target(**container: Any) -> Target:
    return Target(directory=Path("/nowhere"), container={"name": "c", **container}, pod_ip="127.0.0.1")


async def test_a_get_takes_a_named_port_headers_and_any_status_below_400() -> None:
    http = Http(b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    async with serving(http.serve) as port:
        action = {
            "port": "web",
            "path": "/healthz?deep=1",
            "httpHeaders": [{"name": "X-Who", "value": "me"}, {"name": "Host", "value": "app.example"}],
        }
        where = target(ports=[{"name": "web", "containerPort": port}])
        assert (await handlers.probe({"httpGet": action}, where, 5)).outcome is GOOD
        assert await handlers.probe({"httpGet": action}, where, 5) == Result(
            BAD, "HTTP probe failed with statuscode: 503"
        )
    head, *headers = http.asked[0].splitlines()
    assert head == "GET /healthz?deep=1 HTTP/1.1"
    assert {"X-Who: me", "Host: app.example", "User-Agent: kube-probe/1.36"} <= set(headers)


async def test_a_redirect_is_followed_on_the_same_host_only() -> None:
    http = Http(
        b"HTTP/1.1 302 Found\r\nLocation: /next\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\n\r\nbye",
    )
    async with serving(http.serve) as port:
        action = {"httpGet": {"port": port, "path": "/"}}
        assert (await handlers.probe(action, target(), 5)).output.endswith("statuscode: 500")
        assert await handlers.probe(action, target(), 5) == Result(
            Outcome.WARNING, "Probe terminated redirects, Response body: bye"
        )


async def test_https_is_asked_without_checking_the_certificate(tmp_path: Path) -> None:
    files = pki.PkiFiles(tmp_path / "pki")
    pki.make(files, "c")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server_cert, files.server_key)
    http = Http(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    async with serving(http.serve, context) as port:
        action = {"httpGet": {"port": port, "scheme": "HTTPS"}}
        assert await handlers.probe(action, target(), 5) == Result(GOOD, "ok")


async def test_what_does_not_answer_is_told_in_the_words_of_the_real_kubelet() -> None:
    async with serving(Http().serve) as port:
        pass  # closed again: nobody listens there
    get, connect = {"httpGet": {"port": port, "path": "/x"}}, {"tcpSocket": {"port": port}}
    refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert await handlers.probe(get, target(), 5) == Result(
        BAD, f'Get "http://127.0.0.1:{port}/x": {refused}'
    )
    assert await handlers.probe(connect, target(), 5) == Result(BAD, refused)
    missing = await handlers.probe({"tcpSocket": {"port": "web"}}, target(), 5)
    assert missing == Result(UNKNOWN, "couldn't find port: web in container c")


async def test_a_silent_server_fails_a_get_and_passes_a_connection() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(say_nothing) as port:
        result = await handlers.probe({"httpGet": {"port": port}}, target(), 0.05)
        assert result.outcome is BAD
        assert "context deadline exceeded (Client.Timeout exceeded while awaiting headers)" in result.output
        assert (await handlers.probe({"tcpSocket": {"port": port}}, target(), 5)).outcome is GOOD


async def test_a_command_is_run_in_the_container_and_ended_at_its_timeout(box: Box, root: Path) -> None:
    directory = await box.start("main", "sleep", "1000")
    where = Target(directory=directory, container={"name": "c"}, pod_ip="")

    def run(*command: str, timeout: float = 10) -> Any:
        return handlers.probe({"exec": {"command": list(command)}}, where, timeout)

    assert await run("sh", "-c", "echo fine; pwd") == Result(GOOD, f"fine\n{root}\n")
    assert await run("sh", "-c", "echo no >&2; exit 3") == Result(BAD, "no\n")
    assert await run("sh", "-c", "echo $$ > pid; exec sleep 1000", timeout=0.3) == Result(
        BAD, 'command timed out: "sh -c echo $$ > pid; exec sleep 1000" timed out after 0.3s'
    )
    pid = (root / "pid").read_text().strip()
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), "the command is ended")
    missing = await run("nonesuch")
    assert missing.outcome is UNKNOWN
    assert 'exec: "nonesuch": executable file not found in $PATH' in missing.output


class Health2:
    """A gRPC health service on the HTTP/2 of a well-known library."""

    def __init__(self, *, data: bytes | None, trailers: list[tuple[str, str]]) -> None:
        self.data = data
        self.trailers = trailers
        self.headers: dict[str, str] = {}
        self.body = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        connection.ping(b"12345678")
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.headers = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, h2.events.DataReceived):
                    self.body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    self.answer(connection, event.stream_id)
            writer.write(connection.data_to_send())

    def answer(self, connection: h2.connection.H2Connection, stream: int) -> None:
        head = [(":status", "200"), ("content-type", "application/grpc")]
        if self.data is None:
            connection.send_headers(stream, [*head, *self.trailers], end_stream=True)
            return
        connection.send_headers(stream, head)
        connection.send_data(stream, len(self.data).to_bytes(5) + self.data, pad_length=3)
        connection.send_headers(stream, self.trailers, end_stream=True)


OK = [("grpc-status", "0")]


async def test_a_grpc_server_is_asked_for_the_health_of_a_service() -> None:
    server = Health2(data=b"\x08\x01", trailers=OK)
    async with serving(server.serve) as port:
        action = {"grpc": {"port": port, "service": "inference"}}
        assert await handlers.probe(action, target(), 5) == Result(GOOD, "service healthy")
    assert server.headers[":path"] == "/grpc.health.v1.Health/Check"
    assert server.headers["content-type"] == "application/grpc"
    assert server.body == b"\0\0\0\0\x0b\x0a\x09inference"


@pytest.mark.parametrize(
    ("data", "trailers", "words"),
    [
        (b"\x08\x02", OK, 'service unhealthy (responded with "NOT_SERVING")'),
        (b"", OK, 'service unhealthy (responded with "UNKNOWN")'),
        (None, [("grpc-status", "12")], "it may not implement the grpc health protocol"),
    ],
)
async def test_a_grpc_server_that_does_not_serve_fails_the_probe(
    data: bytes | None, trailers: list[tuple[str, str]], words: str
) -> None:
    async with serving(Health2(data=data, trailers=trailers).serve) as port:
        result = await handlers.probe({"grpc": {"port": port, "service": ""}}, target(), 5)
    assert result.outcome is BAD
    assert words in result.output


async def test_what_speaks_no_grpc_fails_the_probe_within_its_timeout() -> None:
    async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()

    async with serving(chat) as port:
        result = await handlers.probe({"grpc": {"port": port}}, target(), 0.2)
    assert result.outcome is BAD
    refused = await handlers.probe({"grpc": {"port": port}}, target(), 1)
    assert "connection refused" in refused.output


# --- pods ---


def exec_probe(*command: str, **options: Any) -> dict[str, Any]:
    return {"exec": {"command": list(command)}, "periodSeconds": 1, "timeoutSeconds": 5, **options}


def conditions(pod: Pod) -> dict[str, str]:
    return {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}


def only_status(pod: Pod) -> dict[str, Any]:
    (status,) = pod["status"].get("containerStatuses") or [{}]
    return dict(status)


async def test_a_pod_is_ready_when_its_readiness_probe_says_so(cluster: NodeCluster) -> None:
    container = {"readinessProbe": exec_probe("cat", "ready")}
    await cluster.create("p", container=container)
    pod = await cluster.until_phase("p", "Running")
    assert (only_status(pod)["started"], only_status(pod)["ready"]) == (True, False)
    ready = next(one for one in pod["status"]["conditions"] if one["type"] == "Ready")
    assert (ready["reason"], ready["message"]) == (
        "ContainersNotReady",
        "containers with unready status: [main]",
    )
    await cluster.until(lambda: cluster.events("Unhealthy"), "the failure is told")
    (message,) = await cluster.events("Unhealthy")
    assert message == "Readiness probe failed: cat: ready: No such file or directory\n"
    assert await cluster.run("p", "touch", "ready") == (0, "")
    await cluster.until_pod("p", lambda pod: conditions(pod)["Ready"] == "True", "the pod is ready")
    await cluster.stop_kubelet()
    await cluster.start_kubelet()
    await cluster.create("later", "exit 0")
    await cluster.until_phase("later", "Succeeded")
    assert conditions(await cluster.get("p"))["Ready"] == "True", "a restart of the kubelet is no news"


async def test_a_container_that_fails_its_liveness_probe_is_restarted_and_says_why(
    cluster: NodeCluster,
) -> None:
    alive = exec_probe("test", "-e", "alive", failureThreshold=1, terminationGracePeriodSeconds=7)
    script = "trap 'exit 5' TERM; touch alive; while :; do sleep 0.05; done"
    up = exec_probe("test", "-e", "alive", failureThreshold=100)
    await cluster.create(
        "p",
        script,
        container={"startupProbe": up, "livenessProbe": alive},
        restartPolicy="Always",
    )
    await cluster.until_pod("p", lambda pod: only_status(pod).get("ready"), "it is ready")
    assert await cluster.run("p", "rm", "alive") == (0, "")
    pod = await cluster.until_pod(
        "p",
        lambda pod: only_status(pod)["restartCount"] == 1 and "running" in main_state(pod),
        "it is restarted",
    )
    assert only_status(pod)["lastState"]["terminated"]["exitCode"] == 5
    assert await cluster.events("Killing") == ["Container main failed liveness probe, will be restarted"]
    assert "Liveness probe failed: " in await cluster.events("Unhealthy")


async def test_a_container_that_never_starts_up_is_ended_and_without_restarts_the_pod_fails(
    cluster: NodeCluster,
) -> None:
    await cluster.create("p", container={"startupProbe": exec_probe("false", failureThreshold=1)})
    pod = await cluster.until_phase("p", "Failed")
    assert main_state(pod)["terminated"]["exitCode"] == 143
    await cluster.until(lambda: cluster.events("Killing"), "the end is told")
    assert await cluster.events("Killing") == ["Container main failed startup probe"]


async def test_a_sidecar_is_up_before_what_follows_it_starts_and_counts_for_readiness(
    cluster: NodeCluster,
) -> None:
    side = {
        "name": "side",
        "image": "i",
        "command": ["sleep", "1000"],
        "restartPolicy": "Always",
        "startupProbe": exec_probe("test", "-e", "up", failureThreshold=100),
    }
    created = await cluster.create("p", initContainers=[side], restartPolicy="Always")
    pod = await cluster.until_pod(
        "p",
        lambda pod: (pod["status"].get("initContainerStatuses") or [{}])[0].get("state", {}).get("running"),
        "the sidecar runs",
    )
    assert pod["status"]["initContainerStatuses"][0]["started"] is False
    assert main_state(pod) == {"waiting": {"reason": "PodInitializing"}}
    initialized = next(one for one in pod["status"]["conditions"] if one["type"] == "Initialized")
    assert initialized["message"] == "containers with incomplete status: [side]"
    (cluster.folder(created) / "containers" / "side" / "0" / "home" / "up").touch()
    await cluster.until_pod("p", lambda pod: conditions(pod)["Ready"] == "True", "the pod is ready")
