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
from kubesim.scheduler.affinity import Labels
from kubesim.scheduler.cache import Cache
from kubesim.scheduler.failures import Failures
from kubesim.scheduler.framework import Decision, Framework, Surroundings
from kubesim.scheduler.model import DEFAULT_SCHEDULER, Object, PodInfo, read_pod
from kubesim.scheduler.prebind import VolumesFailed, VolumeWriter
from kubesim.scheduler.preemption import Preemption, preempt
from kubesim.scheduler.queue import PodQueue
from kubesim.scheduler.volumes import Plan, Storage, claims_of, plan_for
from kubewire.client import Client
from kubewire.errors import Conflict, KubeError, NotFound
from kubewire.informer import Change, Informers
from kubewire.requests import PatchType
from kubewire.resources import (
    EVENTS,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)

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
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._client = client
        self._pods = informers.of(PODS)
        self._nodes = informers.of(NODES)
        self._spaces = informers.of(NAMESPACES)
        self._claims = informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = informers.of(PERSISTENT_VOLUMES)
        self._classes = informers.of(STORAGE_CLASSES)
        self._name = name
        self._space_labels: dict[str, Labels] = {}
        self._storage = Storage(
            claim=self._claims.get,
            volume=self._volumes.get,
            volumes=self._volumes.all,
            storage_class=self._classes.get,
        )
        self._around = Surroundings(spaces=self._space_labels, storage=self._storage)
        self._framework = Framework(self._around)
        self._writer = VolumeWriter(client, self._claims)
        self._failures = Failures(client, name, now)
        self._now = now
        self._cache = Cache()
        self._queue = PodQueue()
        self._said: dict[str, str] = {}  # uid -> the message that was last reported
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Work until cancelled."""
        listening = [
            (self._spaces, self._space_changed),
            (self._claims, self._storage_changed),
            (self._volumes, self._storage_changed),
            (self._classes, self._storage_changed),
            (self._nodes, self._node_changed),
            (self._pods, self._pod_changed),
        ]
        for informer, _ in listening:
            await informer.synced.wait()
        for informer, handler in listening:
            informer.subscribe(handler)
        try:
            async with asyncio.TaskGroup() as group:
                await self._decide_all(group)
        finally:
            for informer, handler in listening:
                informer.unsubscribe(handler)

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
            nominated = self._cache.nomination(pod.uid)
            if nominated != pod.nominated:
                pod = replace(pod, nominated=nominated)
            decision = self._framework.decide(pod, self._cache.nodes, self._cache.nominated)
            outcome = None if decision.node else self._room(pod, decision)
            plan = self._plan(pod, decision.node) if decision.node else None
        except Exception:  # a pod that a plugin cannot digest must not stop all the others
            log.exception("pod %s cannot be scheduled", pod.key)
            self._queue.rest(pod.uid, clock.monotonic())
            return
        if decision.node:
            placed = replace(pod, node=decision.node)
            self._cache.assume(placed)
            self._queue.remove(pod.uid)
            action = self._bind_volumes(placed, plan) if plan else self._send(self._bind(placed))
            group.create_task(action, name=f"bind {pod.key}")
            return
        self._queue.rest(pod.uid, clock.monotonic())
        assert outcome is not None
        message = decision.message + (f" {outcome.message}" if outcome.message else "")
        if outcome.node is not None:
            self._cache.nominate(pod, outcome.node)
        elif not outcome.waits:
            self._cache.withdraw(pod.uid)
        changed = bool(outcome.victims) or self._said.get(pod.uid) != message
        self._said[pod.uid] = message
        report = self._report(pod, message, outcome, changed=changed)
        group.create_task(self._send(report), name=f"report {pod.key}")

    def _plan(self, pod: PodInfo, node: str) -> Plan | None:
        """What has to be bound before the pod; kept from others from now on."""
        if not pod.claims:
            return None
        claims = claims_of(self._storage, pod)
        plan = plan_for(self._storage, claims, pod, self._cache.nodes[node])
        if not plan or not (plan.static or plan.provision):
            return None
        for _, volume in plan.static:
            self._storage.taken[volume["metadata"]["name"]] = pod.uid
        return plan

    def _room(self, pod: PodInfo, decision: Decision) -> Preemption:
        if not decision.total:
            return Preemption()
        return preempt(self._framework, pod, self._cache.nodes, decision, self._cache.nominated)

    async def _send(self, action: Awaitable[None]) -> None:
        async with self._slots:
            try:
                await action
            except KubeError as error:
                log.warning("%s", error)
            except Exception:  # one pod's trouble is not that of the others
                log.exception("a request of the scheduler failed")

    async def _bind_volumes(self, pod: PodInfo, plan: Plan) -> None:
        """First the pod's volumes, which may take minutes and holds up nobody else, then the pod."""
        try:
            await self._writer.bind(plan, pod, str(pod.node))
        except (KubeError, VolumesFailed) as error:
            self._give_back(pod)
            message = f'running PreBind plugin "VolumeBinding": {error}'
            log.info("pod %s: %s", pod.key, message)
            await self._send(self._failures.say(pod, message))
            return
        finally:
            for name in [name for name, uid in self._storage.taken.items() if uid == pod.uid]:
                del self._storage.taken[name]
        await self._send(self._bind(pod))

    def _give_back(self, pod: PodInfo) -> None:
        """The pod does not get its node after all: it is tried again."""
        self._cache.forget(pod.uid)
        now = self._pods.get(pod.key)
        if now is not None and now["metadata"]["uid"] == pod.uid and self._is_ours(now):
            self._queue.retry(replace(pod, node=None), clock.monotonic())
            self._wake.set()

    async def _bind(self, pod: PodInfo) -> None:
        node = str(pod.node)
        try:
            await self._client.create(
                PODS, reports.binding(pod, node), pod.namespace, name=pod.name, subresource="binding"
            )
        except (NotFound, Conflict):  # deleted or bound by another meanwhile: the informer will tell
            self._cache.forget(pod.uid)
            return
        except KubeError:
            self._give_back(pod)
            raise
        self._forget(pod.uid)
        await self._client.create(
            EVENTS, reports.scheduled_event(pod, node, self._name, self._now()), pod.namespace
        )

    async def _report(self, pod: PodInfo, message: str, outcome: Preemption, *, changed: bool) -> None:
        clears = pod.nominated is not None and outcome.node is None and not outcome.waits
        try:
            if changed or clears:
                await self._write_status(
                    pod, reports.unschedulable(pod, message, self._now(), outcome.node, clears=clears)
                )
            await self._failures.say(pod, message)
        except NotFound:
            return
        for victim in outcome.victims:
            await self._evict(victim, pod, str(outcome.node))
        if outcome.node is not None:
            await self._denominate(pod, outcome.node)

    async def _write_status(self, pod: PodInfo, patch: Object) -> None:
        await self._client.patch(
            PODS, pod.name, patch, pod.namespace, type=PatchType.STRATEGIC, subresource="status"
        )

    async def _denominate(self, pod: PodInfo, node: str) -> None:
        """Less important pods that waited for this node have to look for another one."""
        waiting = self._cache.nominated.get(node, {})
        for other in [one for one in waiting.values() if one.priority < pod.priority]:
            self._cache.withdraw(other.uid)
            try:
                await self._write_status(other, {"status": {"nominatedNodeName": None}})
            except NotFound:
                continue  # it went by itself

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

    def _forget(self, uid: str) -> None:
        self._said.pop(uid, None)
        self._failures.forget(uid)

    # What the informers say

    def _space_changed(self, change: Change) -> None:
        self._around.census.renew()
        if change.new is None:
            self._space_labels.pop(change.key, None)
        else:
            self._space_labels[change.key] = change.new["metadata"].get("labels") or {}
            self._queue.wake(room=False, which=_minds_others)
            self._wake.set()

    def _storage_changed(self, change: Change) -> None:
        self._queue.wake(room=True, which=lambda pod: bool(pod.claims))
        self._wake.set()

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
            self._cache.withdraw(uid)
            self._queue.remove(uid)
            ended = new.get("status", {}).get("phase") in _ENDED
            if ended:
                self._queue.wake(room=True)
            elif old is None or not old["spec"].get("nodeName") or _labels(old) != _labels(new):
                self._queue.wake(room=False, which=_minds_others)
        elif self._is_ours(new):
            self._follow_nomination(old, new)
            if uid in self._queue and old is not None and _pod_matter(old) == _pod_matter(new):
                self._queue.refresh(read_pod(new))
            else:
                self._queue.put(read_pod(new))
        else:
            self._queue.remove(uid)
            self._cache.withdraw(uid)
        self._wake.set()

    def _follow_nomination(self, old: Object | None, new: Object) -> None:
        """What the API says counts, but for what we have decided and not written yet."""
        node = _nominated(new)
        if node is not None:
            self._cache.nominate(read_pod(new), node)
        elif old is not None and _nominated(old) is not None:
            self._cache.withdraw(new["metadata"]["uid"])

    def _pod_gone(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._cache.remove_pod(uid)
        self._queue.remove(uid)
        self._cache.withdraw(uid)
        self._forget(uid)
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


def _nominated(pod: Object) -> str | None:
    return pod.get("status", {}).get("nominatedNodeName") or None


def _pod_matter(pod: Object) -> tuple[object, ...]:
    return _labels(pod), pod["spec"]


def _labels(pod: Object) -> object:
    return pod["metadata"].get("labels")


def _minds_others(pod: PodInfo) -> bool:
    return pod.looks_around
