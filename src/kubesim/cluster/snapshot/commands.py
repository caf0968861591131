"""`snapshot save`, `restore` and `export`: what is done to which cluster, running or not.

The full form is the whole store at one revision. It is taken from a daemon without stopping anything, or read from a
stopped cluster; to restore it the daemon is ended for a moment, the store replaced in one step, and the daemon started
again. The form of objects goes over the API and needs a running cluster, whose controllers stand still meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import yaml

from kubesim.apiserver import snapshotting
from kubesim.apiserver.app import SNAPSHOT, ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.apiserver.snapshotting import SnapshotUnreadable
from kubesim.cluster import contexts, control
from kubesim.cluster import create as creating
from kubesim.cluster.errors import (
    ApiFailed,
    ClusterConflict,
    ClusterNotFound,
    RuntimeUnavailable,
    SnapshotIncomplete,
    SnapshotRefused,
)
from kubesim.cluster.files import command_lock
from kubesim.cluster.home import PAUSE, ClusterPaths, Home
from kubesim.cluster.inspect import Facts, State, look
from kubesim.cluster.record import ClusterRecord, StoreKind
from kubesim.cluster.snapshot import files, saving
from kubesim.cluster.snapshot.restoring import Outcome, Restore
from kubesim.store import StoreError, open_store, replace_store
from kubewire.client import Client
from kubewire.errors import KubeError
from kubewire.opening import open_client
from kubewire.requests import Request

Say = Callable[[str], None]

_READY = 30.0
_SHOWN = 20


def save(home: Home, name: str, path: Path, form: str, wanted: Sequence[str]) -> None:
    """Write what the cluster holds to the file."""
    paths = home.cluster(name)
    facts, record = _cluster(paths)
    if wanted and form == files.FULL:
        raise SnapshotRefused(
            "The full form has all objects.", remedy="Choose kinds with: --format k8s --filter ..."
        )
    with _as_ours():
        if facts.daemon:
            asyncio.run(_save_running(paths, record, path, form, wanted))
            return
        if record.store is StoreKind.MEMORY:
            raise SnapshotRefused(
                f"Cluster {name!r} does not run, and its objects were in memory only: there is nothing to save.",
                remedy=f"Start it: kubesim start cluster --name {name}",
            )
        with command_lock(paths):
            asyncio.run(_save_stopped(paths, path, form, wanted))


def export(
    path: Path, wanted: Sequence[str], *, context: str | None, kubeconfig: Path | None, page_size: int
) -> None:
    """Write the objects of any cluster that a kubeconfig leads to."""

    async def run() -> None:
        async with open_client(context, paths=[kubeconfig] if kubeconfig else None) as client:
            files.write_objects(path, await saving.collect(client, wanted, page_size=page_size))

    with _as_ours():
        asyncio.run(run())


def restore(home: Home, name: str, path: Path, wanted: Sequence[str], say: Say) -> None:
    """Bring back what the file holds, whichever form it has."""
    paths = home.cluster(name)
    if files.form_of(path) == files.FULL:
        if wanted:
            raise SnapshotRefused(
                f"{path} is a full snapshot, which is restored whole.", remedy="Leave out --filter."
            )
        _restore_full(home, paths, path, say)
        return
    objects = _filtered(files.read_objects(path), wanted, path)
    facts, record = _cluster(paths)
    if not facts.daemon:
        raise ClusterConflict(
            f"Cluster {name!r} does not run; objects are restored over its API.",
            remedy=f"Start it first: kubesim start cluster --name {name}",
        )
    with _as_ours():
        outcome = asyncio.run(_restore_objects(paths, record, objects))
    say(f"Restored {outcome.made + outcome.replaced} objects, of which {outcome.replaced} were there before.")
    if outcome.problems:
        shown = outcome.problems[:_SHOWN]
        more = len(outcome.problems) - len(shown)
        raise SnapshotIncomplete(
            f"{len(outcome.problems)} of {len(objects)} objects were not restored as they were:\n  "
            + "\n  ".join(shown)
            + (f"\n  and {more} more" if more else ""),
            remedy="What is there stays; the command can be repeated.",
        )


def refuse_unusable(path: Path, store: StoreKind) -> None:
    """Refuse, before a cluster is made for it, a file that cannot be restored into it."""
    if files.form_of(path) == files.FULL and store is StoreKind.MEMORY:
        raise _not_in_memory(path)


def _not_in_memory(path: Path) -> SnapshotRefused:
    return SnapshotRefused(
        f"{path} is a full snapshot, which becomes the data of a durable store; "
        "the cluster keeps its objects in memory.",
        remedy="Save with --format k8s, or create the cluster with --store durable.",
    )


def _filtered(objects: list[files.JsonObject], wanted: Sequence[str], path: Path) -> list[files.JsonObject]:
    """By kind, as far as a file can tell: singular or plural, any case."""
    if not wanted:
        return objects
    names = {name.lower() for name in wanted}
    kept = [obj for obj in objects if names & {obj["kind"].lower(), _plural(obj["kind"].lower())}]
    if not kept:
        kinds = ", ".join(sorted({obj["kind"] for obj in objects}))
        raise SnapshotRefused(
            f"{path} holds nothing of the kinds {', '.join(wanted)}.", remedy=f"It holds: {kinds}"
        )
    return kept


def _plural(kind: str) -> str:
    if kind.endswith(("s", "x", "ch", "sh")):
        return kind if kind == "endpoints" else f"{kind}es"
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def _cluster(paths: ClusterPaths, *, whatever_store: bool = False) -> tuple[Facts, ClusterRecord]:
    facts = look(paths)
    problems = [one for one in facts.problems if not (whatever_store and str(paths.store) in one)]
    if facts.state is State.ABSENT:
        raise ClusterNotFound(
            f"There is no cluster {paths.name!r}.", remedy="See what there is: kubesim get clusters"
        )
    if problems or facts.record is None:
        raise RuntimeUnavailable(
            f"Cluster {paths.name!r} is not available: " + "; ".join(problems) + ". Nothing was changed.",
            remedy="See what there is: kubesim get clusters",
        )
    if facts.state in (State.CREATING, State.DELETING):
        raise ClusterConflict(
            f"Cluster {paths.name!r} is {facts.state.lower()}; that command was interrupted.",
            remedy="Repeat that command first.",
        )
    return facts, facts.record


@contextlib.asynccontextmanager
async def _client(paths: ClusterPaths, record: ClusterRecord) -> AsyncIterator[Client]:
    with tempfile.TemporaryDirectory(prefix="kubesim-") as directory:
        file = Path(directory) / "kubeconfig"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(contexts.whole(paths, record)))
        async with open_client(paths.context, paths=[file]) as client:
            yield client


async def _save_running(
    paths: ClusterPaths, record: ClusterRecord, path: Path, form: str, wanted: Sequence[str]
) -> None:
    async with _client(paths, record) as client:
        if form == files.OBJECTS:
            files.write_objects(path, await saving.collect(client, wanted))
            return
        request = Request(method="GET", path=SNAPSHOT)
        bounds = client.deadlines
        async with client.transport.stream(request, connect=bounds.read, idle=bounds.page) as stream:
            if stream.status != 200:
                raise ApiFailed(
                    f"The daemon of cluster {paths.name!r} gives no snapshots (it answered {stream.status}).",
                    remedy=f"Start it anew: kubesim stop cluster --name {paths.name}, then kubesim start cluster",
                )
            with files.writing(path) as file:
                tail = b""
                async for chunk in stream.chunks():
                    file.write(chunk)
                    tail = (tail + chunk)[-200:]
                if not tail.rpartition(b"\n{")[2].startswith(b'"objects":'):
                    raise ApiFailed(
                        "The daemon ended before the snapshot was whole.", remedy="Repeat the command."
                    )


async def _save_stopped(paths: ClusterPaths, path: Path, form: str, wanted: Sequence[str]) -> None:
    store = open_store("durable", paths.store)
    api = ApiServer(store)
    try:
        await api.start()
        if form == files.OBJECTS:
            client = Client(InProcessTransport(api, user="system:admin"))
            files.write_objects(path, await saving.collect(client, wanted))
            return
        with files.writing(path) as file:
            async for chunk in snapshotting.lines(api.core):
                file.write(chunk)
    finally:
        api.drain()
        await store.close()


def _restore_full(home: Home, paths: ClusterPaths, path: Path, say: Say) -> None:
    try:
        with files.reading(path) as file:
            snapshot = snapshotting.read(file)
    except SnapshotUnreadable as error:
        raise SnapshotRefused(f"{path} is not a whole snapshot: {error}. Nothing was changed.") from None
    with command_lock(paths):
        facts, record = _cluster(paths, whatever_store=True)
        if record.store is StoreKind.MEMORY:
            raise _not_in_memory(path)
        if facts.daemon and not control.stop(facts.daemon, force=False):
            raise RuntimeUnavailable(
                f"The daemon of cluster {paths.name!r} (process {facts.daemon.pid}) does not end. Nothing was changed.",
                remedy=f"Make it end: kubesim stop cluster --name {paths.name} --force",
            )
        with _as_ours():
            replace_store(paths.store, snapshot.objects, snapshot.revision)
    say(f"Restored {len(snapshot.objects)} objects as they were at revision {snapshot.revision}.")
    if facts.daemon:
        creating.start(home, paths.name, _READY, say)


async def _restore_objects(
    paths: ClusterPaths, record: ClusterRecord, objects: Sequence[files.JsonObject]
) -> Outcome:
    async with _client(paths, record) as client:
        request = Request(method="POST", path=PAUSE)
        bounds = client.deadlines
        async with client.transport.stream(request, connect=bounds.change, idle=bounds.page) as held:
            chunks = held.chunks()
            if held.status != 200 or b"paused" not in await anext(chunks, b""):
                raise ApiFailed(f"The controllers of cluster {paths.name!r} could not be held.")
            return await Restore(client).run(objects)


@contextlib.contextmanager
def _as_ours() -> Iterator[None]:
    """Errors of the API and of the store as errors of a command."""
    try:
        yield
    except KubeError as error:
        raise ApiFailed(error.message, remedy=error.remedy) from error
    except StoreError as error:
        raise RuntimeUnavailable(str(error), remedy=error.remedy) from error
