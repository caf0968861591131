"""One pod's worker: brings what is here to what the API server wants, one step after the other.

Level-triggered: whatever happens (a change of the pod, the end of a container, a time that has come) only wakes the
worker; it then looks at the pod and at the files, lets `reconcile.decide` decide, carries it out and reports. All of
a pod's changes are made by its worker, so that none needs a lock. A failure of one step is tried again, and never
ends the worker.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

from kubesim.clock import wait
from kubesim.kubelet import aftermath, memory, shims
from kubesim.kubelet.addresses import HOST
from kubesim.kubelet.containers import Attempt, ContainerView, JsonObject, PodView
from kubesim.kubelet.handlers import Target
from kubesim.kubelet.hooks import PostStarts
from kubesim.kubelet.link import Link
from kubesim.kubelet.probing import PodProbes
from kubesim.kubelet.reconcile import TERMINAL, Decision, Start, decide
from kubesim.kubelet.records import PodRecord, from_status
from kubesim.kubelet.refreshing import Refresher
from kubesim.kubelet.shims import ShimError
from kubesim.kubelet.starting import Starter
from kubesim.kubelet.status import pod_status
from kubesim.kubelet.stopping import STUCK_AFTER, Stopping
from kubesim.kubelet.surroundings import Surroundings
from kubewire.errors import Conflict, KubeError, NotFound
from kubewire.resources import PODS

log = logging.getLogger(__name__)

GONE_GRACE = 1.0
"""Seconds that the containers of a pod get which the API server does not have any more."""
FIRST_RETRY = 0.5
LONGEST_RETRY = 20.0


class PodWorker:
    """Takes care of one pod, from the first look at it until nothing of it is left."""

    def __init__(self, surroundings: Surroundings, uid: str, record: PodRecord | None = None) -> None:
        self._with = surroundings
        self.uid = uid
        self.pod: JsonObject | None = None
        self._starter = Starter(surroundings, uid, record)
        self.folder = self._starter.folder
        self._wake = asyncio.Event()
        self._watchers: dict[Path, asyncio.Task[None]] = {}
        self._post_starts = PostStarts(self._wake.set, self._post_start_failed)
        self._probes = PodProbes(
            directory=self.folder.attempt,
            changed=self._wake.set,
            complain=self._complain,
            clock=surroundings.clock,
        )
        self._stopping = Stopping(
            events=surroundings.events, clock=surroundings.clock, directory=self.folder.attempt
        )
        self._retry = FIRST_RETRY
        self._is_admitted = False
        self._has_told_failure = False
        self._refresher = Refresher(surroundings, self.folder)
        self.limited: list[memory.Limited] = []
        self._finished = False

    @property
    def record(self) -> PodRecord | None:
        """Who the pod's folder belongs to, None before there is one."""
        return self._starter.record

    # --- from outside ---

    def update(self, pod: JsonObject | None) -> None:
        """The pod as the API server has it now; None: it has not."""
        if pod is not None and self.pod is not None and _version(pod) < _version(self.pod):
            return  # older than the answer to our own last change
        first, self.pod = self.pod is None, pod
        if pod is None:
            self._with.admission.release(self.uid)  # whoever comes next may have been bound already
        elif first and self._has_begun(pod):
            self._with.admission.keep(pod)
        self._wake.set()

    async def view(self) -> PodView:
        """The pod and its containers as they are now."""
        return await self._look()

    async def run(self) -> None:
        """Work until nothing of the pod is left. Begins with the first `update`: what runs goes on until then."""
        await self._wake.wait()
        try:
            while not self._finished:
                self._wake.clear()
                try:
                    wake_at = await self._sync()
                except (KubeError, ShimError, OSError, TimeoutError) as error:
                    log.warning("pod %s: %s: %s", self._name(), type(error).__name__, error)
                    wake_at = self._retry_at()
                except Exception:  # a mistake in here must not end the other pods' workers
                    log.exception("pod %s: a step failed", self._name())
                    wake_at = self._retry_at()
                if not self._finished:
                    await self._sleep_until(wake_at)
        finally:
            watchers = list(self._watchers.values())
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            await self._probes.aclose()
            await self._post_starts.aclose()
            await self._stopping.aclose()

    # --- one step ---

    async def _sync(self) -> float | None:
        view = await self._look()
        if self.pod is None:
            return await self._vanish(view)
        if not self._is_admitted and not await self._admit(self.pod):
            return None
        decision = decide(view, self._with.clock())
        if decision.start:
            for start in decision.start:
                await self._start(view, start)
            view = await self._look()
            decision = decide(view, self._with.clock())
            if any(start.container not in self._starter.problems for start in decision.start):
                self._wake.set()  # what was started makes room for the next
        self.limited = memory.limits_of(view, self.folder.attempt)
        self._probes.follow(view)
        await self._stopping.carry_out(view, decision)
        await self._report(view, decision)
        if decision.let_go:
            await self._let_go()
            return None
        await self._refresh(view)
        times = [decision.wake_at, self._refresher.due_at, *self._stopping.times]
        if self._starter.problems:
            times.append(self._retry_at())
        else:
            self._retry = FIRST_RETRY
        return min((at for at in times if at is not None), default=None)

    async def _admit(self, pod: JsonObject) -> bool:
        """Have a new pod examined; whether it may be worked on. What has begun already has been counted."""
        ended = (pod.get("status") or {}).get("phase") in TERMINAL
        if not ended and not self._has_begun(pod) and "deletionTimestamp" not in pod["metadata"]:
            rejection = await self._with.admission.admit(pod)
            if rejection is not None:
                self._with.events.warning(pod, rejection.reason, rejection.message)
                message = f"Pod was rejected: {rejection.message}"
                await self._write({"phase": "Failed", "reason": rejection.reason, "message": message})
                return False
        self._is_admitted = True
        return True

    def _has_begun(self, pod: JsonObject) -> bool:
        """Whether the pod was admitted before the kubelet was restarted, and has not ended."""
        status = pod.get("status") or {}
        begun = self.record is not None or bool(status.get("startTime"))
        return begun and status.get("phase") not in TERMINAL

    async def _look(self) -> PodView:
        known = await asyncio.to_thread(self.folder.containers)
        for name, view in known.items():
            self._follow(name, view.current)
        pod = self.pod or {}
        status = pod.get("status") or {}
        for reported in [
            *(status.get("initContainerStatuses") or ()),
            *(status.get("containerStatuses") or ()),
            *(status.get("ephemeralContainerStatuses") or ()),
        ]:
            if reported["name"] not in known and (lost := from_status(reported)) is not None:
                known[reported["name"]] = lost
        for name, problem in self._starter.problems.items():
            known[name] = known.get(name, ContainerView()).with_problem(*problem)
        self._add_health(pod, known)
        return PodView(
            pod=pod,
            containers=known,
            pod_ip=self.record.ip if self.record else str(status.get("podIP") or ""),
            prepared=self.folder.prepared,
        )

    async def _refresh(self, view: PodView) -> None:
        try:
            await self._refresher.step(view)
        except (KubeError, TimeoutError) as error:
            log.info("pod %s: its volumes were not looked at: %s", self._name(), error)

    def _add_health(self, pod: JsonObject, known: dict[str, ContainerView]) -> None:
        spec = pod.get("spec") or {}
        running = set()
        for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
            name = container["name"]
            current = known[name].current if name in known else None
            if current is None or not current.running:
                continue
            directory = self.folder.attempt(name, current.number)
            running.add(directory)
            health = self._probes.health(pod, container, current)
            hook = self._post_starts.state(directory)
            known[name] = replace(known[name], health=replace(health, hook=hook))
        self._post_starts.keep(running)

    async def _vanish(self, view: PodView) -> float | None:
        """The API server does not have the pod: end it and remove its folder."""
        if view.running:
            self._probes.follow(view)
            decision = Decision(stop=tuple(view.running), grace=GONE_GRACE)
            await self._stopping.carry_out(view, decision)
            return min(self._stopping.times, default=None)
        await self._remove_folder()
        self._finished = True
        return None

    async def _let_go(self) -> None:
        """All has ended and deletion was asked for."""
        assert self.pod is not None
        self._with.admission.release(self.uid)  # before its place can be given to another
        metadata = self.pod["metadata"]
        try:
            await self._with.client.delete(
                PODS, metadata["name"], metadata["namespace"], grace_period=0, uid=self.uid
            )
        except (NotFound, Conflict):
            pass  # it has gone already, or another pod has its name
        await self._remove_folder()
        self._finished = True

    async def _remove_folder(self) -> None:
        watchers = [task for task in self._watchers.values() if not task.done()]
        if watchers:
            await asyncio.wait(watchers, timeout=STUCK_AFTER)
        left = await asyncio.to_thread(aftermath.end_marked, str(self.folder.path))
        if left:
            raise OSError(f"processes {', '.join(str(process.pid) for process in left)} could not be killed")
        await asyncio.to_thread(self.folder.remove)
        self._with.devices.release(self.uid)

    # --- starting ---

    async def _start(self, view: PodView, start: Start) -> None:
        started = await self._starter.start(view.pod, start)
        if started is None:
            return
        self._watch(started.directory, started.link)
        if not started.failed and self.record is not None:
            target = Target(directory=started.directory, container=started.container, pod_ip=self.record.ip)
            self._post_starts.begin(target)

    # --- following containers ---

    def _follow(self, name: str, current: Attempt | None) -> None:
        """Have the end of a running container noticed; after a restart of the daemon this adopts it."""
        if current is not None and current.running:
            directory = self.folder.attempt(name, current.number)
            if directory not in self._watchers or self._watchers[directory].done():
                self._watch(directory, None)

    def _watch(self, directory: Path, link: Link | None) -> None:
        async def wait_for_end() -> None:
            try:
                await shims.watch(directory, link)
            except OSError as error:
                log.warning("pod %s: the end of a container was not recorded: %s", self._name(), error)
                await asyncio.sleep(LONGEST_RETRY)
            finally:
                self._wake.set()

        for other in [path for path, task in self._watchers.items() if task.done()]:
            del self._watchers[other]
        if directory in self._watchers:
            if link is not None:
                link.close()
            return
        watcher = asyncio.create_task(wait_for_end(), name=f"watch {directory}")
        if link is not None:
            # also when it is cancelled before its first step
            watcher.add_done_callback(lambda _: link.close())
        self._watchers[directory] = watcher

    # --- reporting ---

    async def _report(self, view: PodView, decision: Decision) -> None:
        assert self.pod is not None
        old = self.pod.get("status") or {}
        if old.get("phase") in TERMINAL and self.record is None:
            return  # it ended long ago, and nothing of it is known here that the API server does not know
        if decision.failure is not None and old.get("phase") not in TERMINAL and not self._has_told_failure:
            self._has_told_failure = True
            self._with.events.normal(self.pod, *decision.failure)
        now = self._with.clock()
        status = pod_status(replace(view, pod=self.pod), decision, host_ip=HOST, now=now)
        if status["phase"] in TERMINAL:
            self._with.devices.release(self.uid)
            self._with.admission.release(self.uid)
        if all(old.get(key) == value for key, value in status.items()):
            return
        for name, seconds in decision.backing_off:
            self._tell_backoff(name, seconds)
        await self._write(status)

    async def _write(self, status: JsonObject) -> None:
        assert self.pod is not None
        metadata = self.pod["metadata"]
        try:
            answer = await self._with.client.patch(
                PODS,
                metadata["name"],
                {"metadata": {"uid": self.uid}, "status": status},
                metadata["namespace"],
                subresource="status",
            )
        except (NotFound, Conflict):
            return  # it has gone, or another one has its name: the watch will say so
        self._accept(answer)

    def _accept(self, answer: JsonObject) -> None:
        """Take the answer to our own change, unless the watch has been faster."""
        if self.pod is not None and _version(answer) > _version(self.pod):
            self.pod = answer

    def _complain(self, container: str, reason: str, message: str) -> None:
        if self.pod is not None:
            self._with.events.warning(self.pod, reason, message, container)

    def _post_start_failed(self, container: str) -> None:
        self._complain(container, "FailedPostStartHook", "PostStartHook failed")

    def _tell_backoff(self, name: str, seconds: float) -> None:
        assert self.pod is not None
        message = f"Back-off restarting failed container {name} in pod {self._name()}({self.uid})"
        self._with.events.warning(self.pod, "BackOff", message, name)

    # --- small things ---

    def _name(self) -> str:
        metadata = (self.pod or {}).get("metadata") or {}
        name = metadata.get("name") or (self.record.name if self.record else self.uid)
        namespace = metadata.get("namespace") or (self.record.namespace if self.record else "")
        return f"{name}_{namespace}"

    def _retry_at(self) -> float:
        at = self._with.clock() + self._retry
        self._retry = min(self._retry * 2, LONGEST_RETRY)
        return at

    async def _sleep_until(self, at: float | None) -> None:
        pause = None if at is None else max(0.0, at - self._with.clock())
        await wait(self._wake, pause)


def _version(pod: JsonObject) -> int:
    version = str((pod.get("metadata") or {}).get("resourceVersion") or "")
    return int(version) if version.isdigit() else 0
