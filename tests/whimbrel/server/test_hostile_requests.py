"""What no client of ours sends: refused with a reason, and the server goes on."""

from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.types import Message

from conftest import Server
from whimbrel.model.errors import InvalidTask, JobNotFound
from whimbrel.server.limits import BodyLimit


@pytest.mark.parametrize(
    "path",
    [
        f"clusters/c1/jobs/latest/logs?offset={10**40}",
        f"clusters/c1/jobs/latest/logs?tail={10**40}",
        f"requests/00000000-0000-0000-0000-000000000000/events?after={10**40}",
    ],
)
def test_a_number_that_nothing_can_hold_is_refused(server: Server, path: str) -> None:
    with pytest.raises(InvalidTask, match="less than or equal"):
        list(server.frames(f"/api/v1/{path}"))


def test_what_cannot_be_a_job_or_a_text_is_refused(server: Server) -> None:
    server.output_of(server.launch("c1", None))
    for job in (str(10**30), "9" * 5000, "1.5"):
        with pytest.raises(JobNotFound, match="named by its number"):
            server.logs("c1", job, "")
    with pytest.raises(InvalidTask, match="less than or equal"):
        server.post("clusters/c1/jobs/cancel", {"job_ids": [10**40], "all": False})
    with pytest.raises(InvalidTask, match="not UTF-8"):
        server.launch("c2", "echo \ud800")
    assert "Traceback" not in server.log()


async def _answered(body: list[bytes], headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    app = FastAPI()

    @app.post("/api/v1/plan")
    async def plan(request: Request) -> dict[str, int]:
        return {"read": len(await request.body())}

    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": "/api/v1/plan", "raw_path": b"/api/v1/plan", "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http", "server": None, "client": None, "root_path": "",
    }  # fmt: skip
    await BodyLimit(app, largest=1 << 20)(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.mark.anyio
async def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so() -> None:
    piece = b"x" * (1 << 18)
    assert await _answered([piece] * 4, []) == (200, b'{"read":1048576}')
    for body, headers in (([piece] * 5, []), ([piece], [(b"content-length", b"9" * 30)])):
        status, answer = await _answered(body, headers)
        assert status == 413
        assert b"more than 1 MB" in answer
