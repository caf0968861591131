"""API endpoints with a defect: `async with broken("silent") as url`.

Each of them is a real socket on loopback (or a name that leads nowhere); none of them needs the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson

from kubewire.testing.pki import Authority
from kubewire.testing.servers import Exchange, http_server, reset, tcp_server

Opened = AbstractAsyncContextManager[str]


def broken(kind: str, **options: Any) -> Opened:
    """The URL of an endpoint that is broken in a way of `KINDS`."""
    if kind not in KINDS:
        raise ValueError(f"no such defect: {kind!r}; there are {', '.join(sorted(KINDS))}")
    return KINDS[kind](**options)


@contextlib.asynccontextmanager
async def silent(*, scheme: str = "http") -> AsyncIterator[str]:
    """Accepts, reads, and never says anything: a stopped kind cluster, a VPN that was dropped."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass

    async with tcp_server(behave) as server:
        yield f"{scheme}://127.0.0.1:{server.port}"


def slow_tls() -> Opened:
    """Accepts a TLS client's hello and never answers it."""
    return silent(scheme="https")


@contextlib.asynccontextmanager
async def unaccepted() -> AsyncIterator[str]:
    """A full backlog: the kernel drops every attempt to connect, as a firewall would."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # one more than the kernel queues for a backlog of 0
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def refused() -> AsyncIterator[str]:
    """A port on which nobody listens, kept from others."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{holder.getsockname()[1]}"


@contextlib.asynccontextmanager
async def resetting() -> AsyncIterator[str]:
    """Resets the connection when it is asked something."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        reset(writer)

    async with tcp_server(behave) as server:
        yield server.url


@contextlib.asynccontextmanager
async def closing() -> AsyncIterator[str]:
    """Ends the connection without an answer."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)

    async with tcp_server(behave) as server:
        yield server.url


@contextlib.asynccontextmanager
async def drip(*, pause: float = 1.0, head: bool = False) -> AsyncIterator[str]:
    """Answers one byte at a time, for ever; with `head` already the status line."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        start = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
        if head:
            for position in range(len(start)):
                writer.write(start[position : position + 1])
                await writer.drain()
                await asyncio.sleep(pause)
        else:
            writer.write(start)
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(pause)

    async with tcp_server(behave) as server:
        yield server.url


@contextlib.asynccontextmanager
async def garbage() -> AsyncIterator[str]:
    """Answers with bytes that are no HTTP."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"\x00\xffSSH-2.0-not what you think\r\n\r\n" * 4)
        await writer.drain()

    async with tcp_server(behave) as server:
        yield server.url


@contextlib.asynccontextmanager
async def html() -> AsyncIterator[str]:
    """Answers everything with 200 and a web page: a captive portal."""

    async def handler(exchange: Exchange) -> None:
        page = b"<html><body>Please log in to the network</body></html>"
        await exchange.reply(200, page, {"content-type": "text/html"})

    async with http_server(handler) as server:
        yield server.url


@contextlib.asynccontextmanager
async def truncated() -> AsyncIterator[str]:
    """Ends every answer before its end."""

    async def handler(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")

    async with http_server(handler) as server:
        yield server.url


@contextlib.asynccontextmanager
async def status(
    *, code: int = 500, reason: str = "InternalError", headers: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Answers everything with an error Status."""

    async def handler(exchange: Exchange) -> None:
        body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": f"told to answer {code}",
            "code": code,
        }
        await exchange.reply(code, body, headers)

    async with http_server(handler) as server:
        yield server.url


@contextlib.asynccontextmanager
async def dropping_watch(*, quiet: bool = False) -> AsyncIterator[str]:
    """Lists are empty; watches are reset at once, or with `quiet` never say anything."""

    async def handler(exchange: Exchange) -> None:
        if exchange.request.one("watch") != "true":
            await exchange.reply(200, {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []})
            return
        await exchange.start()
        if quiet:
            await exchange.hang()
        exchange.reset()

    async with http_server(handler) as server:
        yield server.url


@contextlib.asynccontextmanager
async def slow_pages(*, pause: float = 1.0) -> AsyncIterator[str]:
    """Answers each page of a list late, and there is always another one."""

    async def handler(exchange: Exchange) -> None:
        await asyncio.sleep(pause)
        page = {"kind": "List", "metadata": {"resourceVersion": "1", "continue": "more"}, "items": []}
        await exchange.reply(200, orjson.dumps(page))

    async with http_server(handler) as server:
        yield server.url


@contextlib.asynccontextmanager
async def _bad_certificate(*names: str, days: int = 1) -> AsyncIterator[str]:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(200, {})

    async with http_server(
        handler, tls=Authority("nobody's authority").server_context(*names, days=days)
    ) as server:
        yield server.url


def untrusted_certificate() -> Opened:
    """A certificate of an authority that nobody knows."""
    return _bad_certificate("127.0.0.1")


def expired_certificate() -> Opened:
    """A certificate that has expired (of an authority that nobody knows; see `Authority` for a known one)."""
    return _bad_certificate("127.0.0.1", days=-1)


@contextlib.asynccontextmanager
async def plain_on_tls() -> AsyncIterator[str]:
    """A plain HTTP server under an https address."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()

    async with tcp_server(behave) as server:
        yield f"https://127.0.0.1:{server.port}"


@contextlib.asynccontextmanager
async def no_such_name() -> AsyncIterator[str]:
    """A name that does not resolve (RFC 6761 reserves it)."""
    yield "https://cluster.invalid:6443"


KINDS: Mapping[str, Callable[..., Opened]] = {
    "silent": silent,
    "slow-tls": slow_tls,
    "unaccepted": unaccepted,
    "refused": refused,
    "reset": resetting,
    "closed": closing,
    "drip": drip,
    "garbage": garbage,
    "html": html,
    "truncated": truncated,
    "status": status,
    "dropping-watch": dropping_watch,
    "slow-pages": slow_pages,
    "untrusted-certificate": untrusted_certificate,
    "expired-certificate": expired_certificate,
    "plain-on-tls": plain_on_tls,
    "dns": no_such_name,
}
