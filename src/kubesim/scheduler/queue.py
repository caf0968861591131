"""The pods that wait for a node: the most important first, the longest waiting first among equals.

A pod that fits nowhere rests until something has changed in the cluster, and then for a backoff of its own that grows
with its attempts; after five minutes it is tried in any case. Without I/O: the time is given.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from kubesim.scheduler.model import PodInfo

FIRST_BACKOFF = 1.0
LAST_BACKOFF = 10.0
LONGEST_REST = 300.0


@dataclass(slots=True)
class _Waiting:
    pod: PodInfo
    attempts: int = 0
    backoff_until: float = 0.0
    resting_since: float = 0.0
    queued: bool = False  # it has an entry in the heap; else it rests


class PodQueue:
    """Keyed by uid."""

    def __init__(self) -> None:
        self._pods: dict[str, _Waiting] = {}
        self._heap: list[tuple[int, str, str, str]] = []  # -priority, created, name, uid

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, uid: str) -> bool:
        return uid in self._pods

    def put(self, pod: PodInfo) -> None:
        """A pod is new, or has changed so that it may fit now."""
        waiting = self._pods.setdefault(pod.uid, _Waiting(pod))
        waiting.pod = pod
        self._push(waiting)

    def refresh(self, pod: PodInfo) -> None:
        """Newer data of a pod, with no change that could make it fit."""
        waiting = self._pods.get(pod.uid)
        if waiting:
            waiting.pod = pod

    def remove(self, uid: str) -> None:
        """The pod does not wait any more."""
        self._pods.pop(uid, None)

    def pop(self, now: float) -> PodInfo | None:
        """The next pod to try; `remove`, `rest` or `retry` then say what became of it."""
        early: list[tuple[int, str, str, str]] = []
        found: PodInfo | None = None
        while self._heap:
            entry = heapq.heappop(self._heap)
            waiting = self._pods.get(entry[3])
            if waiting is None or not waiting.queued:
                continue
            if waiting.backoff_until > now:
                early.append(entry)
                continue
            waiting.attempts += 1
            waiting.queued = False
            waiting.resting_since = now
            found = waiting.pod
            break
        for entry in early:
            heapq.heappush(self._heap, entry)
        return found

    def rest(self, uid: str, now: float) -> None:
        """The pod fits nowhere: leave it alone until something changes."""
        waiting = self._pods.get(uid)
        if waiting:
            waiting.resting_since = now
            waiting.backoff_until = now + min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(waiting.attempts - 1, 8))

    def retry(self, pod: PodInfo, now: float) -> None:
        """Something went wrong that was no fault of the nodes: try the pod again after a backoff."""
        waiting = self._pods.setdefault(pod.uid, _Waiting(pod, attempts=1))
        self.rest(pod.uid, now)
        self._push(waiting)

    def wake(self, *, room: bool, which: Callable[[PodInfo], bool] | None = None) -> None:
        """Something has changed in the cluster; `room` was made, which also ends backoffs."""
        for waiting in self._pods.values():
            if not waiting.queued and (which is None or which(waiting.pod)):
                if room:
                    waiting.backoff_until = 0.0
                self._push(waiting)

    def wake_overdue(self, now: float) -> None:
        """Try again what has rested too long, in case that a change was overlooked."""
        for waiting in self._pods.values():
            if not waiting.queued and now - waiting.resting_since > LONGEST_REST:
                self._push(waiting)

    def next_due(self) -> float | None:
        """When the next pod that only waits for its backoff may be tried."""
        return min((one.backoff_until for one in self._pods.values() if one.queued), default=None)

    def _push(self, waiting: _Waiting) -> None:
        if not waiting.queued:
            waiting.queued = True
            pod = waiting.pod
            heapq.heappush(self._heap, (-pod.priority, pod.created, pod.name, pod.uid))
