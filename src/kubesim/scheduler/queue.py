"""The pods that wait for a node: the most important first, the longest waiting first among equals.

A pod that fits nowhere rests until something has changed in the cluster, and then for a backoff of its own that grows
with its attempts; after five minutes it is tried in any case. Without I/O: the time is given.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
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
    resting_since: float | None = None  # not None: fits nowhere, waits for a change


class PodQueue:
    """Keyed by uid."""

    def __init__(self) -> None:
        self._pods: dict[str, _Waiting] = {}
        self._heap: list[tuple[int, str, str, str]] = []  # -priority, created, name, uid

    def __len__(self) -> int:
        return len(self._pods)

    def put(self, pod: PodInfo) -> None:
        """A pod is new or has changed: a change may have made it fit."""
        waiting = self._pods.setdefault(pod.uid, _Waiting(pod))
        waiting.pod = pod
        waiting.resting_since = None
        self._push(pod)

    def refresh(self, pod: PodInfo) -> None:
        """Newer data of a pod that was not changed in a way that could make it fit."""
        waiting = self._pods.get(pod.uid)
        if waiting:
            waiting.pod = pod

    def remove(self, uid: str) -> None:
        """The pod does not wait any more."""
        self._pods.pop(uid, None)

    def get(self, uid: str) -> PodInfo | None:
        """The pod, if it waits here."""
        waiting = self._pods.get(uid)
        return waiting.pod if waiting else None

    def pop(self, now: float) -> PodInfo | None:
        """The next pod to try. It stays known here until `remove`, `rest` or `put` says what became of it."""
        later: list[tuple[int, str, str, str]] = []
        found: PodInfo | None = None
        while self._heap:
            entry = heapq.heappop(self._heap)
            waiting = self._pods.get(entry[3])
            if waiting is None or waiting.resting_since is not None:
                continue
            if waiting.backoff_until > now:
                later.append(entry)
                continue
            waiting.attempts += 1
            found = waiting.pod
            break
        for entry in later:
            heapq.heappush(self._heap, entry)
        return found

    def rest(self, uid: str, now: float) -> None:
        """The pod fits nowhere: leave it alone until something changes."""
        waiting = self._pods.get(uid)
        if waiting:
            waiting.resting_since = now
            waiting.backoff_until = now + min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(waiting.attempts - 1, 8))

    def retry(self, uid: str, now: float) -> None:
        """Something went wrong with the pod that was no fault of the nodes: try it again after its backoff."""
        self.rest(uid, now)
        waiting = self._pods.get(uid)
        if waiting:
            waiting.resting_since = None
            self._push(waiting.pod)

    def wake(self, *, at_once: bool) -> None:
        """Something has changed in the cluster; `at_once` when it made room, which ends backoffs too."""
        for waiting in self._pods.values():
            if waiting.resting_since is not None:
                waiting.resting_since = None
                if at_once:
                    waiting.backoff_until = 0.0
                self._push(waiting.pod)

    def wake_overdue(self, now: float) -> None:
        """Try again what has rested too long, in case that a change was overlooked."""
        for waiting in self._pods.values():
            if waiting.resting_since is not None and now - waiting.resting_since > LONGEST_REST:
                waiting.resting_since = None
                self._push(waiting.pod)

    def next_due(self) -> float | None:
        """When the next pod that only waits for its backoff may be tried."""
        times = [one.backoff_until for one in self._active()]
        return min(times) if times else None

    def _active(self) -> Iterator[_Waiting]:
        for entry in self._heap:
            waiting = self._pods.get(entry[3])
            if waiting and waiting.resting_since is None:
                yield waiting

    def _push(self, pod: PodInfo) -> None:
        heapq.heappush(self._heap, (-pod.priority, pod.created, pod.name, pod.uid))
