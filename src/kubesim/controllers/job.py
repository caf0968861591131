"""Runs a Job's pods until enough have succeeded, or too many failed, and counts each of them once.

What is to be done is decided in `jobview`; here it is done, in an order that survives a crash anywhere: pods are named
in the status before they lose their finalizer, and become numbers after it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from kubesim import clock
from kubesim.controllers.family import Family, Indexes, in_batches, write_status
from kubesim.controllers.jobpolicies import INDEX
from kubesim.controllers.jobview import FINALIZER, JobView, Target, ended, with_condition
from kubesim.controllers.objects import (
    condition,
    controller_of,
    deleting,
    pod_of,
    seconds,
    soonest,
    status_of,
)
from kubesim.controllers.recorder import NORMAL, WARNING, Recorder
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import KubeError, NotFound
from kubewire.informer import Change, Object
from kubewire.requests import PatchType
from kubewire.resources import JOBS, PODS

_OURS = "kubernetes.io/job-controller"
_INDEX_ENV = "JOB_COMPLETION_INDEX"


class JobController:
    """Keys are those of Jobs."""

    name = "jobs"

    def __init__(self, client: Client, indexes: Indexes, *, now: Callable[[], datetime] = clock.now) -> None:
        self._client = client
        self._now = now
        self._jobs = indexes.of(JOBS)
        self._pods = indexes.of(PODS)
        self._queue = WorkQueue()
        self._recorder = Recorder(client, "job-controller", now=now)
        self._family = Family(client, self._jobs, self._pods, self._queue, self._recorder)
        self._released: set[str] = (
            set()
        )  # uids of pods whose finalizer has gone, which the mirror shows still
        self._written: dict[str, int] = {}  # job -> version of our last write, while the mirror is older
        self._met: set[str] = (
            set()
        )  # keys whose job is new to us: one of the same name may have left pods behind
        self._jobs.informer.subscribe(self._job_changed)
        self._pods.informer.subscribe(self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._jobs.informer.synced.wait()
        await self._pods.informer.synced.wait()
        await work(self.name, self._queue, self.reconcile, workers=5)

    def _job_changed(self, change: Change) -> None:
        if change.new is None or _version(change.new) >= self._written.get(change.key, 0):
            self._written.pop(change.key, None)
        if change.old is None:
            self._met.add(change.key)
        self._queue.add(change.key)

    def _pod_changed(self, change: Change) -> None:
        if self._released and (change.new is None or not _tracked(change.new)):
            self._released.discard(change.object["metadata"]["uid"])

    async def reconcile(self, key: str) -> float | None:
        """Bring one job further."""
        job = self._jobs.informer.get(key)
        if job is None or ended(job) or deleting(job):
            await self._let_go(key, job)
            return None
        if key in self._met:
            self._met.discard(key)
            await self._let_go(key, None, but=job["metadata"]["uid"])
        if job["spec"].get("managedBy", _OURS) != _OURS or key in self._written:
            return None
        pods = await self._family.claim(job)
        view = JobView(job, pods, self._now(), released=self._released)
        target = view.target()
        failure: KubeError | None = None
        running, leaving, waits = len(view.active), len(view.terminating), [view.deadline_left()]
        try:
            if target is not None:
                await in_batches(running, lambda at: self._family.delete(job, view.active[at]))
                leaving, running = leaving + running, 0
            elif self._family.settled(key):
                running, wait = await self._manage(view)
                waits.append(wait)
        except KubeError as error:
            failure = error
        status = self._begun(view, view.counted(active_now=running, terminating_now=leaving))
        await self._account(key, view, status, target)
        if failure is not None:
            raise failure
        return soonest(waits)

    async def _manage(self, view: JobView) -> tuple[int, float | None]:
        """Make and delete pods; returns how many are active now, and when to look again."""
        gone = view.surplus()
        for pod in gone:
            await self._release(pod)  # it is not its failure
            await self._family.delete(view.job, pod)
        running, missing, wait = len(view.active) - len(gone), view.missing(), None
        if gone or missing == 0:
            return running, None
        delay = view.delay()
        if view.failed_indexes is None and delay > 0:
            return running, delay
        if view.indexed:
            indexes = view.open_indexes(missing)
            wait = delay if delay > 0 else None
            made = await in_batches(
                len(indexes), lambda at: self._family.create(view.job, pod_for(view, indexes[at]))
            )
        else:
            made = await in_batches(missing, lambda _: self._family.create(view.job, pod_for(view, None)))
        return running + made, wait

    def _begun(self, view: JobView, status: Object) -> Object:
        """The status with the time of the start, and whether it is suspended."""
        made, now = dict(status), self._now()
        found = condition(view.job, "Suspended")
        if view.suspended:
            made.pop("startTime", None)
            return with_condition(made, "Suspended", "True", "JobSuspended", "Job suspended", now)
        if found is not None and found["status"] == "True":
            made["startTime"] = seconds(now)
            return with_condition(made, "Suspended", "False", "JobResumed", "Job resumed", now)
        made.setdefault("startTime", seconds(now))
        return made

    async def _account(self, key: str, view: JobView, status: Object, target: Target | None) -> None:
        now = self._now()
        job, before = view.job, status_of(view.job)
        status, free = view.flushed(status, target)
        if target is not None:
            status = with_condition(status, target.early, "True", target.reason, target.message, now)
        if free or target is not None:
            job = await self._write(key, job, status)
        for pod in free:
            await self._release(pod)
        held = {pod["metadata"]["uid"] for pod in view.held} - {pod["metadata"]["uid"] for pod in free}
        status = view.settled(status, held)
        over = target is not None and not status.get("active") and not status["terminating"] and not held
        if target is not None and over:
            status = with_condition(status, target.final, "True", target.reason, target.message, now)
            if target.success:
                status["completionTime"] = seconds(now)
        await self._write(key, job, status)
        await self._tell(job, before, status, target if over else None)

    async def _write(self, key: str, job: Object, status: Object) -> Object:
        if status == status_of(job):
            return job
        made = await write_status(self._client, JOBS, job, status)
        seen = self._jobs.informer.get(key)
        if seen is not None and _version(seen) < _version(made):
            self._written[key] = _version(made)
        return made

    async def _tell(self, job: Object, before: Object, after: Object, end: Target | None) -> None:
        def suspended(status: Object) -> str | None:
            found = [one for one in status.get("conditions") or () if one["type"] == "Suspended"]
            return str(found[0]["status"]) if found else None

        if suspended(before) != suspended(after):
            reason, text = (
                ("Suspended", "Job suspended") if suspended(after) == "True" else ("Resumed", "Job resumed")
            )
            await self._recorder.say(JOBS, job, NORMAL, reason, text)
        if end is not None and end.success:
            await self._recorder.say(JOBS, job, NORMAL, "Completed", "Job completed")
        elif end is not None:
            await self._recorder.say(JOBS, job, WARNING, end.reason, end.message)

    async def _let_go(self, key: str, job: Object | None, *, but: str = "") -> None:
        """Nobody counts these pods any more: they need not wait to be counted."""
        namespace, _, name = key.partition("/")
        uid = job["metadata"]["uid"] if job is not None else None
        for pod in self._pods.owned(uid) if uid else self._pods.within(namespace):
            by = controller_of(pod)
            mine = by is not None and by["kind"] == JOBS.kind and by["name"] == name and by["uid"] != but
            if mine and _tracked(pod) and pod["metadata"]["uid"] not in self._released:
                await self._release(pod)

    async def _release(self, pod: Object) -> None:
        if not _tracked(pod):
            return
        about = pod["metadata"]
        patch = {"metadata": {"uid": about["uid"], "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        self._released.add(about["uid"])
        try:
            await self._client.patch(PODS, about["name"], patch, about["namespace"], type=PatchType.STRATEGIC)
        except NotFound:
            pass  # gone, which is as good
        except KubeError:
            self._released.discard(about["uid"])
            raise
        seen = self._pods.informer.get(f"{about['namespace']}/{about['name']}")
        if seen is None or not _tracked(seen):
            self._released.discard(about["uid"])


def _tracked(pod: Object) -> bool:
    return FINALIZER in pod["metadata"].get("finalizers", ())


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


def pod_for(view: JobView, index: int | None) -> Object:
    """A new pod of the job, of an index if it has them."""
    pod = pod_of(view.spec["template"], JOBS, view.job)
    metadata = pod["metadata"]
    metadata["finalizers"] = [*metadata.get("finalizers", ()), FINALIZER]
    if index is None:
        return pod
    name = f"{view.job['metadata']['name']}-{index}"
    metadata["generateName"] = f"{name}-"
    metadata["annotations"] = {
        **metadata.get("annotations", {}),
        INDEX: str(index),
        **view.marks(index),
    }
    metadata["labels"] = {**metadata.get("labels", {}), INDEX: str(index)}
    spec = pod["spec"]
    spec["hostname"] = name
    for group in ("initContainers", "containers"):
        if spec.get(group):
            spec[group] = [_knowing_its_index(one) for one in spec[group]]
    return pod


def _knowing_its_index(container: Object) -> Object:
    env = container.get("env") or []
    if any(one["name"] == _INDEX_ENV for one in env):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*env, {"name": _INDEX_ENV, "valueFrom": source}]}
