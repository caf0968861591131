"""`down` and `down --purge` on every kind of broken infrastructure, all at the same time: each within its bound."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from kubewire.testing import broken
from whimbrel.infra.base import Thing
from whimbrel.infra.registry import Infras
from whimbrel.jobs import records
from whimbrel.jobs.logstore import LogStore
from whimbrel.jobs.vault import Vault
from whimbrel.model.errors import DependencyMissing, from_wire
from whimbrel.model.exitcodes import ExitCode
from whimbrel.operations.blobs import BlobStore
from whimbrel.operations.down import Down
from whimbrel.operations.tools import Tools
from whimbrel.requests.engine import Engine
from whimbrel.store import audit, clusters, things, tombstones
from whimbrel.store.engine import Store
from whimbrel.store.requests import Request

pytestmark = pytest.mark.anyio

ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        kind: (kind, {})
        for kind in (
            "silent", "slow-tls", "unaccepted", "refused", "reset", "closed", "drip", "garbage", "html", "truncated",
            "untrusted-certificate", "expired-certificate", "plain-on-tls", "dns",
        )
    },
    **{f"status-{code}": ("status", {"code": code}) for code in (401, 403, 429, 500, 503)},
}  # fmt: skip
PLUGINS = {
    "plugin-hangs": [sys.executable, "-c", "import time; time.sleep(600)"],
    "plugin-missing": ["/no/such/credential-plugin"],
    "plugin-fails": [sys.executable, "-c", "raise SystemExit('log in first')"],
}


CODES = {"plugin-missing": ExitCode.DEPENDENCY_MISSING}
"""Exit codes other than "it did not answer"."""


class NoWaiters:
    """Nobody keeps jobs here."""

    def wake(self, uid: str) -> None:
        return


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A server's parts, without the server."""

    store: Store
    engine: Engine
    places: Infras

    async def down(self, name: str, *, purge: bool = False) -> tuple[Request, float]:
        """The request at its end, and the seconds that it took."""
        began = time.monotonic()
        body = {"cluster": name, "purge": purge, "origin": "here"}
        request = await self.engine.submit(records.DOWN, records.subject(name), body, "me")
        return await self.engine.wait(request.id), time.monotonic() - began


@asynccontextmanager
async def desk(folder: Path, places: Infras) -> AsyncIterator[Desk]:
    """The request engine with `down`, over these places."""
    with Store.open(folder / "state.db") as store:
        blobs, logs = BlobStore(folder / "blobs"), LogStore(folder / "logs")
        tools = Tools(
            store=store,
            places=places,
            blobs=blobs,
            vault=Vault(folder / "secrets"),
            logs=logs,
            jobs=NoWaiters(),
        )
        engine = Engine(store, {records.DOWN: Down(tools)}, workers=100)
        await engine.start(alone=True)
        try:
            yield Desk(store=store, engine=engine, places=places)
        finally:
            await engine.stop()
            await places.aclose()
            blobs.close()
            logs.close()


def kubeconfig(path: Path, endpoints: Mapping[str, str]) -> Path:
    """A context for each endpoint and plugin, and a second one of the same (`again-`), with a breaker of its own."""
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [],
        "users": [],
        "contexts": [],
    }
    for name, url in endpoints.items():
        unchecked = name not in ("untrusted-certificate", "expired-certificate") and url.startswith("https")
        cluster = {"server": url, **({"insecure-skip-tls-verify": True} if unchecked else {})}
        user: dict[str, Any] = {"token": "t"}
        if name in PLUGINS:
            command, *args = PLUGINS[name]
            api = "client.authentication.k8s.io/v1"
            user = {"exec": {"apiVersion": api, "command": command, "args": args, "interactiveMode": "Never"}}
        config["clusters"].append({"name": name, "cluster": cluster})
        config["users"].append({"name": name, "user": user})
        for context in (name, f"again-{name}"):
            config["contexts"].append({"name": context, "context": {"cluster": name, "user": name}})
    path.write_text(json.dumps(config))
    return path


def record(connection: Connection, context: str, config: Path) -> None:
    """A cluster that was made in a context, and its ledger."""
    uid = f"{abs(hash(context)):032x}"
    clusters.add(
        connection, uid=uid, name=context, infra=f"k8s/{context}", kubeconfig=[str(config)], identity="was here",
        num_nodes=1, shape={"cpus": 1}, task={"run": "x"}, user="me", now=1.0, namespace="default",
    )  # fmt: skip
    name = f"{context}-{uid[:8]}-0"
    thing = Thing(token=f"k8s/{context}/Pod/default/{name}/{uid}", kind="Pod", name=name, namespace="default")
    things.intend(connection, [thing], subject=records.subject(context), request="r", now=1.0)


async def test_down_refuses_and_purge_forgets_within_their_bounds_whatever_is_broken(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        urls = {
            name: await stack.enter_async_context(broken(kind, **options))
            for name, (kind, options) in ENDPOINTS.items()
        }
        urls |= dict.fromkeys(PLUGINS, urls["silent"])
        config = kubeconfig(tmp_path / "kubeconfig", urls)
        names = [*urls, "gone"]
        server = await stack.enter_async_context(desk(tmp_path, Infras(["sh"])))
        for name in names:
            await server.store.write(lambda connection, name=name: record(connection, name, config))  # type: ignore[misc]
            await server.store.write(
                lambda connection, name=name: record(connection, f"again-{name}", config)  # type: ignore[misc]
            )
        refused, fresh = await asyncio.gather(
            asyncio.gather(*(server.down(name) for name in names)),
            asyncio.gather(*(server.down(f"again-{name}", purge=True) for name in names)),
        )
        for name, (request, seconds) in zip(names, refused, strict=True):
            assert request.error is not None, name
            error = from_wire(request.error)
            assert seconds < 10, (name, seconds)
            assert "its record is kept" in error.message, name
            assert f"whim down --purge {name}" in (error.remedy or ""), name
            assert error.exit_code is CODES.get(name, ExitCode.UNREACHABLE), (name, error)
        left = {row.name for row in await server.store.read(clusters.list_open)}
        assert left == set(names), "what was refused is kept, what was purged is not"
        known = await asyncio.gather(*(server.down(name, purge=True) for name in names))
        for name, (request, seconds) in (*zip(names, fresh, strict=True), *zip(names, known, strict=True)):
            assert request.output is not None, (name, request.error)
            assert request.output["outcome"] == "forgotten", name
            assert len(request.output["left"]) == 1, name
            assert seconds < 10, (name, seconds)
        for name, (_, seconds) in zip(names, known, strict=True):
            if not name.startswith("plugin") and not name.startswith("status"):
                assert seconds < 2, (name, seconds)
        stones = await server.store.read(tombstones.standing)
        assert {stone.name for stone in stones} == {*names, *(f"again-{name}" for name in names)}
        lines = await server.store.read(lambda connection: audit.newest(connection, limit=1000))
        assert len(lines) == 3 * len(names), (
            "a line for each deletion, whether it was done, refused or forced"
        )
        assert {line.data["origin"] for line in lines} == {"here"}


class NeedsAPackage(Infras):
    """Places of an infrastructure whose package is not installed."""

    async def get(self, infra: str, kubeconfig: Any = ()) -> Any:
        raise DependencyMissing("This needs the package x.", remedy="pip install 'whimbrel[x]'")


class Broken(Infras):
    """Places that fail in a way that nobody has thought of."""

    async def get(self, infra: str, kubeconfig: Any = ()) -> Any:
        raise ZeroDivisionError("a bug")


@pytest.mark.parametrize(("places", "words"), [(NeedsAPackage, "pip install"), (Broken, "a bug")])
async def test_not_even_a_missing_package_or_a_bug_keeps_a_record_from_being_purged(
    places: type[Infras], words: str, tmp_path: Path
) -> None:
    async with desk(tmp_path, places(["sh"])) as server:
        await server.store.write(lambda connection: record(connection, "c", tmp_path / "kubeconfig"))
        request, _ = await server.down("c")
        assert request.error is not None
        assert words in f"{request.error['message']} {request.error['remedy']}"
        assert [row.name for row in await server.store.read(clusters.list_open)] == ["c"]
        request, _ = await server.down("c", purge=True)
        assert request.output is not None
        assert request.output["outcome"] == "forgotten"
        assert await server.store.read(clusters.list_open) == []
