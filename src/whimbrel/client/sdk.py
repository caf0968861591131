"""The verbs of whimbrel as Python functions, and the handle of what they started.

`launch`, `exec`, `down`, `local_up` and `local_down` return a `Request` at once: the work goes on at the server,
whatever happens to this process. Reads return data. Every function starts the local API server when none runs.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from whimbrel.client import local
from whimbrel.client.follow import Frame, follow
from whimbrel.client.http import ConnectionLost, Http
from whimbrel.model.errors import WhimError, from_wire
from whimbrel.model.task import Task

if TYPE_CHECKING:  # it reads YAML, which most commands need not pay for
    from whimbrel.model.volume import Volume

_RETRIES = 3  # of one call, when the server goes away under it

Say = local.Say


def _silent(_: str) -> None:
    return


def _call(
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 20.0,
    say: Say = _silent,
) -> dict[str, Any]:
    """One call, repeated on the next server when this one goes away: reads are harmless, and what changes
    something carries an idempotency key or says "make it so"."""
    for attempt in range(_RETRIES):
        record = local.ensure(say)
        try:
            content = body() if callable(body) else body
            return Http(record.socket).call(method, path, content, headers=headers, timeout=timeout)
        except ConnectionLost:
            if attempt == _RETRIES - 1:
                raise
            time.sleep(0.1 * (attempt + 1))
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class Request:
    """Something that the server was asked to do, under its idempotency key."""

    id: str

    def events(self, after: int = 0, say: Say = _silent) -> Iterator[Frame]:
        """What happens, as frames, from event `after` on; the last one has kind `end`."""
        return follow(
            lambda position: f"/api/v1/requests/{self.id}/events?follow=1&after={position}",
            lambda frame: frame.get("idx"),
            after,
            say,
        )

    def result(self, on_event: Callable[[Frame], None] | None = None, say: Say = _silent) -> dict[str, Any]:
        """Wait for the end; the output, or the error raised."""
        for frame in self.events(say=say):
            if frame["kind"] != "end":
                if on_event:
                    on_event(frame)
                continue
            if frame.get("error"):
                raise from_wire(frame["error"])
            output: dict[str, Any] = frame.get("output") or {}
            return output
        raise AssertionError("a stream of events ends with an end frame")

    def show(self) -> dict[str, Any]:
        """The request as the server sees it now."""
        return _call("GET", f"/api/v1/requests/{self.id}")

    def cancel(self) -> None:
        """Ask the server to cancel it."""
        _call("POST", f"/api/v1/requests/{self.id}/cancel", {})


def _submit(path: str, body: Mapping[str, Any], say: Say = _silent) -> Request:
    key = str(uuid.uuid4())
    answer = _call("POST", path, dict(body), headers={"Idempotency-Key": key}, say=say)
    return Request(str(answer["request_id"]))


def _cluster_path(cluster: str, tail: str) -> str:
    return f"/api/v1/clusters/{quote(cluster, safe='')}/{tail}"


def plan(task: Task, cluster: str | None = None, say: Say = _silent) -> dict[str, Any]:
    """Where the task could run, what would be chosen, and the name that the cluster would have."""
    return _call("POST", "/api/v1/plan", {"task": task.to_wire(), "cluster": cluster}, say=say)


def launch(
    task: Task,
    cluster: str | None = None,
    *,
    down: bool = False,
    infra: str | None = None,
    files: Mapping[str, Any] | None = None,
    say: Say = _silent,
) -> Request:
    """Make a cluster (or use the one of that name), sync files, run `setup`, and queue the job.

    The request's output has `cluster` and `job_id`. `infra` is the place that a plan has chosen: it is tried first, and
    left for another one that `resources.infra` allows when it has no room or does not answer. `files` names what the
    server has already (`history` tells it): then nothing is read here.
    """
    name = cluster or str(plan(task, None, say)["cluster"])
    sent = dict(files) if files is not None else _upload(task, say)
    body = {"task": task.to_wire(), "files": sent, "down": down, "infra": infra}
    return _submit(_cluster_path(name, "launch"), body, say)


def exec(task: Task, cluster: str, *, say: Say = _silent) -> Request:
    """Queue a job on a cluster that is up: its workdir is synced, its setup is not run."""
    body = {"task": task.to_wire(), "files": _upload(task, say, mounts=False), "down": False, "infra": None}
    return _submit(_cluster_path(cluster, "exec"), body, say)


def _upload(task: Task, say: Say, mounts: bool = True) -> dict[str, Any]:
    if not task.workdir and not (mounts and task.file_mounts):
        return {"workdir": None, "mounts": {}}
    from whimbrel.client import files  # hashing and .gitignore rules, which most commands never need

    return files.upload(task.workdir, task.file_mounts if mounts else {}, _call, say)


def upload_workdir(directory: str, say: Say = _silent) -> str:
    """Give the server a directory; the name of its manifest, as `launch` takes it in `files`."""
    from whimbrel.client import files  # hashing and .gitignore rules, which most commands never need

    return str(files.upload(directory, {}, _call, say)["workdir"])


def down(cluster: str, *, purge: bool = False) -> Request:
    """Remove a cluster; forgets only what it saw gone. With `purge`, forgets in any case and keeps a tombstone."""
    return _submit(_cluster_path(cluster, "down"), {"purge": purge})


def stop(cluster: str) -> None:
    """Stop a cluster. No infrastructure of this version can: raises `Unsupported`, with what to do instead."""
    _call("POST", _cluster_path(cluster, "stop"))


def tombstones(*, reaped: bool = False) -> list[dict[str, Any]]:
    """What purges kept of clusters that were not seen gone; with `reaped` also of those that have been since."""
    found: list[dict[str, Any]] = _call("GET", f"/api/v1/tombstones?reaped={int(reaped)}")["tombstones"]
    return found


def leftovers(infra: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """What is really left of purged clusters, where it answers; each has `there`, or an `error`."""
    body = {"infra": list(infra) if infra else None}
    found: list[dict[str, Any]] = _call("POST", "/api/v1/tombstones/look", body)["tombstones"]
    return found


def reap(leftovers: Sequence[Mapping[str, Any]]) -> Request:
    """Remove these, which `leftovers` has found."""
    items = [{name: one[name] for name in ("uid", "infra", "kubeconfig")} for one in leftovers]
    return _submit("/api/v1/tombstones/reap", {"tombstones": items})


def history(reference: str) -> dict[str, Any]:
    """What a past cluster was launched with: by name, `NAME@ID`, or the id of a launch request."""
    return _call("GET", f"/api/v1/history/{quote(reference, safe='')}")


def events(
    cluster: str | None = None, *, limit: int = 50, follow_on: bool = False, say: Say = _silent
) -> Iterator[Frame]:
    """What happened to clusters, oldest first, as frames with `at`, `actor`, `cluster` and `text`; with `follow_on`
    also what happens next."""

    def path(since: int) -> str:
        query: dict[str, Any] = {"limit": limit, "follow": int(follow_on), "since_ms": since}
        return f"/api/v1/events?{urlencode(query | ({'name': cluster} if cluster else {}))}"

    shown: set[str] = set()
    for frame in follow(path, _moment, 0, say):
        if frame["kind"] == "event" and frame["key"] not in shown:
            shown.add(frame["key"])
            yield frame


def _moment(frame: Frame) -> int | None:
    return int(frame["at"] * 1000) if frame["kind"] == "event" else None


def status(clusters: Sequence[str] = (), *, refresh: bool = False) -> dict[str, Any]:
    """`clusters` as the database has them, and `errors` of infrastructure that a refresh could not reach."""
    query = [("name", name) for name in clusters] + ([("refresh", "1")] if refresh else [])
    return _call("GET", f"/api/v1/clusters?{urlencode(query)}")


def volumes_apply(volume: Volume, say: Say = _silent) -> Request:
    """Make a volume; done when there is one like it already."""
    name = quote(volume.name, safe="")
    return _submit(f"/api/v1/volumes/{name}/apply", {"volume": volume.to_wire()}, say)


def volumes_ls(*, refresh: bool = False) -> dict[str, Any]:
    """`volumes` as the database has them, and `errors` of infrastructure that a refresh could not reach."""
    return _call("GET", f"/api/v1/volumes{'?refresh=1' if refresh else ''}")


def volumes_delete(name: str, *, purge: bool = False) -> Request:
    """Delete a volume that no cluster has. With `purge`, forget it in any case."""
    return _submit(f"/api/v1/volumes/{quote(name, safe='')}/delete", {"purge": purge})


def queue(cluster: str) -> list[dict[str, Any]]:
    """The jobs of a cluster, newest first."""
    jobs: list[dict[str, Any]] = _call("GET", _cluster_path(cluster, "jobs"))["jobs"]
    return jobs


def cancel(cluster: str, job_ids: Sequence[int] | None = None, *, all: bool = False) -> list[int]:
    """Cancel jobs; without ids the newest one that has not ended. Returns the ids that will be cancelled."""
    body = {"job_ids": list(job_ids) if job_ids else None, "all": all}
    cancelled: list[int] = _call("POST", _cluster_path(cluster, "jobs/cancel"), body)["cancelled"]
    return cancelled


def logs(
    cluster: str,
    job_id: int | None = None,
    *,
    follow_log: bool = True,
    tail: int | None = None,
    say: Say = _silent,
) -> Iterator[Frame]:
    """What a job printed, also after `down`: frames of kind `log` with `text`, and at last one of kind `end`."""
    base = _cluster_path(cluster, f"jobs/{job_id or 'latest'}/logs")

    def path(offset: int) -> str:
        query: dict[str, int] = {"follow": int(follow_log), "offset": max(offset, 0)}
        if tail is not None and offset < 0:
            query["tail"] = tail
        return f"{base}?{urlencode(query)}"

    return follow(path, lambda frame: frame.get("offset"), -1 if tail is not None else 0, say)


def copy_to(source: Path, cluster: str, target: str) -> dict[str, Any]:
    """Copy a local file or directory to the first node of a cluster."""
    from whimbrel.client.tarstream import check_source, tar_stream

    check_source(source)
    left_out: list[str] = []

    def content() -> Iterator[bytes]:
        left_out.clear()
        return tar_stream(source, left_out)

    answer = _call(
        "PUT",
        _cluster_path(cluster, f"files?{urlencode({'path': target})}"),
        content,
        headers={"Content-Type": "application/x-tar"},
        timeout=3600.0,
    )
    return {**answer, "left_out": left_out}


def copy_from(cluster: str, source: str, target: Path) -> dict[str, Any]:
    """Copy a file or directory from the first node of a cluster to this machine; `left_out` names what is no file."""
    from whimbrel.client.tarstream import unpack

    record = local.ensure()
    pieces = Http(record.socket).download(_cluster_path(cluster, f"files?{urlencode({'path': source})}"))
    return unpack(pieces, source, target)


def check(infra: Sequence[str] | None = None, say: Say = _silent) -> list[dict[str, Any]]:
    """Which infrastructure can be used, and what is wrong with the rest."""
    results: list[dict[str, Any]] = check_all(infra, say)["results"]
    return results


def check_all(infra: Sequence[str] | None = None, say: Say = _silent) -> dict[str, Any]:
    """The same as `results`, and as `errors` what is wrong with the files that configure it."""
    return _call("POST", "/api/v1/check", {"infra": list(infra) if infra else None}, say=say)


def gpus(infra: Sequence[str] | None = None, say: Say = _silent) -> dict[str, Any]:
    """The accelerators of each infrastructure: `infras`, each with `machines`, `age` and `error`, and `errors` that
    belong to none of them."""
    return _call("POST", "/api/v1/gpus", {"infra": list(infra) if infra else None}, say=say)


def local_up(say: Say = _silent) -> Request:
    """Start the embedded Kubernetes on this machine."""
    return _submit("/api/v1/local/up", {}, say)


def local_down() -> Request:
    """Delete the embedded Kubernetes, and close the records of the clusters on it."""
    return _submit("/api/v1/local/down", {})


def requests(limit: int = 50) -> list[dict[str, Any]]:
    """The latest requests."""
    found: list[dict[str, Any]] = _call("GET", f"/api/v1/requests?limit={limit}")["requests"]
    return found


def api_info() -> dict[str, Any] | None:
    """What the running server tells of itself; None when none runs. Starts nothing."""
    return local.info()


def api_start(say: Say = _silent) -> dict[str, Any]:
    """Start the local API server when none answers."""
    local.ensure(say)
    found = local.info()
    if found is None:
        raise WhimError("The API server ended right after it started.", remedy="whim api logs")
    return found


def api_stop() -> bool:
    """Stop the local API server; work that it was doing is carried on by the next one."""
    return local.stop() is not None
