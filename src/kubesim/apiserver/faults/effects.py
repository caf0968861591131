"""What a fault does to a request over HTTP: around the application, with its messages and its connection.

Delays come first. Then at most one fault decides how the request ends; it may let the application answer, and change
what of the answer gets through. A client that goes away, and a server that ends, are not held up by any of them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson

from kubesim import errors
from kubesim.apiserver.asgi import Connection, Message, Receive, Scope, Send, Streams, send_reply
from kubesim.apiserver.faults import statuses
from kubesim.apiserver.faults.active import Fault
from kubesim.apiserver.faults.matching import Seen
from kubesim.apiserver.requests import Reply
from kubesim.apiserver.turns import Turns

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BEAT = 0.1  # seconds between two pieces of a dripping answer
_GOING = 0.5  # seconds for a client to say goodbye
_GARBAGE = 512

_PORTAL = (
    b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n<body><h1>Sign in to continue</h1>\n"
    b'<form method="post" action="/login"><input name="user"><input name="password" type="password"></form>\n'
    b"</body></html>\n"
)


class _Over(Exception):
    """No more of the answer gets through."""


@dataclass(slots=True, kw_only=True)
class Struck:
    """A request, and the faults that strike it."""

    app: App
    scope: Scope
    receive: Receive
    send: Send
    seen: Seen
    connection: Connection
    streams: Streams
    faults: list[Fault]

    def of(self, kind: str) -> list[Fault]:
        return [fault for fault in self.faults if fault.spec.kind == kind]

    @property
    def outcome(self) -> Fault | None:
        return next((fault for fault in self.faults if fault.kind.outcome), None)


async def interfere(struck: Struck) -> None:
    """Serve the request as its faults want it."""
    if not await delayed(struck):
        await leave(struck.connection)
        return
    for fault in struck.of("drip"):
        struck.send = _dripping(fault, struck.send, struck.connection)
    outcome = struck.outcome
    if outcome is None:
        await struck.app(struck.scope, struck.receive, struck.send)
    else:
        await _OUTCOMES[outcome.spec.kind](outcome, struck)


async def delayed(struck: Struck) -> bool:
    """Wait as long as its delays want; False when there is no point any more."""
    for fault in struck.of("delay"):
        seconds = fault.number("delay") + fault.dice().uniform(0, fault.number("jitter"))
        if not await held(fault, seconds, struck):
            return False
    return True


async def held(fault: Fault, seconds: float | None, struck: Struck) -> bool:
    """Wait for so long, or until the fault is removed; False when the client is gone, or the server ends."""
    waited = False

    async def wait() -> None:
        nonlocal waited
        try:
            async with asyncio.timeout(seconds):
                await fault.released.wait()
        except TimeoutError:
            pass
        waited = True

    await struck.streams.run(wait(), struck.connection)
    return waited


async def leave(connection: Connection, *, reset: bool = False) -> None:
    """End the connection in the middle of an answer; returns when it is gone."""
    lost = asyncio.Event()
    forget = connection.on_lost(lost.set)
    try:
        if connection.is_lost:
            return
        await _sent(connection)
        if reset:
            connection.reset()
        else:
            connection.close()
        try:
            async with asyncio.timeout(_GOING):
                await lost.wait()
        except TimeoutError:  # TLS waits for the client's goodbye
            connection.abort()
            async with asyncio.timeout(_GOING):
                await lost.wait()
    finally:
        forget()


async def _sent(connection: Connection) -> None:
    """Until what was written is with the kernel, within a bound: a client may have ceased to read."""
    try:
        async with asyncio.timeout(_GOING):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            while connection.unsent:  # noqa: ASYNC110 (a transport has no event for it)
                await asyncio.sleep(0.005)
    except TimeoutError:
        pass


# How a request can end


async def _hang(fault: Fault, struck: Struck) -> None:
    send = struck.send
    if not fault.get("applied"):
        if await held(fault, None, struck):
            await struck.app(struck.scope, struck.receive, send)
        else:
            await leave(struck.connection)
        return

    async def later(message: Message) -> None:
        if message["type"] == "http.response.start" and not await held(fault, None, struck):
            raise _Over
        await send(message)

    try:
        await struck.app(struck.scope, struck.receive, later)
    except _Over:
        await leave(struck.connection)


async def _status(fault: Fault, struck: Struck) -> None:
    await _applied(fault, struck)
    await send_reply(refusal(fault, struck.seen), False, struck.send, Turns())


def refusal(fault: Fault, seen: Seen) -> Reply:
    """The answer of a fault of kind status."""
    return statuses.answer(
        seen,
        fault.whole("code") or 500,
        how=str(fault.get("how")),
        retry_after=fault.whole("retry_after") or 0,
        message=str(fault.get("message") or ""),
    )


async def _garbage(fault: Fault, struck: Struck) -> None:
    await _applied(fault, struck)
    how = fault.get("how")
    if how == "http":
        struck.connection.write(_noise(fault.dice()))
        await leave(struck.connection)
        return
    reply = Reply(parts=(_noise(fault.dice()),))
    if how == "html":
        reply = Reply(parts=(_PORTAL,), content_type="text/html; charset=utf-8")
    await send_reply(reply, False, struck.send, Turns())


def _noise(dice: random.Random) -> bytes:
    """Bytes that are neither JSON nor HTTP."""
    return b"\x15\x03" + dice.randbytes(_GARBAGE - 2)


async def _reset(fault: Fault, struck: Struck) -> None:
    if fault.get("applied"):
        await _until(_cut_short(fault.whole("bytes"), struck.send), struck)
    await leave(struck.connection, reset=True)


async def _truncate(fault: Fault, struck: Struck) -> None:
    await _until(_cut_short(fault.whole("bytes"), struck.send), struck)
    await leave(struck.connection)


async def _cut(fault: Fault, struck: Struck) -> None:
    begun = False
    send = struck.send
    left = fault.whole("events")

    async def counted(message: Message) -> None:
        nonlocal begun, left
        if message["type"] == "http.response.start":
            begun = message["status"] == 200
            await send(message)
            if begun and left == 0:
                raise _Over
            return
        body: bytes = message.get("body", b"")
        if begun and left is not None and body:
            lines = body.splitlines(keepends=True)
            body = b"".join(lines[:left])
            left -= min(left, len(lines))
            if not left:
                await send({**message, "body": body, "more_body": True})
                raise _Over
        await send(message)

    try:
        async with asyncio.timeout(fault.number("after") or None):
            await struck.app(struck.scope, struck.receive, counted)
    except (_Over, TimeoutError):
        await _end_of_watch(fault, struck, begun)


async def _end_of_watch(fault: Fault, struck: Struck, begun: bool) -> None:
    how = fault.get("how")
    if how == "drop" or not begun:
        await leave(struck.connection)
        return
    last = b""
    if how == "expired":
        status = errors.gone("The resourceVersion for the provided watch is too old.").to_status()
        last = orjson.dumps({"type": "ERROR", "object": status}) + b"\n"
    await struck.send({"type": "http.response.body", "body": last, "more_body": bool(last)})
    if last:
        await struck.send({"type": "http.response.body", "body": b"", "more_body": False})


_OUTCOMES: dict[str, Callable[[Fault, Struck], Awaitable[None]]] = {
    "hang": _hang,
    "status": _status,
    "garbage": _garbage,
    "reset": _reset,
    "truncate": _truncate,
    "cut": _cut,
}


# What gets through of an answer


async def _applied(fault: Fault, struck: Struck) -> None:
    """Carry the request out, if that is wanted, and throw its answer away."""

    async def nowhere(message: Message) -> None:
        raise _Over

    if fault.get("applied"):
        await _until(nowhere, struck)


async def _until(send: Send, struck: Struck) -> None:
    try:
        await struck.app(struck.scope, struck.receive, send)
    except _Over:
        pass


def _cut_short(limit: int | None, send: Send) -> Send:
    """Let so many bytes of the body through (None: half of what there is), but never all of it."""
    left = limit

    async def short(message: Message) -> None:
        nonlocal left
        if message["type"] == "http.response.start":
            length = next((int(v) for n, v in message["headers"] if n == b"content-length"), None)
            if length is not None:
                left = length // 2 if left is None else min(left, max(length - 1, 0))
            await send(message)
            return
        body: bytes = message.get("body", b"")
        if left is None and body:
            left = len(body) // 2
        if left is None or (len(body) < left and message.get("more_body")):
            left = left - len(body) if left is not None else None
            await send({**message, "more_body": True})
            if message.get("more_body"):
                return
        else:
            await send({**message, "body": body[:left], "more_body": True})
        raise _Over

    return short


def _dripping(fault: Fault, send: Send, connection: Connection) -> Send:
    rate = fault.whole("rate") or 1
    piece = max(1, int(rate * _BEAT))

    async def drip(message: Message) -> None:
        body: bytes = message.get("body", b"")
        start = 0
        while len(body) - start > piece and not (fault.released.is_set() or connection.is_lost):
            await send({**message, "body": body[start : start + piece], "more_body": True})
            start += piece
            await _pause(fault, piece / rate)
        if body and not fault.released.is_set():
            await _pause(fault, (len(body) - start) / rate)
        await send({**message, "body": body[start:]} if start else message)

    return drip


async def _pause(fault: Fault, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await fault.released.wait()
    except TimeoutError:
        pass
