"""One pod's worker: brings what is here to what the API server wants, one step after the other.

Level-triggered: whatever happens (a change of the pod, the end of a container, a time that has come) only wakes the
worker; it then looks at the pod and at the files, lets `reconcile.decide` decide, carries it out and reports. All of
a pod's changes are made by its worker, so that none needs a lock. A failure of one step is tried again, and never
ends the worker.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kubesim.clock import timestamp, wait
from kubesim.kubelet import aftermath, containerfiles, environment, references, sandbox, shims, volumes
from kubesim.kubelet.addresses import HOST, allocate
from kubesim.kubelet.containers import Attempt, ContainerView, JsonObject, PodView
from kubesim.kubelet.devices import GPU_RESOURCE, Devices, NoDevice
from kubesim.kubelet.environment import ConfigError
from kubesim.kubelet.events import EventRecorder
from kubesim.kubelet.link import Link
from kubesim.kubelet.reconcile import TERMINAL, Decision, Start, decide
from kubesim.kubelet.records import PodFolder, PodRecord, from_status
from kubesim.kubelet.sandbox import Place
from kubesim.kubelet.shims import ShimError, Zygote
from kubesim.kubelet.status import pod_status
from kubesim.kubelet.venv import Template
from kubesim.kubelet.volumes import VolumeError
from kubewire.client import Client
from kubewire.errors import Conflict, KubeError, NotFound
from kubewire.resources import PODS

log = logging.getLogger(__name__)

GONE_GRACE = 1.0
"""Seconds that the containers of a pod get which the API server does not have any more."""
STUCK_AFTER = 5.0
"""Seconds beyond the grace after which a shim is taken for stuck and its container ended by force."""
FIRST_RETRY = 0.5
LONGEST_RETRY = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the workers of one node share."""

    client: Client
    root: Path
    zygote: Zygote
    events: EventRecorder
    devices: Devices
    template: Callable[[], Template]  # blocks until it is made; called in threads
    host_variables: Mapping[str, str]
    host_path: tuple[str, ...]
    allocatable: Mapping[str, str]
    taken_addresses: Callable[[], set[str]]
    clock: Callable[[], float] = timestamp


class PodWorker:
    """Takes care of one pod, from the first look at it until nothing of it is left."""

    def __init__(self, surroundings: Surroundings, uid: str, record: PodRecord | None = None) -> None:
        self._with = surroundings
        self.uid = uid
        self.folder = PodFolder(surroundings.root / "pods" / uid)
        self.record = record
        self.pod: JsonObject | None = None
        self._wake = asyncio.Event()
        self._watchers: dict[Path, asyncio.Task[None]] = {}
        self._problems: dict[str, tuple[str, str]] = {}
        self._kill_at: dict[str, float] = {}
        self._retry = FIRST_RETRY
        self._finished = False

    # --- from outside ---

    def update(self, pod: JsonObject | None) -> None:
        """The pod as the API server has it now; None: it has not."""
        if pod is not None and self.pod is not None and _version(pod) < _version(self.pod):
            return  # older than the answer to our own last change
        self.pod = pod
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

    # --- one step ---

    async def _sync(self) -> float | None:
        view = await self._look()
        if self.pod is None:
            return await self._vanish(view)
        decision = decide(view, self._with.clock())
        if decision.start:
            for start in decision.start:
                await self._start(view, start)
            view = await self._look()
            decision = decide(view, self._with.clock())
            if any(start.container not in self._problems for start in decision.start):
                self._wake.set()  # what was started makes room for the next
        await self._stop(view, decision.stop, decision.grace)
        await self._report(view, decision)
        if decision.let_go:
            await self._let_go()
            return None
        times = [decision.wake_at, *self._kill_at.values()]
        if self._problems:
            times.append(self._retry_at())
        else:
            self._retry = FIRST_RETRY
        return min((at for at in times if at is not None), default=None)

    async def _look(self) -> PodView:
        known = await asyncio.to_thread(self.folder.containers)
        for name, view in known.items():
            self._follow(name, view.current)
        pod = self.pod or {}
        status = pod.get("status") or {}
        for reported in [
            *(status.get("initContainerStatuses") or ()),
            *(status.get("containerStatuses") or ()),
        ]:
            if reported["name"] not in known and (lost := from_status(reported)) is not None:
                known[reported["name"]] = lost
        for name, problem in self._problems.items():
            known[name] = known.get(name, ContainerView()).with_problem(*problem)
        return PodView(
            pod=pod,
            containers=known,
            pod_ip=self.record.ip if self.record else str(status.get("podIP") or ""),
            prepared=self.folder.prepared,
        )

    async def _vanish(self, view: PodView) -> float | None:
        """The API server does not have the pod: end it and remove its folder."""
        if view.running:
            await self._stop(view, tuple(view.running), GONE_GRACE)
            return min(self._kill_at.values(), default=None)
        await self._remove_folder()
        self._finished = True
        return None

    async def _let_go(self) -> None:
        """All has ended and deletion was asked for."""
        assert self.pod is not None
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
        pod = view.pod
        container = _container(pod, start.container)
        if self.record is None:
            self.record = await asyncio.to_thread(self._create_folder, pod)
        try:
            await self._prepare(pod, container, start)
        except (ConfigError, NoDevice) as error:
            self._has_problem(start.container, "CreateContainerConfigError", str(error), "Failed", "Error: ")
            return
        except VolumeError as error:
            self._has_problem(start.container, "ContainerCreating", "", "FailedMount", str(error))
            return
        self._problems.pop(start.container, None)
        directory = self.folder.attempt(start.container, start.number)
        link = await self._with.zygote.start(directory)
        self._watch(directory, link)
        end = await asyncio.to_thread(containerfiles.read_exit, str(directory))
        if end is not None and end.reason == "StartError":
            self._with.events.warning(pod, "Failed", f"Error: {end.message}", start.container)
        else:
            self._with.events.normal(pod, "Started", "Container started", start.container)

    def _create_folder(self, pod: JsonObject) -> PodRecord:
        metadata = pod["metadata"]
        host_network = bool(pod["spec"].get("hostNetwork"))
        ip = HOST if host_network else allocate(f"{self._with.root}/{self.uid}", self._with.taken_addresses())
        record = PodRecord(uid=self.uid, namespace=metadata["namespace"], name=metadata["name"], ip=ip)
        self.folder.create(record)
        return record

    async def _prepare(self, pod: JsonObject, container: JsonObject, start: Start) -> None:
        """Make all that the container needs, and write down what is to be started."""
        assert self.record is not None
        directory = self.folder.attempt(start.container, start.number)
        if (directory / containerfiles.SPEC).exists():
            return  # it was prepared before the daemon was restarted
        sources = await references.read(
            self._with.client,
            pod,
            pod_ip=self.record.ip,
            host_ip=HOST,
            allocatable=self._with.allocatable,
        )
        if not self.folder.prepared:
            tokens = await references.request_tokens(self._with.client, pod)
            await asyncio.to_thread(self._make_volumes, pod, sources, tokens)
            images = ", ".join(sorted({one.get("image") or "(none)" for one in pod["spec"]["containers"]}))
            self._with.events.normal(
                pod,
                "ImageNotPulled",
                f"Recorded, not pulled: {images}. Processes run on this machine as it is.",
            )
        declared = environment.build(pod, container, sources)
        gpus = self._with.devices.claim(f"{self.uid}/{start.container}", _gpus(container))
        notes = {
            "container_id": f"process://{secrets.token_hex(32)}",
            "backoff": start.backoff,
            "gpus": gpus,
        }
        await asyncio.to_thread(self._make_place, pod, container, start, declared, notes)
        self._with.events.normal(pod, "Created", "Container created", start.container)

    def _make_volumes(self, pod: JsonObject, sources: environment.Sources, tokens: Mapping[str, str]) -> None:
        for volume in pod["spec"].get("volumes") or ():
            try:
                files = volumes.files_of(pod, volume, sources, tokens)
                volumes.write(self.folder.volumes / volume["name"], volume, files)
            except (VolumeError, OSError) as error:
                raise VolumeError(
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                ) from error
        self.folder.mark_prepared()

    def _make_place(
        self,
        pod: JsonObject,
        container: JsonObject,
        start: Start,
        declared: Mapping[str, str],
        notes: dict[str, Any],
    ) -> None:
        place = Place(self.folder.attempt(start.container, start.number))
        place.directory.mkdir(parents=True, exist_ok=True)
        place.directory.chmod(0o700)
        self.folder.forget_before(start.container, start.number)
        base = sandbox.base_environment(
            place,
            pod,
            host=self._with.host_variables,
            path=self._with.host_path,
            cache=self._with.root / "cache",
        )
        base |= self._with.devices.environment(notes["gpus"])
        spec = sandbox.make_spec(place, container, base, declared, notes)
        sandbox.prepare(place, pod, container, self._with.template(), self.folder.volumes)
        containerfiles.write_json(str(place.directory / containerfiles.SPEC), spec.to_json())

    def _has_problem(self, container: str, reason: str, message: str, event: str, prefix: str) -> None:
        text = f"{prefix}{message}"
        assert self.pod is not None
        self._problems[container] = (reason, message)
        self._with.events.warning(self.pod, event, text, container if event == "Failed" else "")

    # --- stopping ---

    async def _stop(self, view: PodView, names: tuple[str, ...], grace: float) -> None:
        now = self._with.clock()
        for name in [name for name in self._kill_at if name not in view.running]:
            del self._kill_at[name]
        for name in names:
            current = view.container(name).current
            assert current is not None
            directory = self.folder.attempt(name, current.number)
            known = self._kill_at.get(name)
            kill_at = now + grace + STUCK_AFTER
            if known is not None and now >= known:
                log.warning(
                    "pod %s: the shim of container %s does not end it; by force now", self._name(), name
                )
                await asyncio.to_thread(aftermath.end_by_force, str(directory))
                self._kill_at[name] = now + STUCK_AFTER
            elif known is None or kill_at < known - 0.5:
                if known is None and view.pod:
                    self._with.events.normal(view.pod, "Killing", f"Stopping container {name}", name)
                self._kill_at[name] = kill_at
                try:
                    await shims.stop(directory, grace)
                except ShimError as error:
                    log.info("pod %s: container %s was not asked to stop: %s", self._name(), name, error)

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
        now = self._with.clock()
        status = pod_status(replace(view, pod=self.pod), decision, host_ip=HOST, now=now)
        if status["phase"] in TERMINAL:
            self._with.devices.release(self.uid)
        if all(old.get(key) == value for key, value in status.items()):
            return
        for name, seconds in decision.backing_off:
            self._tell_backoff(name, seconds)
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


def _container(pod: JsonObject, name: str) -> JsonObject:
    spec = pod["spec"]
    found: JsonObject = next(
        one for one in [*(spec.get("initContainers") or ()), *spec["containers"]] if one["name"] == name
    )
    return found


def _gpus(container: JsonObject) -> int:
    resources = container.get("resources") or {}
    amount = (resources.get("limits") or {}).get(GPU_RESOURCE) or (resources.get("requests") or {}).get(
        GPU_RESOURCE
    )
    return int(amount or 0)


def _version(pod: JsonObject) -> int:
    version = str((pod.get("metadata") or {}).get("resourceVersion") or "")
    return int(version) if version.isdigit() else 0
