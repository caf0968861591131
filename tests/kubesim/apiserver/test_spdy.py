"""SPDY/3.1: the frames as such, and the streams of exec, attach and port forwarding after a plain HTTP upgrade.

kubectl itself, in both of its ways, is in `test_kubectl.py`.
"""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from kubesim.apiserver.serve import Serving
from kubesim.apiserver.spdy import frames
from kubesim.apiserver.spdy.dictionary import DICTIONARY
from kubesim.apiserver.spdy.frames import (
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    Ping,
    Reset,
    SpdyError,
    SynReply,
    SynStream,
)

from .conftest import FakeNode

ALL = [
    SynStream(stream=1, headers={"streamtype": "error", "port": "80", "requestid": "0"}),
    SynStream(stream=3, headers={"streamtype": "data", "port": "80", "requestid": "0"}, fin=True),
    SynReply(stream=1, headers={}),
    Data(stream=3, data=bytes(range(256)) * 300),
    Data(stream=3, data=b"", fin=True),
    Ping(id=7),
    Reset(stream=3, status=frames.CANCEL),
    GoAway(last_stream=3),
]


def test_the_dictionary_is_the_one_whose_checksum_stands_in_every_first_header_block() -> None:
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_frames_are_read_as_they_were_written_in_whatever_pieces_they_come(size: int) -> None:
    encoder, decoder = Encoder(), Decoder()
    wire = b"".join(encoder.encode(frame) for frame in ALL)
    pieces = [wire[start : start + size] for start in range(0, len(wire), size)]
    assert [frame for piece in pieces for frame in decoder.feed(piece)] == ALL


def test_the_bytes_are_those_of_the_draft() -> None:
    encoder = Encoder()
    assert encoder.encode(Data(stream=5, data=b"abc", fin=True)).hex() == "0000000501000003616263"
    assert encoder.encode(Ping(id=1)).hex() == "800300060000000400000001"
    assert encoder.encode(Reset(stream=5, status=3)).hex() == "80030003000000080000000500000003"
    opened = encoder.encode(SynStream(stream=1, headers={"A": "b"}))
    assert opened[:4].hex() == "80030001"
    assert struct.unpack(">I", opened[4:8])[0] == len(opened) - 8
    assert opened[18:24].hex() == "78bbe3c6a7c2"  # zlib, with the dictionary
    block = zlib.decompressobj(zdict=DICTIONARY).decompress(opened[18:])
    assert block == b"\0\0\0\1\0\0\0\1a\0\0\0\1b"


def test_headers_that_nobody_wants_are_read_for_the_sake_of_those_that_follow() -> None:
    encoder, decoder = Encoder(), Decoder()
    unwanted = bytearray(encoder.encode(SynReply(stream=1, headers={"one": "1"})))
    unwanted[3] = frames.HEADERS  # the same form
    assert list(decoder.feed(bytes(unwanted))) == []
    wanted = SynStream(stream=3, headers={"one": "2"})
    assert list(decoder.feed(encoder.encode(wanted))) == [wanted]


def test_settings_and_windows_are_read_over() -> None:
    window = struct.pack(">HHIII", 0x8003, frames.WINDOW_UPDATE, 8, 1, 65536)
    settings = struct.pack(">HHII", 0x8003, frames.SETTINGS, 4, 0)
    assert list(Decoder().feed(settings + window + Encoder().encode(Ping(id=1)))) == [Ping(id=1)]


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (bytes.fromhex("8002000100000000"), "version 2"),
        (bytes.fromhex("8003000100ffffff"), "longer than"),
        (bytes.fromhex("800300010000000c") + b"no header zl", "cannot be read"),
        (bytes.fromhex("800300060000000100"), "cannot be read"),
    ],
)
def test_what_is_no_spdy_is_refused(wire: bytes, why: str) -> None:
    with pytest.raises(SpdyError, match=why):
        list(Decoder().feed(wire))


def test_headers_do_not_grow_without_bound() -> None:
    bomb = Encoder().encode(SynStream(stream=1, headers={"a": "x" * 1_000_000}))
    assert len(bomb) < frames.LARGEST_CONTROL
    with pytest.raises(SpdyError, match="headers of more than"):
        list(Decoder().feed(bomb))


# --- over the wire


class Peer:
    """A small client: opens streams, collects what comes for each."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self.head = head
        self.reader = reader
        self._writer = writer
        self._encoder, self._decoder = Encoder(), Decoder()
        self.received: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.frames: list[Frame] = []
        self._next = 1

    def open(self, **headers: str) -> int:
        number, self._next = self._next, self._next + 2
        self.send(SynStream(stream=number, headers=headers))
        return number

    def send(self, frame: Frame) -> None:
        self._writer.write(self._encoder.encode(frame))

    def hang_up(self) -> None:
        self._writer.transport.abort()

    async def until(self, *ended: int) -> None:
        """Read until these streams have ended, or the connection has."""
        while not self.ended.issuperset(ended) and await self.read():
            continue

    async def read(self) -> bool:
        """Take what has come; False at the end of the connection."""
        data = await self.reader.read(65536)
        for frame in self._decoder.feed(data):
            self.frames.append(frame)
            if isinstance(frame, Data):
                self.received[frame.stream] = self.received.get(frame.stream, b"") + frame.data
            if isinstance(frame, Reset) or (isinstance(frame, Data) and frame.fin):
                self.ended.add(frame.stream)
        return bool(data)


@asynccontextmanager
async def upgraded(
    serving: Serving, path: str, protocol: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    lines = {
        "Host": "localhost",
        "Authorization": "Bearer admin-token",
        "Connection": "Upgrade",
        "Upgrade": "SPDY/3.1",
        "X-Stream-Protocol-Version": protocol,
        "Content-Length": "0",
        **(headers or {}),
    }
    request = [
        f"POST /api/v1/namespaces/default/pods/{path} HTTP/1.1",
        *(f"{k}: {v}" for k, v in lines.items()),
    ]
    try:
        async with asyncio.timeout(10):
            writer.write("\r\n".join([*request, "", ""]).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            yield Peer(reader, writer, head.decode())
    finally:
        writer.close()


EXEC = "v4.channel.k8s.io"
FORWARD = "portforward.k8s.io"


@pytest.mark.anyio
async def test_a_command_has_a_stream_for_each_of_its_files(serving: Serving, node: FakeNode) -> None:
    path = "p/exec?command=cat&stdin=true&stdout=true"
    async with upgraded(serving, path, f"v5.channel.k8s.io, {EXEC}") as peer:
        assert peer.head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
        assert f"X-Stream-Protocol-Version: {EXEC}\r\n" in peer.head
        error, stdin, stdout = (peer.open(streamtype=kind) for kind in ("error", "stdin", "stdout"))
        data = bytes(range(256)) * 2000
        peer.send(Data(stream=stdin, data=data))
        peer.send(Data(stream=stdin, data=b"", fin=True))
        await peer.until(error, stdout)
        assert peer.received[stdout] == data
        assert json.loads(peer.received[error])["status"] == "Success"
        await peer.until(0)
        assert peer.frames[-1] == GoAway(last_stream=stdout)


@pytest.mark.anyio
async def test_a_failing_command_says_how_on_its_error_stream(serving: Serving, node: FakeNode) -> None:
    path = "p/exec?command=fail&command=7&stdout=true&stderr=true"
    async with upgraded(serving, path, EXEC) as peer:
        error, stdout, stderr = (peer.open(streamtype=kind) for kind in ("error", "stdout", "stderr"))
        await peer.until(error, stdout, stderr)
        assert peer.received[stderr] == b"failing\n"
        assert json.loads(peer.received[error])["details"]["causes"][0]["message"] == "7"


@pytest.mark.anyio
async def test_sizes_come_on_a_stream_of_their_own(serving: Serving, node: FakeNode) -> None:
    path = "p/exec?command=cat&stdin=true&stdout=true&tty=true"
    async with upgraded(serving, path, EXEC) as peer:
        error, stdin, _, resize = (
            peer.open(streamtype=kind) for kind in ("error", "stdin", "stdout", "resize")
        )
        peer.send(Data(stream=resize, data=b'{"Width":80,"Heig'))
        peer.send(Data(stream=resize, data=b'ht":24}\n{"Width":100,"Height":40}\n'))
        await node.started.wait()
        process = node.processes[0]
        while len(process.sizes) < 2:
            process.resized.clear()
            await process.resized.wait()
        assert process.sizes == [(80, 24), (100, 40)]
        peer.send(Data(stream=stdin, data=b"", fin=True))
        await peer.until(error)


@pytest.mark.anyio
async def test_a_command_is_released_when_its_client_goes_away(serving: Serving, node: FakeNode) -> None:
    async with upgraded(serving, "p/exec?command=wait&stdout=true", EXEC) as peer:
        peer.open(streamtype="error")
        await node.started.wait()
        peer.hang_up()
        await node.processes[0].closed.wait()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "protocol", "status", "message"),
    [
        ("none/exec?command=cat&stdout=true", EXEC, 404, 'pods "none" not found'),
        ("p/exec?command=missing&stdout=true", EXEC, 400, "is not running"),
        ("p/exec?command=cat&stdout=true", "v1.channel.k8s.io", 400, "this server speaks only"),
        ("p/log", EXEC, 400, "cannot be opened"),
    ],
)
async def test_a_refusal_is_an_ordinary_answer(
    serving: Serving, node: FakeNode, path: str, protocol: str, status: int, message: str
) -> None:
    async with upgraded(serving, path, protocol) as peer:
        assert peer.head.startswith(f"HTTP/1.1 {status} ")
        assert message in json.loads(await peer.reader.read())["message"]


@pytest.mark.anyio
async def test_nobody_gets_in_without_a_name(serving: Serving, node: FakeNode) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    async with upgraded(serving, "p/exec?command=cat&stdout=true", EXEC, wrong) as peer:
        assert peer.head.startswith("HTTP/1.1 401 ")


@asynccontextmanager
async def upper() -> AsyncIterator[int]:
    """A server that answers in capitals when its client has said everything; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.read()
        writer.write(said.upper())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.anyio
async def test_many_connections_share_one_forwarding_and_what_the_client_says_may_end_first(
    serving: Serving, node: FakeNode
) -> None:
    async with upper() as port, upgraded(serving, "p/portforward", FORWARD) as peer:
        pairs = []
        for number in range(5):
            about = {"port": str(port), "requestid": str(number)}
            pairs.append((peer.open(streamtype="error", **about), peer.open(streamtype="data", **about)))
            peer.send(Data(stream=pairs[-1][0], data=b"", fin=True))
        for number, (_, data) in reversed(list(enumerate(pairs))):
            peer.send(Data(stream=data, data=f"from {number}".encode()))
            peer.send(Data(stream=data, data=b"", fin=True))
        await peer.until(*(stream for pair in pairs for stream in pair))
        assert [peer.received[data] for _, data in pairs] == [f"FROM {n}".encode() for n in range(5)]
        assert not any(peer.received[error] for error, _ in pairs)


@pytest.mark.anyio
async def test_a_port_where_nobody_listens_is_told_on_the_error_stream(
    serving: Serving, node: FakeNode
) -> None:
    async with upper() as port:
        pass
    async with upgraded(serving, "p/portforward", FORWARD) as peer:
        error = peer.open(streamtype="error", port=str(port), requestid="0")
        data = peer.open(streamtype="data", port=str(port), requestid="0")
        await peer.until(error, data)
        assert f"error forwarding port {port} to pod p" in peer.received[error].decode()
        assert b"connection refused" in peer.received[error]


@pytest.mark.anyio
async def test_the_reset_of_a_stream_ends_its_connection_only(serving: Serving, node: FakeNode) -> None:
    gone = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    async with server, upgraded(serving, "p/portforward", FORWARD) as peer:
        peer.open(streamtype="error", port=port, requestid="0")
        data = peer.open(streamtype="data", port=port, requestid="0")
        while data not in peer.received:
            assert await peer.read()
        peer.send(Reset(stream=data, status=frames.CANCEL))
        await gone.wait()
        peer.send(Ping(id=1))
        while Ping(id=1) not in peer.frames:
            assert await peer.read()


@pytest.mark.anyio
async def test_streams_that_make_no_sense_are_reset_and_the_others_go_on(
    serving: Serving, node: FakeNode
) -> None:
    async with upper() as port, upgraded(serving, "p/portforward", FORWARD) as peer:
        without_port = peer.open(streamtype="data")
        of_no_type = peer.open(port=str(port))
        error = peer.open(
            streamtype="error", port=str(port)
        )  # without a number: the next one is its data stream
        data = peer.open(streamtype="data", port=str(port))
        peer.send(Data(stream=data, data=b"x", fin=True))
        await peer.until(without_port, of_no_type, error, data)
        assert peer.received[data] == b"X"
        assert [frame.stream for frame in peer.frames if isinstance(frame, Reset)] == [
            without_port,
            of_no_type,
        ]


@pytest.mark.anyio
async def test_a_client_that_breaks_the_rules_is_sent_away(serving: Serving, node: FakeNode) -> None:
    async with upgraded(serving, "p/portforward", FORWARD) as peer:
        peer.send(SynStream(stream=2, headers={}))
        await peer.until(0)
        assert peer.frames == [GoAway(last_stream=0, status=frames.GOAWAY_PROTOCOL_ERROR)]


@pytest.mark.anyio
async def test_draining_ends_a_forwarding(serving: Serving, node: FakeNode) -> None:
    async with upgraded(serving, "p/portforward", FORWARD) as peer:
        await serving.stop()
        await peer.until(0)
