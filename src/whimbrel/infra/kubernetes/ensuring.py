"""Waiting until every node of a cluster runs, and telling what is waited for.

One watch follows the pods; a slower look at their events explains those that hang. What cannot be mended by waiting
ends the wait at once, everything else when the time is over, with the last reason. A node that no machine has taken
within the user's `provision_timeout` ends it earlier.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from kubewire.resources import PODS
from whimbrel.infra.base import ClusterSpec, NodeState, Progress
from whimbrel.infra.kubernetes import pods, reasons
from whimbrel.infra.kubernetes.connection import Link
from whimbrel.infra.kubernetes.objects import Found, Objects
from whimbrel.model.errors import InfraError, InfraRefused, NodeLost, OutOfCapacity, Unreachable
from whimbrel.model.names import node_name

_EXPLAIN_AFTER = 3.0
_EXPLAIN_EVERY = 10.0
_PATIENCE = 20.0  # how long the API may be away while we wait


class Wait:
    """One wait for one cluster."""

    def __init__(self, link: Link, objects: Objects, spec: ClusterSpec, progress: Progress) -> None:
        self._link = link
        self._objects = objects
        self._spec = spec
        self._progress = progress
        self._pods: dict[int, Mapping[str, Any]] = {}
        self._events: dict[int, list[Mapping[str, Any]]] = {}
        self._deleted: set[int] = set()  # ranks whose pod was there and is not any more
        self._changed = asyncio.Event()
        self._said = ""

    def states(self) -> list[NodeState]:
        """The nodes as last seen."""
        return [
            reasons.node_state(
                self._pods.get(rank),
                rank,
                node_name(self._spec.name, self._spec.uid, rank),
                self._events.get(rank, ()),
            )
            for rank in range(self._spec.num_nodes)
        ]

    async def until_running(self, found: Found, timeout: float) -> list[NodeState]:
        """Follow the pods from what was found on. Raises `OutOfCapacity` when the time is over, `InfraRefused` when
        a node can never run, `NodeLost` when somebody deletes one."""
        self._pods = dict(found.pods)
        patience = self._spec.provision.patience
        machines_by = time.monotonic() + (timeout if patience is None else patience)
        watcher = asyncio.create_task(self._follow(found), name=f"pods of {self._spec.name}")
        explainer = asyncio.create_task(self._explain(), name=f"events of {self._spec.name}")
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._changed.clear()
                    states = self.states()
                    self._tell(states)
                    if all(state.phase == "running" for state in states):
                        return states
                    self._stop_if_hopeless(states)
                    left = None
                    if any(not state.host for state in states):
                        left = machines_by - time.monotonic()
                        if left <= 0:
                            raise self._time_is_over(timeout if patience is None else patience)
                    await self._next_change(watcher, left)
        except TimeoutError:
            raise self._time_is_over(timeout) from None
        finally:
            watcher.cancel()
            explainer.cancel()
            await asyncio.gather(watcher, explainer, return_exceptions=True)

    async def _next_change(self, watcher: asyncio.Task[None], timeout: float | None) -> None:
        change = asyncio.create_task(self._changed.wait(), name="change")
        try:
            await asyncio.wait((change, watcher), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()
            await asyncio.gather(change, return_exceptions=True)
        if watcher.done():
            watcher.result()
            raise Unreachable(f"{self._link.name}: the watch of the nodes of {self._spec.name} ended.")

    async def _follow(self, found: Found) -> None:
        what = f"watching the nodes of {self._spec.name}"
        async with self._link.stream(what) as client, self._link.guard.following(what):
            events = client.watch(
                PODS,
                found.namespace,
                label_selector=pods.selector(self._spec.uid),
                resource_version=found.version or None,
                patience=_PATIENCE,
            )
            async with aclosing(events):
                async for event in events:
                    if event.type == "RELISTED":
                        self._pods.clear()
                        for item in event.object["items"]:
                            self._take(item, gone=False)
                    elif event.type in ("ADDED", "MODIFIED", "DELETED"):
                        self._take(event.object, gone=event.type == "DELETED")
                    self._changed.set()

    def _take(self, pod: Mapping[str, Any], *, gone: bool) -> None:
        rank = pods.rank_of(pod)
        if rank is None or pod["metadata"]["name"] != node_name(self._spec.name, self._spec.uid, rank):
            return
        if gone:
            self._pods.pop(rank, None)
            self._deleted.add(rank)
        else:
            self._pods[rank] = pod
            self._deleted.discard(rank)

    async def _explain(self) -> None:
        """Events of the pods that have been starting for a while."""
        await asyncio.sleep(_EXPLAIN_AFTER)
        while True:
            for rank, pod in list(self._pods.items()):
                if reasons.phase(pod) == "pending":
                    self._events[rank] = await self._objects.events_of(pod)
            self._changed.set()
            await asyncio.sleep(_EXPLAIN_EVERY)

    def _tell(self, states: list[NodeState]) -> None:
        """One sentence, when it is another one than before."""
        running = sum(state.phase == "running" for state in states)
        waiting = [state for state in states if state.phase != "running"]
        if waiting and all(state.phase == "absent" for state in states):
            return  # they have just been asked for
        of = f"{running} of {len(states)} nodes run" if len(states) > 1 else ""
        if not waiting:
            text = of or "the node runs"
        else:
            reason = waiting[0].message or "it is being created"
            who = f"node {waiting[0].rank}: " if len(states) > 1 else ""
            text = "; ".join(part for part in (of, who + reason) if part)
            if any(reasons.unschedulable(pod) for pod in self._pods.values()):
                text += " (make room: `whim status` shows what runs, `whim down` removes it)"
        if text != self._said:
            self._said = text
            self._progress(text)

    def _stop_if_hopeless(self, states: list[NodeState]) -> None:
        for state in states:
            if state.rank in self._deleted:
                raise NodeLost(
                    f"{self._link.name}: node {state.rank} of {self._spec.name} was deleted while it was starting.",
                    remedy="repeat the launch: it makes what is missing",
                )
            if state.phase == "ended":
                raise InfraRefused(
                    f"{self._link.name}: node {state.rank} of {self._spec.name} has ended: {state.message}",
                    remedy="mend the reason (the image needs a POSIX shell as `sh`), then repeat the launch",
                )
            pod = self._pods.get(state.rank)
            if pod is not None and reasons.hopeless(pod):
                raise InfraRefused(
                    f"{self._link.name}: node {state.rank} of {self._spec.name} cannot start: {state.message}",
                    remedy="mend the reason, take the cluster down, and launch it again",
                )

    def _time_is_over(self, timeout: float) -> InfraError:
        waiting = [state for state in self.states() if state.phase != "running"]
        said = waiting[0].message or "it was not created" if waiting else "the API was slow"
        nodes = ", ".join(str(state.rank) for state in waiting)
        unschedulable = any(reasons.unschedulable(pod) for pod in self._pods.values())
        remedy = (
            "ask for less, take something down, or use another infra"
            if unschedulable
            else "mend the reason, then repeat the launch: it goes on where it stopped"
        )
        return OutOfCapacity(
            f"{self._link.name}: node {nodes} of {self._spec.name} does not run after {timeout:.0f} s: {said}",
            remedy=remedy,
            details={"at": time.time()},
        )
