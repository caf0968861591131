"""A mirror that is told everything, whatever the watch went through."""

from __future__ import annotations

from typing import Any

from kubesim.controllers.informer import Change, Informer, key_of, split_key
from kubewire.client import Client
from kubewire.resources import PODS
from kubewire.watch import WatchEvent

Object = dict[str, Any]


def pod(name: str, version: int, **labels: str) -> Object:
    metadata = {"name": name, "namespace": "d", "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata}


def mirror(unused: Any = None) -> tuple[Informer, list[Change]]:
    """A mirror that is fed by hand, and what its subscriber was told."""
    client: Client = unused
    informer, told = Informer(client, PODS), list[Change]()
    informer.subscribe(told.append)
    return informer, told


def test_changes_come_with_the_state_before_and_after() -> None:
    informer, told = mirror()
    first, second = pod("a", 1), pod("a", 2, x="y")
    informer.take(WatchEvent("ADDED", first))
    informer.take(WatchEvent("MODIFIED", second))
    informer.take(WatchEvent("DELETED", second))
    assert told == [Change("d/a", None, first), Change("d/a", first, second), Change("d/a", second, None)]
    assert informer.all() == []


def test_a_new_list_tells_what_was_missed_and_nothing_else() -> None:
    informer, told = mirror()
    for name in ("same", "changed", "gone"):
        informer.take(WatchEvent("ADDED", pod(name, 1)))
    told.clear()
    assert not informer.synced.is_set()
    items = [pod("same", 1), pod("changed", 2), pod("new", 3)]
    informer.take(WatchEvent("RELISTED", {"items": items}))
    assert [(change.key, change.old is None, change.new is None) for change in told] == [
        ("d/gone", False, True),
        ("d/changed", False, False),
        ("d/new", True, False),
    ]
    assert informer.synced.is_set()


def test_a_late_subscriber_is_told_what_there_is() -> None:
    informer, _ = mirror()
    informer.take(WatchEvent("ADDED", pod("a", 1)))
    told: list[Change] = []
    informer.subscribe(told.append)
    assert [change.key for change in told] == ["d/a"]


def test_the_end_of_the_first_list_makes_the_mirror_complete() -> None:
    informer, _ = mirror()
    informer.take(WatchEvent("BOOKMARK", {"metadata": {}}))
    assert informer.synced.is_set()


def test_keys_name_namespace_and_name() -> None:
    assert key_of({"metadata": {"name": "n"}}) == "n"
    assert split_key("n") == (None, "n")
    assert split_key("d/n") == ("d", "n")
