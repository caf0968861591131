"""How much a client may send at once: what is read into memory has a bound, files that are streamed to the disk have
none.

Pure ASGI, before routing: a body that says it is too large is refused before any of it is read, and one that says
nothing is cut off where it becomes too large.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whimbrel.model.errors import InvalidTask
from whimbrel.server.failures import answer

LARGEST_BODY = 64 * 1024 * 1024
_STREAMED = "/files"


class BodyLimit:
    """Around the application."""

    def __init__(self, app: ASGIApp, largest: int = LARGEST_BODY) -> None:
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, unless its body is too large."""
        if scope["type"] != "http" or scope["path"].endswith(_STREAMED):
            await self._app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said[:20]) > self._largest:
            await self._refusal()(scope, receive, send)
            return
        left, over = self._largest, False

        async def bounded() -> Message:
            nonlocal left, over
            message = await receive()
            left -= len(message.get("body", b""))
            over = over or left < 0
            return {"type": "http.disconnect"} if over else message

        async def unless_over(message: Message) -> None:
            if not over:
                await send(message)

        try:
            await self._app(scope, bounded, unless_over)
        except Exception:
            if not over:
                raise
        if over:
            await self._refusal()(scope, receive, send)

    def _refusal(self) -> ASGIApp:
        response = answer(
            InvalidTask(
                f"The request has more than {self._largest >> 20} MB.",
                remedy="send less at once; files belong into the workdir or file_mounts, which are streamed",
            )
        )
        response.status_code = 413
        return response
