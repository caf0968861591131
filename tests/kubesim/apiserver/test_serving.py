"""The server on a port: who may come in, how it ends, and what a crash leaves."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.serve import Serving, TlsFiles, serve
from kubewire.client import Client
from kubewire.connection import Connection
from kubewire.errors import Forbidden, Unauthorized, Unreachable
from kubewire.http import HttpTransport
from kubewire.requests import Request
from kubewire.resources import CONFIG_MAPS, PODS, Resource
from kubewire.testing import Authority, Issued

from .conftest import FakeNode, configmap, plain

pytestmark = pytest.mark.anyio

WHO_AM_I = Resource(
    "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False
)


def tls_files(authority: Authority, directory: Path) -> TlsFiles:
    server = authority.server("127.0.0.1")
    for name, content in (("crt", server.certificate), ("key", server.key), ("ca", authority.certificate)):
        (directory / name).write_bytes(content)
    return TlsFiles(certificate=directory / "crt", key=directory / "key", client_ca=directory / "ca")


def client_of(serving: Serving, authority: Authority, issued: Issued | None) -> Client:
    return Client(
        HttpTransport(
            Connection(
                server=f"https://127.0.0.1:{serving.port}",
                ca_data=authority.certificate,
                certificate_data=issued.certificate if issued else None,
                key_data=issued.key if issued else None,
            )
        )
    )


async def test_the_client_certificate_says_who_one_is(api: ApiServer, tmp_path: Path) -> None:
    authority = Authority()
    serving = await serve(api, tls=tls_files(authority, tmp_path))
    async with client_of(serving, authority, authority.client("ann", "system:masters", "dev")) as ann:
        info = (await ann.create(WHO_AM_I, {}))["status"]["userInfo"]
        assert info["username"] == "ann"
        assert set(info["groups"]) == {"system:masters", "dev", "system:authenticated"}
    async with client_of(serving, authority, authority.client("bob")) as bob:
        assert (await bob.version())["major"] == "1"
        with pytest.raises(Forbidden, match='User "bob" cannot list resource "pods" in API group ""'):
            await bob.list(PODS, "default")
    async with client_of(serving, authority, None) as stranger:
        with pytest.raises(Forbidden, match='User "system:anonymous" cannot list'):
            await stranger.list(PODS, "default")
    stranger_authority = Authority("somebody else")
    async with client_of(serving, authority, stranger_authority.client("eve", "system:masters")) as eve:
        with pytest.raises((Unreachable, Unauthorized)):
            await eve.list(PODS, "default")
    await serving.stop()


async def test_a_token_that_nobody_knows_is_401(serving: Serving) -> None:
    async with Client(HttpTransport(plain(serving, "nonsense"))) as client:
        with pytest.raises(Unauthorized):
            await client.list(PODS, "default")
    async with Client(HttpTransport(plain(serving, "nobody-token"))) as client:
        with pytest.raises(Forbidden):
            await client.list(PODS, "default")


async def test_who_may_do_everything_may_do_it_as_somebody_else(serving: Serving) -> None:
    path = "/api/v1/namespaces/default/pods"
    as_account = {"impersonate-user": "system:serviceaccount:default:default"}
    async with Client(HttpTransport(plain(serving))) as admin:
        request = Request(method="GET", path=path, headers=as_account)
        refused = (await admin.transport.send(request, timeout=5)).json()
        assert refused["message"].startswith(
            'pods is forbidden: User "system:serviceaccount:default:default"'
        )
    async with Client(HttpTransport(plain(serving, "nobody-token"))) as nobody:
        request = Request(method="GET", path=path, headers={"impersonate-user": "admin"})
        assert "cannot impersonate" in (await nobody.transport.send(request, timeout=5)).json()["message"]


async def test_without_tls_only_loopback_is_listened_on(api: ApiServer) -> None:
    with pytest.raises(ValueError, match="TLS files are needed"):
        await serve(api, "0.0.0.0")


async def test_stopping_ends_open_streams_and_lets_go_of_the_port(api: ApiServer, node: FakeNode) -> None:
    serving = await serve(api)
    client = Client(HttpTransport(plain(serving)))
    watch = Request(method="GET", path="/api/v1/pods", query=(("watch", "1"),))
    log = client.logs("p", "default", follow=True)
    async with asyncio.timeout(10), client.transport.stream(watch, connect=5, idle=30) as stream:
        chunks = stream.chunks()
        assert b'"ADDED"' in await anext(chunks)
        assert await anext(log)
        started = asyncio.get_running_loop().time()
        await serving.stop()
        assert asyncio.get_running_loop().time() - started < 1.5
        assert [chunk async for chunk in chunks] == []
        assert b"".join([chunk async for chunk in log]) in (b"", b"line 2\n")
    with pytest.raises(Unreachable):
        await client.version()
    await client.aclose()


async def test_large_answers_arrive_whole_plain_and_compressed(serving: Serving, local: Client) -> None:
    big = "x" * 900_000
    for name in "abc":
        await local.create(CONFIG_MAPS, configmap(name, k=big), "default")
    async with Client(HttpTransport(plain(serving))) as client:
        path = "/api/v1/namespaces/default/configmaps"
        for encoding in ("identity", "gzip"):
            request = Request(method="GET", path=path, headers={"accept-encoding": encoding})
            listed = (await client.transport.send(request, timeout=10)).json()
            assert [len(item["data"]["k"]) for item in listed["items"]] == [900_000] * 3


async def test_a_body_above_the_limit_is_413(serving: Serving) -> None:
    async with Client(HttpTransport(plain(serving))) as client:
        path = "/api/v1/namespaces/default/configmaps"
        body = b'{"data":{"k":"' + b"x" * 3_200_000 + b'"}}'
        response = await client.transport.send(Request(method="POST", path=path, body=body), timeout=10)
        assert response.status == 413
        assert response.json()["reason"] == "RequestEntityTooLarge"


async def test_health_follows_the_life_of_the_server(serving: Serving, api: ApiServer) -> None:
    async with Client(HttpTransport(plain(serving))) as client:

        async def status(path: str) -> int:
            return (await client.transport.send(Request(method="GET", path=path), timeout=5)).status

        assert [await status(path) for path in ("/livez", "/readyz", "/healthz/ping")] == [200, 200, 200]
        assert await status("/livez/no-such-check") == 404
        api.drain()
        assert [await status(path) for path in ("/livez", "/readyz")] == [200, 500]


_SERVER = """
import asyncio, sys
from pathlib import Path
from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.auth import Authenticator
from kubesim.apiserver.requests import User
from kubesim.apiserver.serve import serve
from kubesim.store import open_store

async def main():
    admin = User(name="admin", groups=("system:masters",))
    api = ApiServer(open_store("durable", Path(sys.argv[1])), auth=Authenticator({"admin-token": admin}))
    await api.start()
    serving = await serve(api)
    print(serving.port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_what_was_acknowledged_over_http_survives_kill_9(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    newest = identity = None
    for life in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SERVER, str(tmp_path / "store"), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            port = int(await process.stdout.readline())
        async with Client(
            HttpTransport(Connection(server=f"http://127.0.0.1:{port}", token="admin-token"))
        ) as client:
            listed = await client.list(CONFIG_MAPS, "default")
            found = {o["metadata"]["name"]: int(o["metadata"]["resourceVersion"]) for o in listed.items}
            assert acknowledged.items() <= found.items()
            assert newest is None or int(listed.resource_version) >= newest
            namespace = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
            uid = (await client.get(namespace, "kube-system"))["metadata"]["uid"]
            assert identity in (None, uid)
            identity = uid

            async def write(writer: int, client: Client = client, life: int = life) -> None:
                for number in range(1000):
                    created = await client.create(
                        CONFIG_MAPS, configmap(f"c-{life}-{writer}-{number}"), "default"
                    )
                    version = int(created["metadata"]["resourceVersion"])
                    acknowledged[created["metadata"]["name"]] = version
                    if len(acknowledged) >= (life + 1) * 60:
                        return

            writers = [asyncio.ensure_future(write(writer)) for writer in range(4)]
            await asyncio.wait(writers, return_when=asyncio.FIRST_COMPLETED)
            process.send_signal(signal.SIGKILL)
            results = [e for e in await asyncio.gather(*writers, return_exceptions=True) if e is not None]
            assert all(isinstance(result, Unreachable) for result in results)
        await process.wait()
        newest = max(acknowledged.values())


@pytest.mark.parametrize("shape", ["many headers", "one header", "one line"])
async def test_headers_without_an_end_are_refused_before_anybody_has_said_who_they_are(
    serving: Serving, shape: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    start, piece = {
        "many headers": (b"GET / HTTP/1.1\r\n", b"X-Long: " + b"a" * 4000 + b"\r\n"),
        "one header": (b"GET / HTTP/1.1\r\nX-Long: ", b"a" * 4000),
        "one line": (b"GET /", b"a" * 4000),
    }[shape]
    writer.write(start)
    with contextlib.suppress(ConnectionError):  # it is reset when there was more on the way
        async with asyncio.timeout(10):
            for _ in range(2000):
                writer.write(piece)
                await writer.drain()
            assert (await reader.read()).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    writer.transport.abort()
