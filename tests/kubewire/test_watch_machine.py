"""The watch as a state machine: what it asks for, what it makes of bytes, where it goes on."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewire.errors import Gone, ServerError, StreamBroken, TooManyRequests
from kubewire.paging import ObjectList
from kubewire.resources import PODS
from kubewire.watch import INITIAL_EVENTS_END, Backoff, Watch, WatchEvent


def line(kind: str, name: str, version: int) -> bytes:
    """One event as the server writes it."""
    obj = {"kind": "Pod", "metadata": {"name": name, "resourceVersion": str(version)}}
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def error(code: int, reason: str = "Expired") -> bytes:
    """An ERROR event."""
    return (
        json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": reason}}).encode()
        + b"\n"
    )


def names(events: list[WatchEvent]) -> list[tuple[str, str]]:
    """Types and names."""
    return [(event.type, event.object["metadata"]["name"]) for event in events]


def test_without_a_version_a_list_comes_first_and_is_news_object_by_object() -> None:
    watch = Watch(PODS, "a")
    assert watch.needs_list
    with pytest.raises(RuntimeError, match="list is needed"):
        watch.next_request()
    events = watch.listed(ObjectList(items=[{"metadata": {"name": "p"}}], resource_version="5"))
    assert [event.type for event in events] == ["ADDED", "BOOKMARK"]
    assert [event.complete for event in events] == [False, True]
    assert events[-1].object["metadata"] == {
        "resourceVersion": "5",
        "annotations": {INITIAL_EVENTS_END: "true"},
    }
    assert not watch.needs_list
    assert ("resourceVersion", "5") in watch.next_request().query


def test_with_a_version_the_watch_starts_there() -> None:
    watch = Watch(PODS, "a", resource_version="3", bookmarks=False, timeout_seconds=10, label_selector="a=b")
    request = watch.next_request()
    assert request.path == "/api/v1/namespaces/a/pods"
    assert dict(request.query) == {
        "watch": "true",
        "labelSelector": "a=b",
        "resourceVersion": "3",
        "timeoutSeconds": "10",
    }


def test_it_goes_on_after_the_last_event_or_bookmark() -> None:
    watch = Watch(PODS, resource_version="1")
    assert names(list(watch.feed(line("ADDED", "p", 4)))) == [("ADDED", "p")]
    assert ("resourceVersion", "4") in watch.next_request().query
    assert list(watch.feed(line("BOOKMARK", "", 9))) == []
    assert ("resourceVersion", "9") in watch.next_request().query


@given(st.lists(st.integers(1, 40), max_size=60))
def test_events_may_be_cut_anywhere(cuts: list[int]) -> None:
    data = line("ADDED", "a", 2) + line("MODIFIED", "b\u00fc", 3) + b"\n" + line("DELETED", "c", 4)
    watch = Watch(PODS, resource_version="1")
    events: list[WatchEvent] = []
    for cut in cuts:
        events += watch.feed(data[:cut])
        data = data[cut:]
    events += watch.feed(data)
    assert names(events) == [("ADDED", "a"), ("MODIFIED", "b\u00fc"), ("DELETED", "c")]
    assert watch.resource_version == "4"


def test_half_an_event_is_forgotten_when_the_connection_ends() -> None:
    watch = Watch(PODS, resource_version="1")
    assert list(watch.feed(line("ADDED", "a", 2) + line("ADDED", "b", 3)[:-10])) != []
    assert ("resourceVersion", "2") in watch.next_request().query
    assert names(list(watch.feed(line("ADDED", "b", 3)))) == [("ADDED", "b")]


def test_an_expired_version_asks_for_a_list_that_replaces_what_was_known() -> None:
    watch = Watch(PODS)
    watch.listed(ObjectList(items=[], resource_version="5"))
    with pytest.raises(Gone):
        list(watch.feed(error(410)))
    assert watch.needs_list
    (event,) = watch.listed(ObjectList(items=[{"metadata": {"name": "p"}}], resource_version="8"))
    assert event.type == "RELISTED"
    assert event.complete
    assert [item["metadata"]["name"] for item in event.object["items"]] == ["p"]
    assert event.object["metadata"]["resourceVersion"] == "8"


def test_another_error_keeps_the_version() -> None:
    watch = Watch(PODS, resource_version="5")
    with pytest.raises(ServerError):
        list(watch.feed(error(500, "InternalError")))
    assert watch.resource_version == "5"


def test_events_before_an_error_are_not_lost() -> None:
    watch = Watch(PODS, resource_version="5")
    events = watch.feed(line("ADDED", "a", 6) + error(500, "InternalError") + line("ADDED", "b", 7))
    assert next(events).object["metadata"]["name"] == "a"
    with pytest.raises(ServerError):
        next(events)
    assert watch.resource_version == "6"


@pytest.mark.parametrize(
    "garbage",
    [b"<html>\n", b"[]\n", b'{"type": "ADDED"}\n', b'{"type": 1, "object": {}}\n', b'{"object": {}}\n'],
)
def test_garbage_is_no_event(garbage: bytes) -> None:
    with pytest.raises(StreamBroken, match="no event"):
        list(Watch(PODS, resource_version="1").feed(garbage))


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubewire.watch.MAX_LINE", 100)
    watch = Watch(PODS, resource_version="1")
    assert list(watch.feed(b"x" * 100)) == []
    with pytest.raises(StreamBroken, match="larger than 100"):
        list(watch.feed(b"x"))


def test_backoff_doubles_up_to_its_bound_and_starts_over() -> None:
    backoff = Backoff(first=1.0, most=8.0, chance=random.Random(7))
    delays = [backoff.delay() for _ in range(6)]
    assert all(most / 2 <= delay <= most for delay, most in zip(delays, [1, 2, 4, 8, 8, 8], strict=True))
    backoff.reset()
    assert backoff.delay() <= 1.0


def test_backoff_is_the_same_for_the_same_chance() -> None:
    def delays() -> list[float]:
        backoff = Backoff(chance=random.Random(1))
        return [backoff.delay() for _ in range(5)]

    assert delays() == delays()


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(5.0, 5.0, 5.0), (3600.0, 60.0, 60.0), (None, 0.1, 0.2)]
)
def test_backoff_waits_as_long_as_the_server_asks_within_reason(
    asked: Any, least: float, most: float
) -> None:
    delay = Backoff(first=0.2).delay(TooManyRequests(429, retry_after=asked))
    assert least <= delay <= most
