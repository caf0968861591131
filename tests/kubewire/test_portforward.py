"""Port-forward over a WebSocket."""

from collections.abc import Callable

import pytest

from kubewire.client import Client
from kubewire.errors import StreamBroken
from kubewire.portforward import PROTOCOLS, Frames, frames
from kubewire.testing import Process, stream_server

pytestmark = pytest.mark.anyio

Make = Callable[..., Client]

PORT = (8080).to_bytes(2, "little")


async def test_bytes_go_to_the_port_and_come_back(client_for: Make) -> None:
    async def far_end(process: Process) -> None:
        assert process.path == "/api/v1/namespaces/default/pods/p/portforward"
        assert process.query == [("ports", "8080")]
        await process.send(b"\x00" + PORT)
        await process.send(b"\x01" + PORT)
        for _ in range(2):
            message = await process.receive()
            await process.send(b"\x00" + message[1:].upper())

    async with (
        stream_server(far_end, protocols=PROTOCOLS) as url,
        client_for(url).port_forward("p", "default", 8080) as stream,
    ):
        await stream.write(b"ping")
        assert await stream.read() == b"PING"
        await stream.write(b"pong")
        assert await stream.read() == b"PONG"
        assert await stream.read() == b""


async def test_a_port_on_which_nobody_listens_is_an_error_in_words(client_for: Make) -> None:
    async def far_end(process: Process) -> None:
        await process.send(b"\x00" + PORT)
        await process.send(b"\x01" + PORT)
        await process.send(b"\x01connection refused\n")

    async with (
        stream_server(far_end, protocols=PROTOCOLS) as url,
        client_for(url).port_forward("p", "default", 8080) as stream,
    ):
        with pytest.raises(StreamBroken, match=r"connection refused$"):
            await stream.read()


def test_the_first_message_of_each_stream_is_the_port() -> None:
    reading = Frames(8080)
    assert reading.feed(b"") == b""
    assert reading.feed(b"\x00" + PORT) == b""
    assert reading.feed(b"\x01" + PORT) == b""
    assert reading.feed(b"\x00data") == b"data"
    with pytest.raises(StreamBroken, match="confirm the port"):
        Frames(8080).feed(b"\x00\x01\x00")
    with pytest.raises(StreamBroken, match="stream 7"):
        Frames(8080).feed(b"\x07x")


def test_data_goes_out_on_the_data_stream() -> None:
    assert list(frames(b"ab")) == [b"\x00ab"]
