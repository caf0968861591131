"""Which pod is tried next, and when one that fits nowhere is tried again."""

from __future__ import annotations

from typing import Any

from kubesim.scheduler.model import PodInfo, read_pod
from kubesim.scheduler.queue import LONGEST_REST, PodQueue


def pod(name: str, *, priority: int = 0, created: str = "2026-01-01T00:00:00Z") -> PodInfo:
    metadata: dict[str, Any] = {"name": name, "namespace": "d", "uid": name, "creationTimestamp": created}
    return read_pod({"metadata": metadata, "spec": {"containers": [], "priority": priority}})


def test_the_most_important_pod_comes_first_then_the_one_that_waits_longest() -> None:
    queue = PodQueue()
    queue.put(pod("young", created="2026-01-02T00:00:00Z"))
    queue.put(pod("old"))
    queue.put(pod("urgent", priority=5, created="2026-01-03T00:00:00Z"))
    assert [found.name for _ in range(3) if (found := queue.pop(0.0))] == ["urgent", "old", "young"]
    assert queue.pop(0.0) is None


def test_a_pod_that_is_put_twice_is_tried_once() -> None:
    queue = PodQueue()
    queue.put(pod("p"))
    queue.put(pod("p"))
    assert queue.pop(0.0) is not None
    assert queue.pop(0.0) is None


def test_a_pod_that_fits_nowhere_rests_until_something_changes() -> None:
    queue = PodQueue()
    queue.put(pod("p"))
    assert queue.pop(0.0)
    queue.rest("p", 0.0)
    assert queue.pop(100.0) is None
    queue.wake(room=True)
    assert queue.pop(0.1) is not None


def test_the_backoff_doubles_up_to_a_limit_and_a_change_without_room_does_not_shorten_it() -> None:
    queue = PodQueue()
    queue.put(pod("p"))
    now = 0.0
    for expected in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        assert queue.pop(now)
        queue.rest("p", now)
        queue.wake(room=False)
        assert queue.next_due() == now + expected
        assert queue.pop(now + expected - 0.01) is None
        now += expected


def test_room_ends_the_backoff() -> None:
    queue = PodQueue()
    queue.put(pod("p"))
    assert queue.pop(0.0)
    queue.rest("p", 0.0)
    queue.wake(room=True)
    assert queue.pop(0.01) is not None


def test_only_the_pods_that_a_change_concerns_are_woken() -> None:
    queue = PodQueue()
    for name in ("a", "b"):
        queue.put(pod(name))
        assert queue.pop(0.0)
        queue.rest(name, 0.0)
    queue.wake(room=True, which=lambda one: one.name == "b")
    found = queue.pop(0.0)
    assert found is not None
    assert found.name == "b"
    assert queue.pop(0.0) is None


def test_a_pod_that_rests_too_long_is_tried_in_any_case() -> None:
    queue = PodQueue()
    queue.put(pod("p"))
    assert queue.pop(0.0)
    queue.rest("p", 0.0)
    queue.wake_overdue(LONGEST_REST)
    assert queue.pop(LONGEST_REST) is None
    queue.wake_overdue(LONGEST_REST + 1)
    assert queue.pop(LONGEST_REST + 1) is not None


def test_a_pod_that_was_removed_is_not_tried() -> None:
    queue = PodQueue()
    queue.put(pod("p"))
    queue.remove("p")
    assert queue.pop(0.0) is None
