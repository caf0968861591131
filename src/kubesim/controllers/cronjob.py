"""Makes a Job each time a CronJob is due, as its concurrency policy allows, and keeps as many old ones as it says.

A time that was missed is made up for once: only the latest counts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from kubesim import clock
from kubesim.controllers import schedules
from kubesim.controllers.family import Family, Indexes, write_status
from kubesim.controllers.jobview import ended
from kubesim.controllers.objects import (
    condition,
    controlled_by,
    deleting,
    moment,
    seconds,
    status_of,
)
from kubesim.controllers.recorder import NORMAL, WARNING, Recorder
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import AlreadyExists
from kubewire.informer import Object
from kubewire.resources import CRON_JOBS, JOBS

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_LATE = 0.1  # seconds after the full minute, so that the clock has passed it


class CronJobController:
    """Keys are those of CronJobs."""

    name = "cron jobs"

    def __init__(self, client: Client, indexes: Indexes, *, now: Callable[[], datetime] = clock.now) -> None:
        self._client = client
        self._now = now
        self._crons = indexes.of(CRON_JOBS)
        self._jobs = indexes.of(JOBS)
        self._queue = WorkQueue()
        self._recorder = Recorder(client, "cronjob-controller", now=now)
        self._family = Family(client, self._crons, self._jobs, self._queue, self._recorder, orphans=False)
        self._crons.informer.subscribe(lambda change: self._queue.add(change.key))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._crons.informer.synced.wait()
        await self._jobs.informer.synced.wait()
        await work(self.name, self._queue, self.reconcile, workers=2)

    async def reconcile(self, key: str) -> float | None:
        """Look after the jobs of one cron job, and make the next one if it is time."""
        cron = self._crons.informer.get(key)
        if cron is None or not self._family.settled(key):
            return None
        jobs = self._jobs.owned(cron["metadata"]["uid"])
        status = await self._followed(cron, jobs)
        await self._forget(cron, jobs)
        wait = None
        if not deleting(cron) and not cron["spec"].get("suspend"):
            status, wait = await self._due(cron, jobs, status)
        if status != status_of(cron):
            await write_status(self._client, CRON_JOBS, cron, status)
        return wait

    async def _followed(self, cron: Object, jobs: list[Object]) -> Object:
        """The status with the jobs that are active now."""
        status = dict(status_of(cron))
        by_uid = {job["metadata"]["uid"]: job for job in jobs}
        left = []
        for one in status.get("active") or ():
            job = by_uid.get(one["uid"])
            if job is None:
                text = f"Active job went missing: {one['name']}"
                await self._recorder.say(CRON_JOBS, cron, NORMAL, "MissingJob", text)
            elif not ended(job):
                left.append(one)
            else:
                state = "Complete" if condition(job, "Complete") else "Failed"
                text = f"Saw completed job: {one['name']}, condition: {state}"
                await self._recorder.say(CRON_JOBS, cron, NORMAL, "SawCompletedJob", text)
        times = [status_of(job).get("completionTime") for job in jobs if condition(job, "Complete")]
        latest = max((one for one in times if one), default=None)
        if latest and latest > status.get("lastSuccessfulTime", ""):
            status["lastSuccessfulTime"] = latest
        status.pop("active", None)
        return {**status, "active": left} if left else status

    async def _forget(self, cron: Object, jobs: list[Object]) -> None:
        spec = cron["spec"]
        for kind, name in (("Complete", "successful"), ("Failed", "failed")):
            limit = spec.get(f"{name}JobsHistoryLimit")
            found = [job for job in jobs if ended(job) and condition(job, kind) and not deleting(job)]
            found.sort(key=lambda job: (status_of(job).get("startTime", ""), job["metadata"]["name"]))
            for job in found[: max(0, len(found) - limit)] if limit is not None else ():
                await self._remove(cron, job)

    async def _remove(self, cron: Object, job: Object) -> None:
        await self._family.delete(cron, job, quiet=True)
        text = f"Deleted job {job['metadata']['name']}"
        await self._recorder.say(CRON_JOBS, cron, NORMAL, "SuccessfulDelete", text)

    async def _due(self, cron: Object, jobs: list[Object], status: Object) -> tuple[Object, float | None]:
        spec, now = cron["spec"], self._now()
        schedule, zone = schedules.parse(spec["schedule"]), ZoneInfo(spec.get("timeZone") or "UTC")
        due = schedule.latest(since(cron, now), now, zone)
        following = schedule.next(now, zone)
        wait = None if following is None else (following - now).total_seconds() + _LATE
        if due is None:
            return status, wait
        name = f"{cron['metadata']['name']}-{int(due.timestamp()) // 60}"
        there = next((job for job in jobs if job["metadata"]["name"] == name), None)
        if there is not None:  # made by a look whose status could not be written
            return _started(status, there, due), wait
        active = [job for job in jobs if not ended(job)]
        policy = spec.get("concurrencyPolicy", "Allow")
        if policy == "Forbid" and active:
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            await self._recorder.say(CRON_JOBS, cron, NORMAL, "JobAlreadyActive", text)
            return status, wait
        if policy == "Replace":
            for job in active:
                await self._remove(cron, job)
            status = {key: value for key, value in status.items() if key != "active"}
        wanted = job_for(cron, name, due, zone)
        try:
            made = await self._family.create(cron, wanted, quiet=True)
        except AlreadyExists:
            text = f"Job {name} exists already and is not made by this cron job"
            await self._recorder.say(CRON_JOBS, cron, WARNING, "FailedCreate", text)
            return status, wait
        if made is None:
            return status, None
        await self._recorder.say(CRON_JOBS, cron, NORMAL, "SuccessfulCreate", f"Created job {name}")
        return _started(status, made, due), wait


def since(cron: Object, now: datetime) -> datetime:
    """From when on a missed time counts."""
    spec = cron["spec"]
    found = moment(status_of(cron).get("lastScheduleTime"))
    found = found or moment(cron["metadata"].get("creationTimestamp")) or now
    deadline = spec.get("startingDeadlineSeconds")
    return found if deadline is None else max(found, now - timedelta(seconds=deadline))


def job_for(cron: Object, name: str, due: datetime, zone: ZoneInfo) -> Object:
    """The job of one time."""
    template = cron["spec"]["jobTemplate"]
    made = template.get("metadata") or {}
    at = due.astimezone(zone).isoformat() if cron["spec"].get("timeZone") else seconds(due)
    metadata: Object = {
        "name": name,
        "namespace": cron["metadata"]["namespace"],
        "annotations": {**(made.get("annotations") or {}), SCHEDULED: at.replace("+00:00", "Z")},
        "ownerReferences": [controlled_by(CRON_JOBS, cron)],
    }
    if made.get("labels"):
        metadata["labels"] = made["labels"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}


def _started(status: Object, job: Object, due: datetime) -> Object:
    """The status after the job of a time was made."""
    known = status.get("active", [])
    if not ended(job) and all(one["uid"] != job["metadata"]["uid"] for one in known):
        status = {**status, "active": [*known, _reference(job)]}
    return {**status, "lastScheduleTime": seconds(due)}


def _reference(job: Object) -> Object:
    about = job["metadata"]
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "name": about["name"],
        "namespace": about["namespace"],
        "uid": about["uid"],
        "resourceVersion": about["resourceVersion"],
    }
