"""How a Deployment moves from one ReplicaSet to the next: sizes, revisions, status. Pure.

`Rollout` is one look at a Deployment with its ReplicaSets. Its methods say which set gets which size; the controller
does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubesim.controllers.objects import (
    annotations_of,
    condition,
    fingerprint,
    moment,
    oldest_first,
    seconds,
    share,
    status_of,
    without_zeros,
)
from kubewire.informer import Object

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        HISTORY,
        DESIRED,
        MOST,
    }
)
NEW_AVAILABLE, TIMED_OUT, PAUSED = "NewReplicaSetAvailable", "ProgressDeadlineExceeded", "DeploymentPaused"
_HISTORY_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Resize:
    """A ReplicaSet is to have another size."""

    target: Object
    replicas: int


def size(found: Object) -> int:
    """How many pods the set is asked for."""
    return int(found["spec"].get("replicas", 1))


def shown(found: Object, name: str) -> int:
    """A number of the set's status."""
    return int(status_of(found).get(name, 0))


def revision(found: Object) -> int:
    """The revision that stands on a set or a deployment."""
    try:
        return int(annotations_of(found).get(REVISION, "0"))
    except ValueError:
        return 0


def bare(template: Object) -> Object:
    """A template without the hash and what says nothing."""
    metadata = {key: value for key, value in (template.get("metadata") or {}).items() if value}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH}
    metadata.pop("creationTimestamp", None)
    return {"metadata": {**metadata, "labels": labels}, "spec": template["spec"]}


class Rollout:
    """One look at a deployment."""

    def __init__(self, deployment: Object, sets: Iterable[Object]) -> None:
        self.deployment = deployment
        self.spec: dict[str, Any] = deployment["spec"]
        self.replicas = int(self.spec.get("replicas", 1))
        self.sets = oldest_first(sets)
        wanted = bare(self.spec["template"])
        self.new = next((one for one in self.sets if bare(one["spec"]["template"]) == wanted), None)

    @property
    def rolling(self) -> bool:
        """Whether pods are replaced step by step."""
        return bool((self.spec.get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")

    @property
    def old(self) -> list[Object]:
        """All sets but the new one."""
        return [one for one in self.sets if one is not self.new]

    @property
    def limits(self) -> tuple[int, int]:
        """How many more, and how many fewer pods there may be than were asked for."""
        if not self.rolling:
            return 0, 0
        bounds = (self.spec.get("strategy") or {}).get("rollingUpdate") or {}
        surge = share(bounds.get("maxSurge", "25%"), self.replicas, up=True)
        missing = share(bounds.get("maxUnavailable", "25%"), self.replicas, up=False)
        if surge == 0 and missing == 0:
            missing = 1
        return surge, min(missing, self.replicas)

    @property
    def most(self) -> int:
        """The value of the max-replicas annotation."""
        return self.replicas + self.limits[0]

    def next_revision(self) -> int:
        """The revision of the new set."""
        return max((revision(one) for one in self.old), default=0) + 1

    def new_size(self) -> int:
        """The size that the new set may have now."""
        current = size(self.new) if self.new is not None else 0
        if not self.rolling:
            return self.replicas
        if current >= self.replicas:
            return self.replicas
        total = sum(size(one) for one in self.sets)
        if total >= self.most:
            return current
        return current + min(self.most - total, self.replicas - current)

    def resized(self) -> list[Resize]:
        """What follows from another number of replicas, or a pause: no progress, all in proportion."""
        active = [one for one in self.sets if size(one) > 0]
        only = active[0] if len(active) == 1 else None
        if not active:
            only = self.new if self.new is not None else (self.sets[-1] if self.sets else None)
        if only is not None:
            return [Resize(only, self.replicas)] if self._differs(only, self.replicas) else []
        if self._saturated():
            return [Resize(one, 0) for one in self.old if size(one) > 0]
        return self._in_proportion(active) if self.rolling else []

    def shrinking(self) -> list[Resize]:
        """The old sets that can be smaller now: unhealthy pods first, then as availability allows."""
        old, fewest = [one for one in self.old if size(one) > 0], self.replicas - self.limits[1]
        if not old or self.new is None:
            return []
        waiting = size(self.new) - shown(self.new, "availableReplicas")
        room = sum(size(one) for one in self.sets) - fewest - waiting
        if room <= 0:
            return []
        sizes = {one["metadata"]["name"]: size(one) for one in old}
        for one in old:
            broken = max(0, size(one) - shown(one, "availableReplicas"))
            taken = min(room, broken)
            sizes[one["metadata"]["name"]] -= taken
            room -= taken
        spare = sum(shown(one, "availableReplicas") for one in self.sets) - fewest
        for one in old:
            taken = max(0, min(sizes[one["metadata"]["name"]], spare))
            sizes[one["metadata"]["name"]] -= taken
            spare -= taken
        return [
            Resize(one, sizes[one["metadata"]["name"]])
            for one in old
            if sizes[one["metadata"]["name"]] != size(one)
        ]

    def expendable(self) -> list[Object]:
        """Old sets beyond the history that is kept."""
        limit = self.spec.get("revisionHistoryLimit")
        if limit is None:
            return []
        kept = [one for one in self.old if "deletionTimestamp" not in one["metadata"]]
        beyond = sorted(kept, key=revision)[: max(0, len(kept) - limit)]
        return [one for one in beyond if _idle(one)]

    def annotations(self, target: Object | None, wanted: int | None) -> dict[str, str]:
        """What is to stand on a set of this deployment; with `wanted` it is the new one, of that revision."""
        found = dict(annotations_of(target)) if target is not None else {}
        if wanted is not None:
            own = annotations_of(self.deployment)
            found.update({key: value for key, value in own.items() if key not in _NOT_COPIED})
            before = found.get(REVISION)
            if before is None or revision(target or {"metadata": {}}) < wanted:
                if before:
                    past = [one for one in (found.get(HISTORY, ""), before) if one]
                    found[HISTORY] = ",".join(past)[-_HISTORY_LENGTH:]
                found[REVISION] = str(wanted)
        return {**found, DESIRED: str(self.replicas), MOST: str(self.most)}

    def new_set(self) -> Object:
        """The set that the template asks for, without its owner."""
        template = self.spec["template"]
        mark = fingerprint(bare(template), status_of(self.deployment).get("collisionCount", 0))
        metadata = template.get("metadata") or {}
        labels = {**(metadata.get("labels") or {}), HASH: mark}
        selector = self.spec["selector"]
        spec: Object = {
            "replicas": self.new_size(),
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH: mark}},
            "template": {**template, "metadata": {**metadata, "labels": labels}},
        }
        if self.spec.get("minReadySeconds"):
            spec["minReadySeconds"] = self.spec["minReadySeconds"]
        about = self.deployment["metadata"]
        return {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{about['name']}-{mark}",
                "namespace": about["namespace"],
                "labels": labels,
                "annotations": self.annotations(None, self.next_revision()),
            },
            "spec": spec,
        }

    def _differs(self, target: Object, replicas: int) -> bool:
        marks = annotations_of(target)
        return (size(target), marks.get(DESIRED), marks.get(MOST)) != (
            replicas,
            str(self.replicas),
            str(self.most),
        )

    def _saturated(self) -> bool:
        new = self.new
        return (
            new is not None
            and size(new) == self.replicas
            and annotations_of(new).get(DESIRED) == str(self.replicas)
            and shown(new, "availableReplicas") == self.replicas
        )

    def _in_proportion(self, active: Sequence[Object]) -> list[Resize]:
        total = sum(size(one) for one in active)
        change = (self.most if self.replicas > 0 else 0) - total
        if change == 0:
            return [Resize(one, size(one)) for one in active if self._differs(one, size(one))]
        largest = sorted(oldest_first(active), key=lambda one: -size(one))
        if change > 0:  # of two with one size the younger one grows
            youngest = oldest_first(active)[::-1]
            largest = sorted(youngest, key=lambda one: -size(one))
        sizes, added = [], 0
        for one in largest:
            part, left = self._fraction(one), change - added
            part = min(part, left) if change > 0 else max(part, left)
            sizes.append(size(one) + part)
            added += part
        sizes[0] = max(0, sizes[0] + change - added)
        return [
            Resize(one, wanted)
            for one, wanted in zip(largest, sizes, strict=True)
            if self._differs(one, wanted)
        ]

    def _fraction(self, one: Object) -> int:
        if self.replicas == 0:
            return -size(one)
        try:
            before = int(annotations_of(one)[MOST])
        except (KeyError, ValueError):
            before = int(status_of(self.deployment).get("replicas", 0))
        if before <= 0:
            return 0
        return int(size(one) * self.most / before + 0.5) - size(one)


def _idle(found: Object) -> bool:
    seen = shown(found, "observedGeneration") >= found["metadata"].get("generation", 0)
    return size(found) == 0 and shown(found, "replicas") == 0 and seen


def must_rescale(look: Rollout) -> bool:
    """Whether the number of replicas has changed since the sets got their sizes."""
    wanted = str(look.replicas)
    return any(size(one) > 0 and annotations_of(one).get(DESIRED, wanted) != wanted for one in look.sets)


def counted(look: Rollout, now: datetime) -> Object:
    """The status without its conditions about progress."""
    sets, before = look.sets, status_of(look.deployment)
    total = sum(shown(one, "replicas") for one in sets)
    available = sum(shown(one, "availableReplicas") for one in sets)
    status: Object = {
        "replicas": total,
        "updatedReplicas": shown(look.new, "replicas") if look.new is not None else 0,
        "readyReplicas": sum(shown(one, "readyReplicas") for one in sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total - available),
        "observedGeneration": look.deployment["metadata"].get("generation", 0),
        "collisionCount": before.get("collisionCount"),
        "conditions": [dict(one) for one in before.get("conditions") or ()],
    }
    if all("terminatingReplicas" in status_of(one) for one in sets):
        status["terminatingReplicas"] = sum(shown(one, "terminatingReplicas") for one in sets)
    enough = available >= look.replicas - look.limits[1]
    state = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    if not enough:
        state = (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    set_condition(status, "Available", *state, now=now)
    return without_zeros(status, *(("terminatingReplicas",) if "terminatingReplicas" in status else ()))


def with_progress(look: Rollout, status: Object, now: datetime) -> Object:
    """The status with what can be said about progress: complete, going on, or stuck."""
    before = status_of(look.deployment)
    old = condition(look.deployment, "Progressing")
    done = status.get("replicas", 0) == status.get("updatedReplicas", 0)
    if look.spec.get("progressDeadlineSeconds") is not None and not (
        done and old is not None and old["reason"] == NEW_AVAILABLE
    ):
        about = look.deployment["metadata"]["name"]
        what = f'Deployment "{about}"'
        if look.new is not None:
            what = f'ReplicaSet "{look.new["metadata"]["name"]}"'
        if complete(look, status):
            text = f"{what} has successfully progressed."
            set_condition(status, "Progressing", "True", NEW_AVAILABLE, text, now=now)
        elif _progressing(before, status):
            _touched(status, f"{what} is progressing.", now)
        elif timed_out(look, status, now):
            text = f"{what} has timed out progressing."
            set_condition(status, "Progressing", "False", TIMED_OUT, text, now=now)
    problem = next((found for one in look.sets if (found := condition(one, "ReplicaFailure"))), None)
    if problem is not None:
        set_condition(
            status,
            "ReplicaFailure",
            problem["status"],
            problem.get("reason", ""),
            problem.get("message", ""),
            now=now,
        )
    else:
        status["conditions"] = [one for one in status["conditions"] if one["type"] != "ReplicaFailure"]
    return status


def complete(look: Rollout, status: Object) -> bool:
    """Whether all pods are new and available."""
    return bool(
        status.get("updatedReplicas", 0) == look.replicas
        and status.get("replicas", 0) == look.replicas
        and status.get("availableReplicas", 0) == look.replicas
        and status.get("observedGeneration", 0) >= look.deployment["metadata"].get("generation", 0)
    )


def _progressing(before: Object, after: Object) -> bool:
    def more(name: str) -> bool:
        return bool(after.get(name, 0) > before.get(name, 0))

    def old(status: Object) -> int:
        return int(status.get("replicas", 0) - status.get("updatedReplicas", 0))

    return (
        more("updatedReplicas")
        or old(after) < old(before)
        or more("readyReplicas")
        or more("availableReplicas")
    )


def timed_out(look: Rollout, status: Object, now: datetime) -> bool:
    """Whether there was no progress for longer than allowed."""
    left = time_left(look, status, now)
    found = next((one for one in status.get("conditions", ()) if one["type"] == "Progressing"), None)
    return bool(found and found.get("reason") == TIMED_OUT) or (left is not None and left < 0)


def time_left(look: Rollout, status: Object, now: datetime) -> float | None:
    """Seconds in which there has to be progress; None when nobody waits for any."""
    deadline = look.spec.get("progressDeadlineSeconds")
    found = next((one for one in status.get("conditions", ()) if one["type"] == "Progressing"), None)
    if deadline is None or found is None or found.get("reason") in (NEW_AVAILABLE, TIMED_OUT, PAUSED):
        return None
    since = moment(found.get("lastUpdateTime")) or now
    return float(deadline) - (now - since).total_seconds()


def _touched(status: Object, text: str, now: datetime) -> None:
    old = next((one for one in status["conditions"] if one["type"] == "Progressing"), None)
    status["conditions"] = [one for one in status["conditions"] if one["type"] != "Progressing"]
    set_condition(status, "Progressing", "True", "ReplicaSetUpdated", text, now=now)
    if old is not None and old["status"] == "True":
        status["conditions"][-1]["lastTransitionTime"] = old["lastTransitionTime"]


def set_condition(status: Object, kind: str, state: str, reason: str, message: str, *, now: datetime) -> None:
    """Put a condition into a status; one that says the same stays as it is."""
    conditions = status.get("conditions") or []
    old = next((one for one in conditions if one["type"] == kind), None)
    if old is not None and (old["status"], old.get("reason")) == (state, reason):
        return
    at = seconds(now)
    since = old["lastTransitionTime"] if old is not None and old["status"] == state else at
    made = {
        "type": kind,
        "status": state,
        "lastUpdateTime": at,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }
    status["conditions"] = [*(one for one in conditions if one["type"] != kind), made]
