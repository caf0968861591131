"""Roles that grow with others, and the log of who asked for what."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.audit import Audit
from kubesim.apiserver.serve import serve
from kubesim.controllers.aggregation import RoleAggregation
from kubewire.client import Client
from kubewire.connection import Connection
from kubewire.errors import Forbidden
from kubewire.http import HttpTransport
from kubewire.informer import Informers
from kubewire.requests import Request
from kubewire.resources import CLUSTER_ROLES, CONFIG_MAPS, PODS

from .conftest import As

pytestmark = pytest.mark.anyio


async def test_what_is_labelled_for_view_is_in_view_edit_and_admin(admin: Client) -> None:
    rule = {"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["widgets"]}
    label = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}

    async def seen(there: bool) -> None:
        async with asyncio.timeout(5):
            for role in ("view", "edit", "admin"):
                while True:
                    if (rule in (await admin.get(CLUSTER_ROLES, role))["rules"]) is there:
                        break
                    await asyncio.sleep(0.01)

    async with Informers(admin) as informers:
        task = asyncio.create_task(RoleAggregation(admin, informers).run())
        await admin.create(CLUSTER_ROLES, {"metadata": {"name": "w", "labels": label}, "rules": [rule]})
        await seen(True)
        await admin.delete(CLUSTER_ROLES, "w")
        await seen(False)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_request_has_a_line_without_what_was_in_it(
    api: ApiServer, admin: Client, as_user: As, tmp_path: Path
) -> None:
    log = tmp_path / "requests.log"
    api.audit = Audit(log)
    await admin.create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"secret": "hush"}}, "default")
    with pytest.raises(Forbidden):
        await as_user("bob").list(PODS, "default")
    api.audit.close()
    created, listed = (json.loads(line) for line in log.read_text().splitlines())
    assert created["verb"] == "create"
    assert created["responseStatus"]["code"] == 201
    assert created["objectRef"] == {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
    assert listed["verb"] == "list"
    assert listed["responseStatus"]["code"] == 403
    assert listed["user"]["username"] == "bob"
    assert listed["level"] == "Metadata"
    assert "hush" not in log.read_text()


async def test_the_log_is_turned_over_at_its_size(api: ApiServer, admin: Client, tmp_path: Path) -> None:
    log = tmp_path / "requests.log"
    api.audit = Audit(log, most_bytes=2000, kept=2)
    for _ in range(30):
        await admin.list(PODS, "default")
    api.audit.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["requests.log", "requests.log.1", "requests.log.2"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    for path in tmp_path.iterdir():
        for line in path.read_text().splitlines():
            assert json.loads(line)["kind"] == "Event"


async def test_who_cannot_say_who_they_are_leaves_a_line_in_the_audit_log(
    api: ApiServer, tmp_path: Path
) -> None:
    log = tmp_path / "audit.log"
    api.audit = Audit(log)
    listening = await serve(api)
    stranger = HttpTransport(Connection(server=f"http://127.0.0.1:{listening.port}", token="made up"))
    try:
        answer = await stranger.send(Request(method="GET", path="/api/v1/pods"), timeout=5)
    finally:
        await stranger.aclose()
        await listening.stop()
        api.audit.close()
    (line,) = [json.loads(one) for one in log.read_bytes().splitlines()]
    assert answer.status == line["responseStatus"]["code"] == 401
    assert (line["user"], line["verb"], line["objectRef"]["resource"]) == ({}, "list", "pods")
