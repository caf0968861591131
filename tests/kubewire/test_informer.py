"""A mirror that is told everything, whatever the watch went through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubewire import informer as informer_module
from kubewire.client import Client
from kubewire.errors import Forbidden, KubeError, NotFound
from kubewire.informer import Change, Informer, key_of, split_key
from kubewire.resources import PODS, Resource
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


class Scripted:
    """A client whose watches end as the script says."""

    def __init__(self, *rounds: list[WatchEvent | KubeError]) -> None:
        self._rounds = list(rounds)
        self.done = asyncio.Event()

    async def watch(self, resource: Resource) -> AsyncIterator[WatchEvent]:
        if not self._rounds:
            self.done.set()
            await asyncio.Event().wait()
        for one in self._rounds.pop(0):
            if isinstance(one, KubeError):
                raise one
            yield one


END = WatchEvent("BOOKMARK", {"metadata": {}})


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error", [Forbidden(403, "Forbidden", "no", {}, None), NotFound(404, "NotFound", "no", {}, None)]
)
async def test_a_watch_that_was_given_up_is_taken_up_again_and_nothing_is_missed(
    error: KubeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer_module, "_RETRY", 0.0)
    first = [WatchEvent("ADDED", pod("stays", 1)), WatchEvent("ADDED", pod("goes", 1)), END, error]
    second = [WatchEvent("ADDED", pod("stays", 1)), WatchEvent("ADDED", pod("comes", 2)), END]
    client: Any = Scripted(first, second)
    informer, told = Informer(client, PODS), list[Change]()
    informer.subscribe(told.append)
    running = asyncio.create_task(informer.run())
    async with asyncio.timeout(10):
        await client.done.wait()
    running.cancel()
    await asyncio.wait([running])
    assert sorted(informer) == ["d/comes", "d/stays"]
    gone = sorted(change.key for change in told if change.new is None)
    assert gone == (["d/goes", "d/stays"] if isinstance(error, NotFound) else ["d/goes"])


def test_a_subscriber_that_fails_does_not_keep_the_others_from_knowing() -> None:
    informer, told = mirror()

    def fail(change: Change) -> None:
        raise RuntimeError(change.key)

    informer.subscribe(fail)
    later: list[Change] = []
    informer.subscribe(later.append)
    informer.take(WatchEvent("ADDED", pod("a", 1)))
    assert told == later != []
