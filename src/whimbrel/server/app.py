"""The ASGI application: routes and failures around one server's parts."""

from __future__ import annotations

from fastapi import FastAPI

import whimbrel
from whimbrel.server import failures
from whimbrel.server.limits import BodyLimit
from whimbrel.server.metrics import Measured
from whimbrel.server.routes import (
    clusters,
    files,
    health,
    history,
    jobs,
    leftovers,
    places,
    requests,
    volumes,
)
from whimbrel.server.services import Services


def create_app(services: Services) -> FastAPI:
    """The HTTP API of this server."""
    app = FastAPI(
        title="whimbrel",
        version=whimbrel.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.services = services
    failures.install(app, services.home.log)
    app.add_middleware(BodyLimit)
    app.add_middleware(Measured, requests=services.metrics)  # the last one is the outermost
    for module in (health, requests, clusters, jobs, files, places, history, leftovers, volumes):
        app.include_router(module.router)
    return app
