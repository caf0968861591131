"""What is to become of a Job: counted pods, open indexes, and whether it has reached an end. Pure.

A pod counts once, however often it is looked at: `uncountedTerminatedPods` names those that have ended and still
carry the tracking finalizer. Their numbers are added when the finalizer has gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kubesim.controllers import jobpolicies
from kubesim.controllers.jobpolicies import index_of
from kubesim.controllers.objects import (
    active,
    annotations_of,
    condition,
    deleting,
    finished,
    moment,
    phase,
    ready,
    seconds,
    status_of,
    terminating,
)
from kubewire.informer import Object

FINALIZER = "batch.kubernetes.io/job-tracking"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
_FIRST_DELAY, _LAST_DELAY = 10.0, 600.0
MOST_PODS = 500


@dataclass(frozen=True, slots=True)
class Target:
    """The end that a job has reached, and why."""

    success: bool
    reason: str
    message: str

    @property
    def early(self) -> str:
        """The condition that says it first."""
        return "SuccessCriteriaMet" if self.success else "FailureTarget"

    @property
    def final(self) -> str:
        """The condition that says that nothing runs any more."""
        return "Complete" if self.success else "Failed"


def parse_indexes(text: str | None) -> set[int]:
    """`0,2-4` as numbers."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return found


def shown_indexes(indexes: Iterable[int]) -> str:
    """Numbers as `0,2-4`; two in a row are written as two."""
    parts: list[list[int]] = []
    for one in sorted(indexes):
        if parts and parts[-1][-1] == one - 1:
            parts[-1].append(one)
        else:
            parts.append([one])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 2 else ",".join(map(str, part)) for part in parts)


def ended(job: Object) -> bool:
    """Whether the job is Complete or Failed."""
    found = (condition(job, kind) for kind in ("Complete", "Failed"))
    return any(one is not None and one["status"] == "True" for one in found)


class JobView:
    """One look at a job with its pods; `released` are those whose finalizer we know to be gone."""

    def __init__(
        self, job: Object, pods: Iterable[Object], now: datetime, *, released: Collection[str] = ()
    ) -> None:
        self.job = job
        self.spec: dict[str, Any] = job["spec"]
        self.status = status_of(job)
        self.now = now
        self.pods = list(pods)
        self.indexed = self.spec.get("completionMode") == "Indexed"
        self.completions: int | None = self.spec.get("completions")
        self.parallelism = int(self.spec.get("parallelism", 1))
        self.suspended = bool(self.spec.get("suspend"))
        self.active = [pod for pod in self.pods if active(pod)]
        self.terminating = [pod for pod in self.pods if terminating(pod)]
        self.held = [
            pod
            for pod in self.pods
            if FINALIZER in pod["metadata"].get("finalizers", ()) and pod["metadata"]["uid"] not in released
        ]
        uncounted = self.status.get("uncountedTerminatedPods") or {}
        self.pending_succeeded: list[str] = list(uncounted.get("succeeded") or ())
        self.pending_failed: list[str] = list(uncounted.get("failed") or ())
        self.new_succeeded = [
            pod
            for pod in self.held
            if phase(pod) == "Succeeded" and self._is_new(pod) and self._numbered(pod)
        ]
        self.new_failed = [
            pod for pod in self.held if self.failed_pod(pod) and self._is_new(pod) and self._numbered(pod)
        ]
        self.succeeded_indexes = parse_indexes(self.status.get("completedIndexes")) if self.indexed else set()
        if self.indexed:
            self.succeeded_indexes |= {index_of(pod) for pod in self.new_succeeded}
            self.succeeded_indexes = {one for one in self.succeeded_indexes if one < (self.completions or 0)}
        self.failed_indexes = self._failed_indexes()

    @property
    def replaces_only_failed(self) -> bool:
        """Whether a pod that is being deleted keeps its place until it has ended."""
        return self.spec.get("podReplacementPolicy") == "Failed"

    def failed_pod(self, pod: Object) -> bool:
        """Whether the pod counts as failed."""
        if phase(pod) == "Failed" or self.replaces_only_failed:
            return phase(pod) == "Failed"
        return deleting(pod) and phase(pod) != "Succeeded"

    def _is_new(self, pod: Object) -> bool:
        uid = pod["metadata"]["uid"]
        return uid not in self.pending_succeeded and uid not in self.pending_failed

    def _numbered(self, pod: Object) -> bool:
        return not self.indexed or 0 <= index_of(pod) < (self.completions or 0)

    @property
    def succeeded(self) -> int:
        """How many have succeeded, those that are not counted yet with them."""
        if self.indexed:
            return len(self.succeeded_indexes)
        waiting = len(self.pending_succeeded) + len(self.new_succeeded)
        return int(self.status.get("succeeded", 0)) + waiting

    @property
    def failed(self) -> int:
        """How many have failed and count against the limit."""
        new = [pod for pod in self.new_failed if not jobpolicies.ignored(self.spec, pod)]
        return int(self.status.get("failed", 0)) + len(self.pending_failed) + len(new)

    def _failed_indexes(self) -> set[int] | None:
        limit = self.spec.get("backoffLimitPerIndex")
        if limit is None:
            return None
        found = parse_indexes(self.status.get("failedIndexes"))
        for pod in self.new_failed:
            action = jobpolicies.action(self.spec, pod)
            if action == "FailIndex" or (action != "Ignore" and _number(pod, FAILURES) + 1 > limit):
                found.add(index_of(pod))
        return {one for one in found if one < (self.completions or 0)} - self.succeeded_indexes

    def target(self) -> Target | None:
        """The end that has been reached, now or before."""
        for kind, success in (("FailureTarget", False), ("SuccessCriteriaMet", True)):
            found = condition(self.job, kind)
            if found is not None and found["status"] == "True":
                return Target(success, found.get("reason", ""), found.get("message", ""))
        return self._failure() or self._success()

    def _failure(self) -> Target | None:
        for pod in self.new_failed:
            text = jobpolicies.fails_job(self.spec, pod)
            if text:
                return Target(False, "PodFailurePolicy", text)
        limit = self.spec.get("backoffLimit", 6)
        over = self.failed > limit and (self.new_failed or self.pending_failed)
        if over or self._restarts_exceed(limit):
            text = "Job has reached the specified backoff limit"
            return Target(False, "BackoffLimitExceeded", text)
        left = self.deadline_left()
        if left is not None and left <= 0:
            text = "Job was active longer than specified deadline"
            return Target(False, "DeadlineExceeded", text)
        most = self.spec.get("maxFailedIndexes")
        if self.failed_indexes and most is not None and len(self.failed_indexes) > most:
            text = "Job has exceeded the specified maximal number of failed indexes"
            return Target(False, "MaxFailedIndexesExceeded", text)
        if self.failed_indexes and self.succeeded + len(self.failed_indexes) >= (self.completions or 0):
            return Target(False, "FailedIndexes", "Job has failed indexes")
        return None

    def _restarts_exceed(self, limit: int) -> bool:
        if self.spec["template"]["spec"].get("restartPolicy") != "OnFailure":
            return False
        running = [pod for pod in self.active if phase(pod) in ("Running", "Pending")]
        restarts = sum(
            int(one.get("restartCount", 0))
            for pod in running
            for name in ("initContainerStatuses", "containerStatuses")
            for one in status_of(pod).get(name) or ()
        )
        return restarts > 0 if limit == 0 else restarts >= limit

    def _success(self) -> Target | None:
        if self.indexed:
            rule = jobpolicies.success_rule(self.spec, self.succeeded_indexes)
            if rule is not None:
                return Target(True, "SuccessPolicy", f"Matched rules at index {rule}")
        if self.completions is None:
            over = (self.succeeded > 0 and not self.active) or (self.parallelism == 0 and not self.active)
            over = over and not self.suspended
        else:
            over = self.succeeded >= self.completions
        if not over:
            return None
        return Target(True, "CompletionsReached", "Reached expected number of succeeded pods")

    def deadline_left(self) -> float | None:
        """Seconds until the job has been active for too long."""
        limit, start = self.spec.get("activeDeadlineSeconds"), moment(self.status.get("startTime"))
        if limit is None or start is None or self.suspended:
            return None
        return float(limit) - (self.now - start).total_seconds()

    def surplus(self) -> list[Object]:
        """Active pods that are not wanted: of an index that needs none, then the least far."""
        if self.suspended:
            return list(self.active)
        gone: list[Object] = []
        if self.indexed:
            taken: set[int] = set()
            for pod in sorted(self.active, key=_least_useful, reverse=True):
                index = index_of(pod)
                if index in taken or not self._open(index):
                    gone.append(pod)
                taken.add(index)
        rest = [pod for pod in self.active if all(pod is not one for one in gone)]
        over = len(rest) - self._wanted(len(rest))
        if over > 0:
            gone += sorted(rest, key=_least_useful)[:over]
        return gone

    def _open(self, index: int) -> bool:
        if not 0 <= index < (self.completions or 0) or index in self.succeeded_indexes:
            return False
        return self.failed_indexes is None or index not in self.failed_indexes

    def _wanted(self, running: int) -> int:
        if self.completions is None:
            return running if self.succeeded > 0 else self.parallelism
        left = self.completions - self.succeeded - len(self.failed_indexes or ())
        return max(0, min(left, self.parallelism))

    def missing(self) -> int:
        """How many pods are to be made."""
        if self.suspended:
            return 0
        there = len(self.active) + (len(self.terminating) if self.replaces_only_failed else 0)
        return max(0, min(self._wanted(len(self.active)) - there, MOST_PODS))

    def open_indexes(self, count: int) -> list[int]:
        """The lowest indexes without a pod that are still to be done."""
        busy = {index_of(pod) for pod in self.active}
        if self.replaces_only_failed:
            busy |= {index_of(pod) for pod in self.terminating}
        found: list[int] = []
        for index in range(self.completions or 0):
            if len(found) == count:
                break
            if index not in busy and self._open(index) and self.delay(index) <= 0:
                found.append(index)
        return found

    def delay(self, index: int | None = None) -> float:
        """Seconds until the next pod (of an index, when these fail alone) may be made."""
        per_index = self.failed_indexes is not None
        if (index is None) == per_index:
            return 0.0 if index is not None else self._soonest_index()
        ends = [(_end(pod, self.now), pod) for pod in self.pods if self._matters(pod, index)]
        good = max((at for at, pod in ends if phase(pod) == "Succeeded"), default=None)
        bad = [at for at, pod in ends if self.failed_pod(pod) and (good is None or at > good)]
        if not bad:
            return 0.0
        wait = min(_LAST_DELAY, _FIRST_DELAY * 2 ** min(len(bad) - 1, 20))
        return (max(bad) + timedelta(seconds=wait) - self.now).total_seconds()

    def _soonest_index(self) -> float:
        busy = {index_of(pod) for pod in self.active}
        failed = {index_of(pod) for pod in self.pods if self.failed_pod(pod)}
        waits = [self.delay(one) for one in failed if one not in busy and self._open(one)]
        return min((one for one in waits if one > 0), default=0.0)

    def _matters(self, pod: Object, index: int | None) -> bool:
        return (finished(pod) or self.failed_pod(pod)) and (index is None or index_of(pod) == index)

    def marks(self, index: int) -> dict[str, str]:
        """The annotations of a new pod of an index: how often it has failed."""
        if self.failed_indexes is None:
            return {}
        before = [pod for pod in self.pods if self.failed_pod(pod) and index_of(pod) == index]
        if not before:
            return {FAILURES: "0"}
        last = max(before, key=lambda pod: _number(pod, FAILURES) + _number(pod, IGNORED))
        count, skipped = _number(last, FAILURES), _number(last, IGNORED)
        if jobpolicies.ignored(self.spec, last):
            return {FAILURES: str(count), IGNORED: str(skipped + 1)}
        found = {FAILURES: str(count + 1)}
        return {**found, IGNORED: str(skipped)} if skipped else found

    def counted(self, *, active_now: int, terminating_now: int) -> Object:
        """The status with pods that are about to be counted named, and nothing added yet."""
        status: Object = {
            **self.status,
            "active": active_now,
            "ready": sum(1 for pod in self.active if ready(pod)) if active_now else 0,
            "terminating": terminating_now,
        }
        return self._trimmed(status, self.pending_succeeded, self.pending_failed)

    def flushed(self, status: Object, target: Target | None) -> tuple[Object, list[Object]]:
        """The status that names all pods that have ended, and the pods whose finalizer can go after it is written."""
        good, bad, free = list(self.pending_succeeded), list(self.pending_failed), []
        for pod in self.held:
            uid = pod["metadata"]["uid"]
            over = target is not None and not target.success
            if phase(pod) == "Succeeded" and uid not in bad:
                if uid not in good and not self.indexed:
                    good.append(uid)
                free.append(pod)
            elif self.failed_pod(pod) or (over and not finished(pod)):
                if uid not in bad and self._numbered(pod) and not jobpolicies.ignored(self.spec, pod):
                    bad.append(uid)
                free.append(pod)
            elif target is not None:
                free.append(pod)
        return self._trimmed(status, good, bad), free

    def settled(self, status: Object, still_held: Collection[str]) -> Object:
        """The status after the finalizers have gone: named pods become numbers."""
        uncounted = status["uncountedTerminatedPods"]
        good = [one for one in uncounted.get("succeeded", ()) if one not in still_held]
        bad = [one for one in uncounted.get("failed", ()) if one not in still_held]
        made = dict(status)
        made["failed"] = status.get("failed", 0) + len(bad)
        if not self.indexed:
            made["succeeded"] = status.get("succeeded", 0) + len(good)
        left_good = [one for one in uncounted.get("succeeded", ()) if one in still_held]
        left_bad = [one for one in uncounted.get("failed", ()) if one in still_held]
        return self._trimmed(made, left_good, left_bad)

    def _trimmed(self, status: Object, good: Sequence[str], bad: Sequence[str]) -> Object:
        named = {"succeeded": list(good), "failed": list(bad)}
        made = dict(status)
        made["uncountedTerminatedPods"] = {key: value for key, value in named.items() if value}
        if self.indexed:
            made["completedIndexes"] = shown_indexes(self.succeeded_indexes)
            made["succeeded"] = len(self.succeeded_indexes)
        if self.failed_indexes is not None:
            made["failedIndexes"] = shown_indexes(self.failed_indexes)
        optional = ("active", "succeeded", "failed", "completedIndexes")
        return {key: value for key, value in made.items() if value or key not in optional}


def with_condition(status: Object, kind: str, state: str, reason: str, message: str, now: datetime) -> Object:
    """The status with a condition; one that has this state already stays."""
    conditions = status.get("conditions") or []
    old = next((one for one in conditions if one["type"] == kind), None)
    if old is not None and old["status"] == state:
        return status
    at = seconds(now)
    made = {
        "type": kind,
        "status": state,
        "lastProbeTime": at,
        "lastTransitionTime": at,
        "reason": reason,
        "message": message,
    }
    after = [made if one["type"] == kind else one for one in conditions]
    return {**status, "conditions": after if old is not None else [*after, made]}


def _least_useful(pod: Object) -> tuple[object, ...]:
    order = {"Pending": 0, "Unknown": 1, "Running": 2}
    return (
        bool(pod["spec"].get("nodeName")),
        order.get(phase(pod), 1),
        ready(pod),
        pod["metadata"]["name"],
    )


def _number(pod: Object, name: str) -> int:
    try:
        return int(annotations_of(pod).get(name, "0"))
    except ValueError:
        return 0


def _end(pod: Object, now: datetime) -> datetime:
    statuses = status_of(pod).get("containerStatuses") or ()
    times = [moment((one.get("state", {}).get("terminated") or {}).get("finishedAt")) for one in statuses]
    known = [one for one in times if one is not None]
    if known:
        return max(known)
    found = condition(pod, "Ready")
    at = moment((found or {}).get("lastTransitionTime")) or moment(pod["metadata"].get("deletionTimestamp"))
    return at or moment(pod["metadata"].get("creationTimestamp")) or now
