"""logs, exec, attach and port forwarding: what the kubelet offers reaches the client, and its refusals
too."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from kubesim.apiserver.app import ApiServer
from kubewire.client import Client
from kubewire.errors import ApiError, BadRequest, NotFound
from kubewire.resources import PODS

from .conftest import FakeNode, pod

pytestmark = pytest.mark.anyio


async def logs(client: Client, **options: object) -> bytes:
    return b"".join([chunk async for chunk in client.logs("p", "default", **options)])  # type: ignore[arg-type]


async def test_logs_come_from_the_kubelet_with_the_options_of_the_client(
    client: Client, node: FakeNode
) -> None:
    assert await logs(client, tail_lines=5, timestamps=True) == b"line 1\nline 2\n"
    assert node.log_requests[0].tail_lines == 5
    assert node.log_requests[0].timestamps


async def test_following_a_log_ends_with_the_client(client: Client, node: FakeNode) -> None:
    stream = client.logs("p", "default", follow=True)
    async with asyncio.timeout(5):
        seen = b""
        while seen != b"line 1\nline 2\n":
            seen += await anext(stream)
        await stream.aclose()
        await node.follow_ended.wait()


async def test_the_kubelets_refusal_is_an_error_of_the_api(client: Client, node: FakeNode) -> None:
    with pytest.raises(BadRequest, match="previous terminated container"):
        await logs(client, previous=True)


async def test_a_pod_whose_node_has_no_kubelet_answers_500(client: Client, api: ApiServer) -> None:
    await client.create(PODS, pod("p", nodeName="elsewhere"), "default")
    with pytest.raises(ApiError, match="no such host") as caught:
        await logs(client)
    assert caught.value.code == 500


async def test_logs_of_what_is_not_there(client: Client, node: FakeNode) -> None:
    with pytest.raises(BadRequest, match="container none is not valid for pod p"):
        await logs(client, container="none")
    with pytest.raises(NotFound):
        await anext(client.logs("none", "default"))


async def test_a_command_gets_stdin_and_gives_stdout_and_its_exit_code(
    client: Client, node: FakeNode
) -> None:
    async with (
        asyncio.timeout(10),
        client.exec("p", "default", ["cat"], stdin=True) as session,
        asyncio.TaskGroup() as group,
    ):
        data = bytes(range(256)) * 4000

        async def write() -> None:
            await session.write(data)
            await session.close_stdin()

        group.create_task(write())
        received = b"".join([chunk async for channel, chunk in session.output() if channel == 1])
        assert received == data
        assert await session.exit_code() == 0


async def test_a_failing_command_says_how(client: Client, node: FakeNode) -> None:
    async with asyncio.timeout(10), client.exec("p", "default", ["fail", "7"]) as session:
        output = [(channel, chunk) async for channel, chunk in session.output()]
        assert output == [(2, b"failing\n")]
        assert await session.exit_code() == 7


async def test_a_terminal_can_be_resized(client: Client, node: FakeNode) -> None:
    async with asyncio.timeout(10), client.exec("p", "default", ["cat"], stdin=True, tty=True) as session:
        await session.resize(80, 24)
        await session.write(b"x")
        await session.close_stdin()
        assert [chunk async for _, chunk in session.output()] == [b"x"]
    assert node.processes[0].sizes == [(80, 24)]


async def test_a_command_is_released_when_its_client_goes_away(client: Client, node: FakeNode) -> None:
    async with asyncio.timeout(10):
        async with client.exec("p", "default", ["wait"]):
            await node.started.wait()
        await node.processes[0].closed.wait()


async def test_exec_and_attach_are_refused_before_they_are_open(client: Client, node: FakeNode) -> None:
    with pytest.raises(BadRequest, match="is not running"):
        async with client.exec("p", "default", ["missing"]):
            pytest.fail("it was refused")
    await client.create(PODS, pod("q"), "default")
    with pytest.raises(BadRequest, match="does not have a host assigned"):
        async with client.exec("q", "default", ["cat"]):
            pytest.fail("it has no node")


async def test_attach_shows_the_main_process(client: Client, node: FakeNode) -> None:
    async with asyncio.timeout(10), client.attach("p", "default") as session:
        assert [chunk async for _, chunk in session.output()] == [b"attached\n"]


async def test_a_port_of_a_pod_can_be_reached(client: Client, node: FakeNode) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(10), server, client.port_forward("p", "default", port) as stream:
        await stream.write(b"hello")
        received = await stream.read()
    assert received == b"HELLO"


async def test_draining_ends_a_command(client: Client, api: ApiServer, node: FakeNode) -> None:
    async with asyncio.timeout(10), client.exec("p", "default", ["wait"]) as session:
        await node.started.wait()
        api.drain()
        await node.processes[0].closed.wait()
        with contextlib.suppress(Exception):
            async for _ in session.output():
                pytest.fail("nothing was written")
