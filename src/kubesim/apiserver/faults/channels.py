"""What a fault does to a WebSocket: exec, attach, port-forward."""

from __future__ import annotations

from kubesim.apiserver.asgi import Message, WebSocket
from kubesim.apiserver.faults.effects import Struck, delayed, held, leave, refusal


async def interfere(struck: Struck) -> None:
    """Serve the channel as its faults want it."""
    if not await delayed(struck):
        await _gone(struck)
        return
    outcome = struck.outcome
    kind = outcome.spec.kind if outcome is not None else ""
    if outcome is None or (kind == "hang" and await held(outcome, None, struck)):
        await struck.app(struck.scope, struck.receive, struck.send)
    elif kind == "hang":
        await _gone(struck)
    elif kind == "status":
        await struck.receive()  # websocket.connect
        await WebSocket(struck.receive, struck.send).refuse(refusal(outcome, struck.seen))
    else:
        await _torn(outcome.whole("bytes") or 0, struck, opens=bool(outcome.get("applied")))


async def _torn(limit: int, struck: Struck, *, opens: bool) -> None:
    """Reset the connection after so many bytes, at once if it is not to be opened."""
    left = limit
    send = struck.send

    async def counted(message: Message) -> None:
        nonlocal left
        data: bytes = message.get("bytes") or b""
        left -= len(data)
        if data and left < 0:
            await leave(struck.connection, reset=True)
        await send(message)  # which raises on a connection that is lost

    if opens:
        await struck.app(struck.scope, struck.receive, counted)
    await _gone(struck, reset=True)


async def _gone(struck: Struck, *, reset: bool = False) -> None:
    """End the connection; sending once more is how the protocol learns that nothing else will be answered."""
    await leave(struck.connection, reset=reset)
    try:
        await struck.send({"type": "websocket.close", "code": 1006})
    except ConnectionError:  # SPDY's way of saying so
        pass
