"""How every failure reaches a client: as a `WhimError`, never as a traceback.

What is foreseen is raised as one. What is not foreseen is written to the server's log with its traceback, and
the client is told where that is. What a client sent is never repeated in an answer or a log, because it may
be secret.
"""

from __future__ import annotations

import logging
from pathlib import Path

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from whimbrel.model.errors import InvalidTask, NotFound, WhimError

logger = logging.getLogger(__name__)


def answer(error: WhimError) -> Response:
    """The error as an HTTP answer."""
    return Response(
        orjson.dumps({"error": error.to_wire()}), status_code=error.http_status, media_type="application/json"
    )


def unexpected(error: BaseException, log: Path) -> WhimError:
    """What a user is told when we have made a mistake: where the story is, not the story."""
    return WhimError(
        f"The API server met an error that it does not know ({type(error).__name__}).",
        remedy=f"whim api logs   # its log is {log}; please report what it says",
    )


def install(app: FastAPI, log: Path) -> None:
    """Let the application answer every failure in this form."""

    async def on_whim_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, WhimError)
        return answer(error)

    async def on_bad_body(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return answer(
            InvalidTask(
                "The API server did not understand the request: " + "; ".join(problems),
                remedy="use a client of the same version as the server (`whim api info`)",
            )
        )

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        failure: WhimError = NotFound(
            f"The API server has no {request.method} {request.url.path}.",
            remedy="use a client of the same version as the server (`whim api info`)",
        )
        response = answer(failure)
        response.status_code = error.status_code
        return response

    async def on_unexpected(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(unexpected(error, log))

    app.add_exception_handler(WhimError, on_whim_error)
    app.add_exception_handler(RequestValidationError, on_bad_body)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_unexpected)
