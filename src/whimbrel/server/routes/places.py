"""Infrastructure: which can be used, and the embedded Kubernetes up or down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from whimbrel.infra.base import Check
from whimbrel.model.config import Config
from whimbrel.model.errors import InfraError, InvalidConfig, WhimError
from whimbrel.operations.surveying import survey
from whimbrel.server.bodies import CheckBody
from whimbrel.server.caller import Caller, From, With
from whimbrel.server.services import Services
from whimbrel.store import tombstones
from whimbrel.store.tombstones import Tombstone

router = APIRouter(prefix="/api/v1")

BUDGET = 5.5
"""Seconds for all of them together."""


@router.post("/check")
async def check(services: With, caller: From, body: CheckBody) -> dict[str, Any]:
    """Look at every infrastructure that is meant, side by side; what is wrong with one is in its answer."""
    places = services.tools.places
    config = await _config(services, caller)
    names = dict.fromkeys(() if body.infra else await places.known(caller.kubeconfig, config))
    for wanted in body.infra or ():
        names.update(dict.fromkeys(await places.candidates(wanted, caller.kubeconfig, config)))
    results = await asyncio.gather(*(_check(services, caller, name) for name in names))
    errors = [*services.tools.places.warnings(caller.kubeconfig), *await _of_the_configuration(services)]
    stones = await services.tools.store.read(tombstones.standing)
    answers = [{**asdict(result), "leftovers": _leftovers(result, stones)} for result in results]
    return {"results": answers, "errors": errors}


async def _config(services: Services, caller: Caller) -> Config:
    """What the caller's file says; a broken one, which is told beside the answers, allows everything."""
    try:
        return await services.configs.read(caller.config)
    except InvalidConfig:
        return Config()


async def _of_the_configuration(services: Services) -> list[dict[str, Any]]:
    """What is wrong with the configuration file; the last good one serves meanwhile."""
    try:
        await services.configuration()
    except InvalidConfig as error:
        return [error.to_wire()]
    return []


@router.post("/gpus")
async def gpus(services: With, caller: From, body: CheckBody) -> dict[str, Any]:
    """The accelerators of every infrastructure that is meant; what is wrong with one is in its answer."""
    places = services.tools.places
    names: dict[str, None] = {}
    errors = []
    if not body.infra:
        try:
            names = dict.fromkeys(await places.known(caller.kubeconfig, await _config(services, caller)))
        except WhimError as error:
            errors.append(error.to_wire())
    for wanted in body.infra or ():
        try:
            names.update(
                dict.fromkeys(
                    await places.candidates(wanted, caller.kubeconfig, await _config(services, caller))
                )
            )
        except WhimError as error:
            errors.append(error.to_wire())
    found = await survey(places, names, caller.kubeconfig)
    return {"infras": [asdict(one) for one in found], "errors": errors}


def _leftovers(check: Check, stones: Sequence[Tombstone]) -> int:
    """How many purged clusters may have left something there, now that it answers."""
    if not check.identity:
        return 0
    return sum(stone.identity == check.identity for stone in stones)


async def _check(services: Services, caller: Caller, name: str) -> Check:
    began = time.monotonic()
    try:
        async with asyncio.timeout(BUDGET):
            return await (await services.tools.places.get(name, caller.kubeconfig)).check()
    except TimeoutError:
        reason, remedy = f"it did not answer within {BUDGET:g} s", f"whim check {name}   # asks again"
    except InfraError as error:
        reason, remedy = error.message, error.remedy or ""
    view = services.tools.places.view(name, caller.kubeconfig)
    return Check(
        infra=name,
        usable=False,
        reason=reason,
        remedy=remedy,
        breaker=view.state if view else "closed",
        retry_in=view.retry_in if view else None,
        seconds=time.monotonic() - began,
        at=time.time(),
    )


@router.post("/local/up", status_code=202)
async def local_up(services: With, caller: From) -> dict[str, Any]:
    """Start the embedded Kubernetes."""
    return await _local(services, caller, "local.up")


@router.post("/local/down", status_code=202)
async def local_down(services: With, caller: From) -> dict[str, Any]:
    """Remove it, with what is in it."""
    return await _local(services, caller, "local.down")


async def _local(services: Services, caller: Caller, kind: str) -> dict[str, Any]:
    body = {"kubeconfig": list(caller.kubeconfig), "origin": caller.host}
    request = await services.engine.submit(kind, "local", body, caller.user, caller.idempotency_key)
    return {"request_id": request.id}
