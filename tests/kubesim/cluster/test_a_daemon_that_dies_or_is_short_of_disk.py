"""A real daemon under load: killed without warning, and unable to write. What it has answered is kept."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kubesim.cluster.daemonfile import read_daemon_file
from kubesim.cluster.home import ClusterPaths, Home
from kubesim.kubelet.aftermath import wait_gone
from kubesim.kubelet.proc import Identity
from kubesim.store.database import DATABASE
from kubewire.client import Client
from kubewire.errors import ApiError, KubeError
from kubewire.opening import open_client
from kubewire.resources import CONFIG_MAPS
from kubewire.watch import ADDED, DELETED, MODIFIED, RELISTED

pytestmark = pytest.mark.anyio

LIMIT = 60.0
WRITERS = 16
LABELS = {"written": "yes"}


def do(*arguments: str) -> None:
    command = [sys.executable, "-m", "kubesim", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def paths(home: Home) -> Iterator[ClusterPaths]:
    do("create", "cluster", "--name", "c")
    yield home.cluster("c")
    do("delete", "cluster", "--name", "c", "--force")


def daemon_of(paths: ClusterPaths) -> Identity:
    found = read_daemon_file(paths.daemon)
    assert found is not None
    return found.process


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    opened = open_client("kubesim-c", paths=[Path(os.environ["KUBECONFIG"])])
    try:
        yield opened
    finally:
        await opened.aclose()


def configmap(name: str, data: str = "") -> dict[str, Any]:
    metadata = {"name": name, "labels": LABELS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"d": data}}


class Load:
    """Writers that create, change and delete, and remember what was answered: per object its newest revision, or
    None once its deletion was."""

    def __init__(self) -> None:
        self.answered: dict[str, int | None] = {}
        self.in_doubt: set[str] = set()
        self.newest = 0
        self._numbers = itertools.count()
        self._wanted = 0
        self._reached = asyncio.Event()

    async def reach(self, revision: int) -> None:
        """Wait until this revision has been answered."""
        self._wanted = revision
        self._reached.clear()
        await self._reached.wait()

    async def write(self, api: Client) -> None:
        """One writer, until the daemon is gone."""
        while True:
            name = f"o-{next(self._numbers)}"
            self.in_doubt.add(name)
            try:
                made = await api.create(CONFIG_MAPS, configmap(name), "default")
                self._note(name, made)
                made["data"] = {"d": "changed"}
                changed = await api.replace(CONFIG_MAPS, made, "default")
                self._note(name, changed)
                if self.newest % 3 == 0:
                    await api.delete(CONFIG_MAPS, name, "default")
                    self.answered[name] = None
            except KubeError:
                return
            self.in_doubt.discard(name)

    def _note(self, name: str, obj: dict[str, Any]) -> None:
        revision = int(obj["metadata"]["resourceVersion"])
        self.answered[name] = revision
        self.newest = max(self.newest, revision)
        if self.newest >= self._wanted:
            self._reached.set()


async def follow(api: Client, start: str, seen: list[tuple[int, str, str]], caught_up: asyncio.Event) -> None:
    """Watch over the deaths of the daemon, resuming at the last revision, until the object `end` appears."""
    watching = api.watch(CONFIG_MAPS, "default", label_selector="written", resource_version=start)
    async with aclosing(watching) as events:
        async for event in events:
            assert event.type != RELISTED, "the watch has lost its place"
            if event.type in (ADDED, MODIFIED, DELETED):
                metadata = event.object["metadata"]
                seen.append((int(metadata["resourceVersion"]), event.type, metadata["name"]))
                if metadata["name"] == "end":
                    caught_up.set()
                    return


async def test_kill_9_under_sixteen_writers_loses_nothing_and_watches_go_on_where_they_were(
    paths: ClusterPaths,
) -> None:
    load = Load()
    seen: list[list[tuple[int, str, str]]] = [[], []]
    async with client() as watching, asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        start = (await watching.list(CONFIG_MAPS, "default")).resource_version
        ends = [asyncio.Event() for _ in seen]
        for events, end in zip(seen, ends, strict=True):
            group.create_task(follow(watching, start, events, end))
        for _ in range(2):
            before = load.newest
            async with client() as api, asyncio.TaskGroup() as writers:
                for _ in range(WRITERS):
                    writers.create_task(load.write(api))
                await load.reach(before + 300)
                daemon = daemon_of(paths)
                daemon.send(signal.SIGKILL)
            assert await asyncio.to_thread(wait_gone, [daemon], 10) == []
            await asyncio.to_thread(do, "start", "cluster", "--name", "c")
            async with client() as api:
                await _check(api, load)
        async with client() as api:
            final = await api.create(CONFIG_MAPS, configmap("end"), "default")
            assert int(final["metadata"]["resourceVersion"]) > load.newest
            for end in ends:
                await end.wait()
            found = await api.list(CONFIG_MAPS, "default", label_selector="written")
    current = {one["metadata"]["name"]: int(one["metadata"]["resourceVersion"]) for one in found.items}
    assert seen[0] == seen[1]
    revisions = [revision for revision, _, _ in seen[0]]
    assert revisions == sorted(set(revisions)), "no repeat, and none out of order"
    assert _replayed(seen[0]) == current, "no gap"


async def _check(api: Client, load: Load) -> None:
    listed = await api.list(CONFIG_MAPS, "default", label_selector="written")
    found = {one["metadata"]["name"]: int(one["metadata"]["resourceVersion"]) for one in listed.items}
    for name, revision in load.answered.items():
        if name in load.in_doubt:  # the daemon died while the next write to it was under way
            assert revision is None or name not in found or found[name] >= revision
        else:
            assert found.get(name) == revision
    assert int(listed.resource_version) >= load.newest


def _replayed(events: list[tuple[int, str, str]]) -> dict[str, int]:
    state: dict[str, int] = {}
    for revision, type_, name in events:
        assert (name in state) == (type_ != ADDED)
        if type_ == DELETED:
            del state[name]
        else:
            state[name] = revision
    return state


@contextlib.contextmanager
def no_room(process: Identity, store: Path) -> Iterator[None]:
    """The daemon's files cannot grow beyond a size: the kernel refuses what is written behind it."""
    size = (store / DATABASE).stat().st_size + 200_000
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))


async def test_without_room_writes_are_refused_with_a_reason_and_reads_and_watches_go_on(
    paths: ClusterPaths,
) -> None:
    kept: dict[str, str] = {}
    seen: list[tuple[int, str, str]] = []
    async with client() as api, asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        start = (await api.list(CONFIG_MAPS, "default")).resource_version
        caught_up = asyncio.Event()
        group.create_task(follow(api, start, seen, caught_up))

        async def write(name: str) -> None:
            made = await api.create(CONFIG_MAPS, configmap(name, "x" * 20_000), "default")
            kept[name] = made["metadata"]["resourceVersion"]

        await write("first")
        with no_room(daemon_of(paths), paths.store):
            refusals: list[ApiError] = []
            number = itertools.count()
            while (
                len(refusals) < 5
            ):  # a refusal makes the store put its files in order: that may make room again
                try:
                    await write(f"until-it-is-full-{next(number)}")
                    refusals.clear()
                except ApiError as refusal:
                    refusals.append(refusal)
            assert {(refusal.code, refusal.reason) for refusal in refusals} == {(507, "InsufficientStorage")}
            assert "the disk refused the write" in str(refusals[0])
            assert "free space on the disk" in str(refusals[0])
            read = await api.get(CONFIG_MAPS, "first", "default")
            assert read["metadata"]["resourceVersion"] == kept["first"]
            listed = await api.list(CONFIG_MAPS, "default", label_selector="written")
            assert {one["metadata"]["name"] for one in listed.items} == set(kept)
        await write("end")
        await caught_up.wait()
    assert {(name, str(revision)) for revision, _, name in seen} == set(kept.items())

    daemon = daemon_of(paths)
    daemon.send(signal.SIGKILL)
    assert wait_gone([daemon], 10) == []
    do("start", "cluster", "--name", "c")
    async with client() as api:
        listed = await api.list(CONFIG_MAPS, "default", label_selector="written")
    assert {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in listed.items} == kept
