"""Commands over a WebSocket: both directions at once, the exit code, and all the ways to end wrongly."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable

import pytest
from websockets.server import ServerProtocol

from kubewire import exec as frames
from kubewire.client import Client
from kubewire.deadlines import Deadlines
from kubewire.errors import ApiError, NotSupported, ServerError, StreamBroken
from kubewire.exec import ExecSession, exit_code_of
from kubewire.testing import Authority, Exchange, Process, http_server, stream_server, tcp_server

pytestmark = pytest.mark.anyio

Make = Callable[..., Client]


async def collect(session: ExecSession) -> tuple[bytes, bytes]:
    """All stdout and all stderr."""
    out, err = bytearray(), bytearray()
    async for stream, data in session.output():
        (out if stream == 1 else err).extend(data)
    return bytes(out), bytes(err)


async def test_output_and_exit_code_of_a_command(client_for: Make) -> None:
    async def far_end(process: Process) -> None:
        assert process.path == "/api/v1/namespaces/default/pods/p/exec"
        assert process.argv == ["sh", "-c", "exit 7"]
        await process.stdout(b"out")
        await process.stderr(b"err")
        await process.stdout(b"put")
        await process.exit(7)

    async with (
        stream_server(far_end) as url,
        client_for(url, token="t").exec("p", "default", ["sh", "-c", "exit 7"]) as session,
    ):
        assert session.protocol == frames.V5
        assert await collect(session) == (b"output", b"err")
        assert await session.exit_code() == 7
        assert await session.exit_code() == 7


async def test_the_exit_code_can_be_had_without_reading_the_output(client_for: Make) -> None:
    async def far_end(process: Process) -> None:
        for _ in range(100):
            await process.stdout(b"x" * 10_000)
        await process.exit(0)

    async with stream_server(far_end) as url, client_for(url).exec("p", "default", ["x"]) as session:
        assert await session.exit_code() == 0


async def test_32_megabytes_flow_in_both_directions_at_once(client_for: Make) -> None:
    data = os.urandom(1_000_000) * 32

    async def cat(process: Process) -> None:
        async for piece in process.stdin():
            await process.stdout(piece)
        await process.exit(0)

    async def write(session: ExecSession) -> None:
        await session.write(data)
        await session.close_stdin()

    digest = hashlib.sha256()
    async with (
        stream_server(cat) as url,
        client_for(url).exec("p", "default", ["cat"], stdin=True) as session,
    ):
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(write(session))
            async for _, piece in session.output():
                digest.update(piece)
        assert await session.exit_code() == 0
    assert digest.digest() == hashlib.sha256(data).digest()


async def test_no_message_to_stdin_is_large(client_for: Make) -> None:
    largest = 0

    async def far_end(process: Process) -> None:
        nonlocal largest
        async for piece in process.stdin():
            largest = max(largest, len(piece))
        await process.exit(0)

    async with (
        stream_server(far_end) as url,
        client_for(url).exec("p", "default", ["cat"], stdin=True) as session,
    ):
        await session.write(b"x" * 1_000_000)
        await session.close_stdin()
        assert await session.exit_code() == 0
    assert 0 < largest <= 128 * 1024


async def test_a_terminal_has_a_size(client_for: Make) -> None:
    async def far_end(process: Process) -> None:
        async for _ in process.stdin():
            pass
        assert dict(process.query)["tty"] == "true"
        await process.exit(process.sizes[-1][0])

    async with (
        stream_server(far_end) as url,
        client_for(url).exec("p", "default", ["sh"], stdin=True, tty=True) as session,
    ):
        await session.resize(80, 24)
        await session.resize(123, 45)
        await session.close_stdin()
        assert await session.exit_code() == 123


async def test_attach_goes_to_the_main_process(client_for: Make) -> None:
    async def far_end(process: Process) -> None:
        assert process.path.endswith("/pods/p/attach")
        await process.stdout(b"hello")
        await process.exit(0)

    async with stream_server(far_end) as url, client_for(url).attach("p", "default") as session:
        assert await collect(session) == (b"hello", b"")


async def test_an_old_server_speaks_v4_and_cannot_close_stdin(client_for: Make) -> None:
    async def far_end(process: Process) -> None:
        assert (await process.receive()) == b"\x00four"
        await process.stdout(b"done")
        await process.exit(0)

    async with (
        stream_server(far_end, protocols=[frames.V4]) as url,
        client_for(url).exec("p", "default", ["head", "-c4"], stdin=True) as session,
    ):
        assert session.protocol == frames.V4
        await session.write(b"four")
        with pytest.raises(NotSupported, match="cannot close stdin"):
            await session.close_stdin()
        assert await collect(session) == (b"done", b"")
        assert await session.exit_code() == 0


async def test_a_command_that_cannot_be_run_is_the_servers_error(client_for: Make) -> None:
    async def far_end(process: Process) -> None:
        await process.status(
            {
                "status": "Failure",
                "reason": "InternalError",
                "message": 'exec: "nope": executable file not found in $PATH',
                "code": 500,
            }
        )

    async with stream_server(far_end) as url, client_for(url).exec("p", "default", ["nope"]) as session:
        with pytest.raises(ServerError, match="executable file not found"):
            await session.exit_code()


@pytest.mark.parametrize("way", ["drop", "close"])
async def test_a_connection_that_ends_before_the_command_is_an_error(client_for: Make, way: str) -> None:
    async def far_end(process: Process) -> None:
        await process.stdout(b"half")
        if way == "drop":
            process.drop()

    async with stream_server(far_end) as url, client_for(url).exec("p", "default", ["x"]) as session:
        with pytest.raises(StreamBroken):
            await session.exit_code()


async def test_a_stream_that_stays_open_after_the_end_of_the_command_is_left_behind(
    client_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def far_end(process: Process) -> None:
        await process.exit(3)
        await process.stdout(b"late")
        await process.hang()

    monkeypatch.setattr(frames, "LINGER", 0.3)
    async with stream_server(far_end) as url, client_for(url).exec("p", "default", ["x"]) as session:
        started = time.monotonic()
        assert await collect(session) == (b"late", b"")
        assert await session.exit_code() == 3
        assert time.monotonic() - started < 5.0


async def test_a_connection_that_breaks_after_the_end_of_the_command_does_no_harm(client_for: Make) -> None:
    async def far_end(process: Process) -> None:
        await process.exit(3)
        process.drop()

    async with stream_server(far_end) as url, client_for(url).exec("p", "default", ["x"]) as session:
        assert await session.exit_code() == 3


async def test_a_peer_that_does_not_even_answer_pings_is_given_up(client_for: Make, quick: Deadlines) -> None:
    """A server whose process is stopped: the kernel still takes what we send."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol(subprotocols=[frames.V5])  # type: ignore[list-item]
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        (request,) = protocol.events_received()
        protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
        writer.write(b"".join(protocol.data_to_send()))
        while await reader.read(65536):
            pass

    async with (
        tcp_server(deaf) as server,
        client_for(server.url, quick).exec("p", "default", ["x"]) as session,
    ):
        started = time.monotonic()
        with pytest.raises(StreamBroken):
            await session.exit_code()
        assert time.monotonic() - started < 5.0


async def test_a_quiet_command_outlives_the_idle_bound_while_its_server_lives(
    client_for: Make, quick: Deadlines
) -> None:
    async def far_end(process: Process) -> None:
        await asyncio.sleep(quick.stream_idle * 2.5)
        await process.exit(0)

    async with (
        stream_server(far_end) as url,
        client_for(url, quick).exec("p", "default", ["sleep"]) as session,
    ):
        assert await session.exit_code() == 0


async def test_a_peer_that_takes_no_data_is_given_up(client_for: Make, quick: Deadlines) -> None:
    async def far_end(process: Process) -> None:
        await process.hang()

    async with (
        stream_server(far_end) as url,
        client_for(url, quick).exec("p", "default", ["x"], stdin=True) as session,
    ):
        started = time.monotonic()
        with pytest.raises(StreamBroken):
            await session.write(bytes(100_000_000))
        assert time.monotonic() - started < 10.0


async def test_an_upgrade_that_is_refused_is_the_servers_error(client_for: Make) -> None:
    async def handler(exchange: Exchange) -> None:
        status = {"kind": "Status", "code": 404, "reason": "NotFound", "message": 'pods "p" not found'}
        await exchange.reply(404, status)

    async with http_server(handler) as server:
        with pytest.raises(ApiError, match='pods "p" not found') as caught:
            async with client_for(server.url).exec("p", "default", ["x"]):
                pass
    assert caught.value.code == 404


async def test_exec_over_tls_comes_as_the_user_of_the_certificate(
    client_for: Make, authority: Authority
) -> None:
    seen: list[str] = []

    async def handler(exchange: Exchange) -> None:
        certificate = exchange.request.peer_certificate or {}
        seen.append(dict(pair[0] for pair in certificate["subject"])["commonName"])
        await exchange.reply(403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"})

    mine = authority.client("bob")
    tls = authority.server_context("api.example", ask_client=True)
    async with http_server(handler, tls=tls) as server:
        client = client_for(
            server.url,
            ca_data=authority.certificate,
            certificate_data=mine.certificate,
            key_data=mine.key,
            tls_server_name="api.example",
        )
        with pytest.raises(ApiError, match="no"):
            async with client.exec("p", "default", ["x"]):
                pass
    assert seen == ["bob"]


def test_frames_carry_their_stream_in_the_first_byte() -> None:
    assert list(frames.data_frames(b"ab")) == [b"\x00ab"]
    assert list(frames.data_frames(b"")) == []
    assert [len(frame) for frame in frames.data_frames(b"x" * (frames.MAX_FRAME + 1))] == [
        frames.MAX_FRAME + 1,
        2,
    ]
    assert frames.close_frame() == b"\xff\x00"
    assert frames.resize_frame(80, 24) == b'\x04{"Width":80,"Height":24}'
    assert frames.parse_frame(b"\x02err") == (2, b"err")
    assert frames.parse_frame(b"") == (1, b"")


def test_the_exit_code_is_in_the_status() -> None:
    assert exit_code_of({"status": "Success"}) == 0
    failed = {"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "137"}]}}
    assert exit_code_of(failed) == 137
    with pytest.raises(ApiError):
        exit_code_of({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "x"}]}})
    for details in ("x", {"causes": "x"}, {"causes": ["x"]}, {"causes": [{"reason": "ExitCode"}]}, None):
        with pytest.raises(ApiError):
            exit_code_of({"status": "Failure", "message": "no", "details": details})
