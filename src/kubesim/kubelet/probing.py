"""Probing the containers of one pod: a task for each running attempt that has probes.

A task belongs to one attempt and never outlives it. Of a startup probe the success begins the others; its failure, and
that of the liveness probe, ends the probing of the attempt, because it is about to be ended. What probes found is
kept as `Health`, which the pod's worker reads; it is woken when something has changed. Probes that fail are told in
events, each of them.

A daemon that was restarted has lost the results; it begins with what the API server was told of the same attempt, so
that a restart makes no pod unready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from kubesim.clock import sleep as clock_sleep
from kubesim.clock import timestamp
from kubesim.kubelet import handlers, probes
from kubesim.kubelet.background import Tasks
from kubesim.kubelet.containers import Attempt, Health, JsonObject, PodView
from kubesim.kubelet.handlers import Target
from kubesim.kubelet.probes import LIVENESS, READINESS, STARTUP, Outcome, Probe, Result, Tally

RETRIES = 3
"""How often a probe that could not be performed is tried before its result is unknown."""
Performer = Callable[[JsonObject, Target, float], Awaitable[Result]]


class Prober:
    """Probes one attempt of a container, from its start to its end."""

    def __init__(
        self,
        target: Target,
        found: list[Probe],
        health: Health,
        *,
        started_at: float,
        changed: Callable[[], None],
        complain: Callable[[str, str], None],
        perform: Performer = handlers.probe,
        clock: Callable[[], float] = timestamp,
        sleep: Callable[[float], Awaitable[None]] = clock_sleep,
    ) -> None:
        self.health = health
        self._target = target
        self._probes = {probe.kind: probe for probe in found}
        self._started_at = started_at
        self._changed = changed
        self._complain = complain
        self._perform = perform
        self._clock = clock
        self._sleep = sleep

    @property
    def kinds(self) -> set[str]:
        """The kinds of its probes."""
        return set(self._probes)

    async def run(self) -> None:
        """Probe until the attempt is given up, or for ever."""
        startup = self._probes.get(STARTUP)
        if startup is not None and not self.health.started:
            await self._probe(startup)
            if self.health.failed:
                return
        async with asyncio.TaskGroup() as group:
            for kind in (LIVENESS, READINESS):
                if kind in self._probes:
                    group.create_task(self._probe(self._probes[kind]), name=f"probe: {kind}")

    async def _probe(self, probe: Probe) -> None:
        tally = Tally(probe)
        next_at = max(self._started_at + probe.initial_delay, self._clock())
        while True:
            await self._sleep(max(0.0, next_at - self._clock()))
            verdict = tally.take((await self._perform_once(probe)).outcome)
            if verdict is not None:
                self._conclude(probe.kind, verdict)
                if probe.kind == STARTUP or self.health.failed:
                    return
            next_at = max(next_at + probe.period, self._clock())

    async def _perform_once(self, probe: Probe) -> Result:
        result = Result(Outcome.UNKNOWN)
        for _ in range(RETRIES):
            try:
                result = await self._perform(probe.handler, self._target, probe.timeout)
            except (OSError, ValueError) as error:  # what an odd host or answer can still cause
                result = Result(Outcome.UNKNOWN, f"{type(error).__name__}: {error}")
            if result.outcome is not Outcome.UNKNOWN:
                break
        told = probes.complaint(probe.kind, result)
        if told is not None:
            self._complain(*told)
        return result

    def _conclude(self, kind: str, verdict: bool) -> None:
        old = self.health
        if kind == READINESS:
            self.health = replace(old, ready=verdict)
        elif not verdict:
            self.health = replace(old, failed=kind)
        elif kind == STARTUP:
            self.health = replace(old, started=True)
        if self.health != old:
            self._changed()


class PodProbes:
    """The probers of one pod."""

    def __init__(
        self,
        *,
        directory: Callable[[str, int], Path],
        changed: Callable[[], None],
        complain: Callable[[str, str, str], None],  # container, reason, message
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._changed = changed
        self._complain = complain
        self._clock = clock
        self._tasks = Tasks()
        self._probers: dict[Path, tuple[Prober, asyncio.Task[None]]] = {}

    def health(self, pod: JsonObject, container: JsonObject, attempt: Attempt) -> Health:
        """What is known of a running attempt."""
        known = self._probers.get(self._directory(container["name"], attempt.number))
        return known[0].health if known else _first_health(pod, container, attempt)

    def follow(self, view: PodView) -> None:
        """Probe what runs, and nothing else."""
        wanted = set()
        for container in [*view.init_containers, *view.main_containers]:
            state = view.container(container["name"])
            if state.current is None or not state.current.running or state.health.hook:
                continue
            found = _probes_of(container)
            if "deletionTimestamp" in view.metadata:  # what is being ended need not be found dead
                found = [probe for probe in found if probe.kind == READINESS]
            if found:
                directory = self._directory(container["name"], state.current.number)
                wanted.add(directory)
                self._begin(directory, view, container, state.current, found)
        for directory in self._probers.keys() - wanted:
            self._probers.pop(directory)[1].cancel()

    async def aclose(self) -> None:
        """End all probing."""
        self._probers.clear()
        await self._tasks.aclose()

    def _begin(
        self, directory: Path, view: PodView, container: JsonObject, attempt: Attempt, found: list[Probe]
    ) -> None:
        known = self._probers.get(directory)
        if known is not None:
            if known[0].kinds == {probe.kind for probe in found}:
                return
            known[1].cancel()  # the pod is being deleted: some of its probes end
        name = str(container["name"])
        prober = Prober(
            Target(directory=directory, container=container, pod_ip=view.pod_ip),
            found,
            self.health(view.pod, container, attempt),
            started_at=attempt.started_at or 0.0,
            changed=self._changed,
            complain=lambda reason, message: self._complain(name, reason, message),
            clock=self._clock,
        )
        task = self._tasks.start(prober.run(), name=f"probe {directory}")
        self._probers[directory] = (prober, task)


def _probes_of(container: JsonObject) -> list[Probe]:
    found = [probes.read(container, kind) for kind in (STARTUP, LIVENESS, READINESS)]
    return [probe for probe in found if probe is not None]


def _first_health(pod: JsonObject, container: JsonObject, attempt: Attempt) -> Health:
    """Before any result: as the API server was told of this attempt, else neither started nor ready."""
    status = pod.get("status") or {}
    reported = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    same = next((one for one in reported if one.get("containerID") == attempt.container_id), None)
    known = same if same is not None and "running" in (same.get("state") or {}) else {}
    return Health(
        started=not container.get("startupProbe") or bool(known.get("started")),
        ready=not container.get("readinessProbe") or bool(known.get("ready")),
    )
