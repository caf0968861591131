"""Who calls, what they see, and under which key: the headers of a request. The local socket is its user's
own. These are coroutines because FastAPI hands plain functions to a pool of threads that all requests share."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from whimbrel.model.errors import InvalidTask
from whimbrel.server.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What a client says of itself."""

    user: str
    version: str
    kubeconfig: tuple[str, ...]
    idempotency_key: str | None
    config: str = ""  # path of the configuration file that the client sees
    host: str = ""  # the machine that it runs on


async def caller_of(request: Request) -> Caller:
    """Read the headers."""
    paths = [part for part in request.headers.get("x-whimbrel-kubeconfig", "").split(os.pathsep) if part]
    for path in paths:
        if not os.path.isabs(path):
            raise InvalidTask("X-Whimbrel-Kubeconfig must hold absolute paths.")
    config = request.headers.get("x-whimbrel-config", "")
    if config and not os.path.isabs(config):
        raise InvalidTask("X-Whimbrel-Config must be an absolute path.")
    return Caller(
        user=request.headers.get("x-whimbrel-user", "") or "unknown",
        version=request.headers.get("x-whimbrel-version", ""),
        kubeconfig=tuple(paths) or (os.path.expanduser("~/.kube/config"),),
        idempotency_key=_key(request.headers.get("idempotency-key")),
        config=config,
        host=request.headers.get("x-whimbrel-host", "")[:253],
    )


def _key(text: str | None) -> str | None:
    """The id that the request will have: one spelling for each UUID."""
    if text is None:
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidTask("The Idempotency-Key must be a UUID.") from None


async def services_of(request: Request) -> Services:
    """The parts of this server."""
    services: Services = request.app.state.services
    return services


From = Annotated[Caller, Depends(caller_of)]
With = Annotated[Services, Depends(services_of)]
