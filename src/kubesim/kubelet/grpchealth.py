"""The gRPC health check of a probe: one unary call of grpc.health.v1.Health/Check over plain HTTP/2.

A whole gRPC or HTTP/2 library would be a dependency for one call with one fixed request and an answer of a few bytes.
What is sent needs no compression of headers; of what comes back, the data is read, and of the headers only that they
came: a server that answers with an error (UNIMPLEMENTED, NOT_FOUND) sends no data. Hence the one difference from the
real kubelet: the code and message of such an error are not told. TLS is not done, as the real kubelet does not do it.
"""

from __future__ import annotations

import asyncio
import struct

from kubesim.kubelet.httpget import VERSION, dial_words, hang_up, join
from kubesim.kubelet.probes import Outcome, Result

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8
_STREAM = 1
_LARGEST_FRAME = 16 << 10
_MOST_DATA = 64 << 10
_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class _CallError(Exception):
    """The call ended without an answer."""


async def check(host: str, port: int, service: str, timeout: float) -> Result:
    """Ask a server whether a service of it is healthy."""
    address = join(host, port)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    try:
        async with asyncio.timeout_at(deadline):
            reader, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return _failure(
            f'timeout: failed to connect service "{address}" within {timeout:g}s: context deadline exceeded'
        )
    except OSError as error:
        return _failure(
            f'error: failed to connect service at "{address}": dial tcp {address}: {dial_words(error)}'
        )
    try:
        async with asyncio.timeout_at(deadline):
            state = await _call(reader, writer, address, service)
    except TimeoutError:
        return _failure(f"timeout: health rpc did not complete within {timeout:g}s")
    except (_CallError, OSError) as error:
        return _failure(f"error: health rpc probe failed: {error}")
    finally:
        await hang_up(writer)
    if state != 1:
        return _failure(f'service unhealthy (responded with "{_STATES.get(state, state)}")')
    return Result(Outcome.SUCCESS, "service healthy")


def _failure(words: str) -> Result:
    return Result(Outcome.FAILURE, words)


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, service: str
) -> int:
    writer.write(
        _PREFACE
        + _frame(_SETTINGS, 0, 0)
        + _frame(_HEADERS, _END_HEADERS, _STREAM, _request_headers(address))
        + _frame(_DATA, _END_STREAM, _STREAM, _message(_request(service)))
    )
    data = bytearray()
    while True:
        kind, flags, stream, payload = await _receive(reader)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            raise _CallError("the server closed the connection (GOAWAY)")
        elif stream != _STREAM:
            continue
        elif kind == _RESET:
            raise _CallError(f"the server reset the call (code {int.from_bytes(payload)})")
        elif kind == _DATA:
            data += _unpadded(payload, flags)
            if len(data) > _MOST_DATA:
                raise _CallError("the answer is too large")
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            return _state(bytes(data))


async def _receive(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    try:
        head = await reader.readexactly(9)
        length = int.from_bytes(head[:3])
        if length > _LARGEST_FRAME:
            raise _CallError("the server does not speak HTTP/2")
        payload = await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise _CallError("the connection was closed before an answer came") from None
    return head[3], head[4], int.from_bytes(head[5:9]) & 0x7FFFFFFF, payload


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _request_headers(address: str) -> bytes:
    """A header block whose fields are all literal and not indexed, so that there is no state to keep."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", address),
        ("content-type", "application/grpc"),
        ("user-agent", f"kube-probe/{VERSION}"),
        ("te", "trailers"),
    )
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


def _string(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    return b"\x7f" + _varint(len(data) - 127) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _request(service: str) -> bytes:
    """A HealthCheckRequest: the service's name is its field 1."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def _message(body: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(body)) + body


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED and payload else payload


def _state(data: bytes) -> int:
    """The field 1 of the HealthCheckResponse; 0, its default, is not sent. Raises _CallError when there is none."""
    if len(data) < 5:
        raise _CallError(
            "the server answered with an error instead of a health status: it may not implement the grpc health "
            "protocol (grpc.health.v1.Health), or not know the service"
        )
    body = data[5 : 5 + int.from_bytes(data[1:5])]
    if not body:
        return 0
    if len(body) < 2 or body[0] != 0x08:
        raise _CallError("the answer is no HealthCheckResponse")
    return body[1]
