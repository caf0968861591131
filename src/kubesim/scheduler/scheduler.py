"""The scheduler at work: pods and nodes come in through informers, bindings go out.

Deciding is pure and takes microseconds (framework.py); binding is a request and runs beside it, with the pod assumed
in its place meanwhile. One decision at a time, so that each one sees all that came before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from kubesim import clock
from kubesim.scheduler import reports
from kubesim.scheduler.cache import Cache
from kubesim.scheduler.framework import Decision, Framework
from kubesim.scheduler.model import DEFAULT_SCHEDULER, Object, PodInfo, read_pod
from kubesim.scheduler.preemption import Preemption, preempt
from kubesim.scheduler.queue import PodQueue
from kubewire.client import Client
from kubewire.errors import Conflict, KubeError, NotFound
from kubewire.informer import Change, Informers
from kubewire.requests import PatchType
from kubewire.resources import EVENTS, NODES, PODS

log = logging.getLogger(__name__)

_AT_ONCE = 64  # requests on their way
_FAIR_SLICE = 50  # decisions before everybody else of the event loop has a turn
_OVERDUE_LOOK = 30.0
_ENDED = ("Succeeded", "Failed")


class Scheduler:
    """Gives nodes to the pods that name it as their scheduler."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        *,
        name: str = DEFAULT_SCHEDULER,
        framework: Framework | None = None,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._client = client
        self._pods = informers.of(PODS)
        self._nodes = informers.of(NODES)
        self._name = name
        self._framework = framework or Framework()
        self._now = now
        self._cache = Cache()
        self._queue = PodQueue()
        self._said: dict[str, str] = {}  # uid -> the message that was last reported
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._pods.synced.wait()
        await self._nodes.synced.wait()
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)
        try:
            async with asyncio.TaskGroup() as group:
                await self._decide_all(group)
        finally:
            self._nodes.unsubscribe(self._node_changed)
            self._pods.unsubscribe(self._pod_changed)

    async def _decide_all(self, group: asyncio.TaskGroup) -> None:
        count = 0
        while True:
            pod = self._queue.pop(clock.monotonic())
            if pod is None:
                await self._pause()
                continue
            self._try(pod, group)
            count += 1
            if count % _FAIR_SLICE == 0:
                await asyncio.sleep(0)

    async def _pause(self) -> None:
        """Until something has changed, or the next backoff is over."""
        self._wake.clear()
        due = self._queue.next_due()
        limit = _OVERDUE_LOOK if due is None else min(_OVERDUE_LOOK, max(0.0, due - clock.monotonic()))
        if not await clock.wait(self._wake, limit):
            self._queue.wake_overdue(clock.monotonic())

    def _try(self, pod: PodInfo, group: asyncio.TaskGroup) -> None:
        try:
            decision = self._framework.decide(pod, self._cache.nodes)
            outcome = None if decision.node else self._room(pod, decision)
        except Exception:  # a pod that a plugin cannot digest must not stop all the others
            log.exception("pod %s cannot be scheduled", pod.key)
            self._queue.rest(pod.uid, clock.monotonic())
            return
        if decision.node:
            placed = replace(pod, node=decision.node)
            self._cache.assume(placed)
            self._queue.remove(pod.uid)
            group.create_task(self._send(self._bind(placed, decision.node)), name=f"bind {pod.key}")
            return
        self._queue.rest(pod.uid, clock.monotonic())
        assert outcome is not None
        message = decision.message + (f" {outcome.message}" if outcome.message else "")
        if outcome.victims or self._said.get(pod.uid) != message:
            self._said[pod.uid] = message
            group.create_task(self._send(self._report(pod, message, outcome)), name=f"report {pod.key}")

    def _room(self, pod: PodInfo, decision: Decision) -> Preemption:
        if not decision.total:
            return Preemption()
        return preempt(self._framework, pod, self._cache.nodes, decision)

    async def _send(self, action: Awaitable[None]) -> None:
        async with self._slots:
            try:
                await action
            except KubeError as error:
                log.warning("%s", error)
            except Exception:  # one pod's trouble is not that of the others
                log.exception("a request of the scheduler failed")

    async def _bind(self, pod: PodInfo, node: str) -> None:
        try:
            await self._client.create(
                PODS, reports.binding(pod, node), pod.namespace, name=pod.name, subresource="binding"
            )
        except (NotFound, Conflict):  # deleted or bound by another meanwhile: the informer will tell
            self._cache.forget(pod.uid)
            return
        except KubeError:
            self._cache.forget(pod.uid)
            self._queue.retry(replace(pod, node=None), clock.monotonic())
            self._wake.set()
            raise
        self._said.pop(pod.uid, None)
        await self._client.create(
            EVENTS, reports.scheduled_event(pod, node, self._name, self._now()), pod.namespace
        )

    async def _report(self, pod: PodInfo, message: str, outcome: Preemption) -> None:
        try:
            await self._client.patch(
                PODS,
                pod.name,
                reports.unschedulable(pod, message, self._now(), outcome.node),
                pod.namespace,
                type=PatchType.STRATEGIC,
                subresource="status",
            )
            await self._client.create(
                EVENTS, reports.failed_event(pod, message, self._name, self._now()), pod.namespace
            )
        except NotFound:
            return
        for victim in outcome.victims:
            await self._evict(victim, pod, str(outcome.node))

    async def _evict(self, victim: PodInfo, pod: PodInfo, node: str) -> None:
        try:
            await self._client.patch(
                PODS,
                victim.name,
                reports.disrupted(victim, self._name, self._now()),
                victim.namespace,
                type=PatchType.STRATEGIC,
                subresource="status",
            )
            await self._client.delete(PODS, victim.name, victim.namespace, uid=victim.uid)
        except NotFound:
            return  # it went by itself
        event = reports.preempted_event(victim, pod, node, self._name, self._now())
        await self._client.create(EVENTS, event, victim.namespace)

    # What the informers say

    def _node_changed(self, change: Change) -> None:
        if change.new is None:
            self._cache.remove_node(change.key)
            return
        if change.old is not None and _node_matter(change.old) == _node_matter(change.new):
            return  # a heartbeat
        self._cache.put_node(change.new)
        self._queue.wake(room=True)
        self._wake.set()

    def _pod_changed(self, change: Change) -> None:
        old, new = change.old, change.new
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            self._pod_gone(old)
        if new is None:
            return
        uid = new["metadata"]["uid"]
        if new["spec"].get("nodeName"):
            self._cache.put_pod(new)
            self._queue.remove(uid)
            ended = new.get("status", {}).get("phase") in _ENDED
            if ended:
                self._queue.wake(room=True)
            elif old is None or not old["spec"].get("nodeName") or _labels(old) != _labels(new):
                self._queue.wake(room=False, which=_minds_others)
        elif self._is_ours(new):
            if uid in self._queue and old is not None and _pod_matter(old) == _pod_matter(new):
                self._queue.refresh(read_pod(new))
            else:
                self._queue.put(read_pod(new))
        else:
            self._queue.remove(uid)
        self._wake.set()

    def _pod_gone(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._cache.remove_pod(uid)
        self._queue.remove(uid)
        self._said.pop(uid, None)
        if pod["spec"].get("nodeName"):
            self._queue.wake(room=True)
            self._wake.set()

    def _is_ours(self, pod: Object) -> bool:
        spec = pod["spec"]
        return (
            spec.get("schedulerName", DEFAULT_SCHEDULER) == self._name
            and not spec.get("schedulingGates")
            and "deletionTimestamp" not in pod["metadata"]
            and pod.get("status", {}).get("phase") not in _ENDED
        )


def _node_matter(node: Object) -> tuple[object, ...]:
    spec = node.get("spec", {})
    return (
        node["metadata"].get("labels"),
        spec.get("taints"),
        spec.get("unschedulable"),
        node.get("status", {}).get("allocatable"),
    )


def _pod_matter(pod: Object) -> tuple[object, ...]:
    return _labels(pod), pod["spec"]


def _labels(pod: Object) -> object:
    return pod["metadata"].get("labels")


def _minds_others(pod: PodInfo) -> bool:
    return bool(pod.affinity or pod.anti_affinity or pod.spreads)
