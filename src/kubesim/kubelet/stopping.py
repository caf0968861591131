"""Ending the containers of one pod: preStop hook, TERM, KILL, and force where a shim does not do its work.

Each ending is a task of its own, so that a hook that takes long keeps nobody up. Within one grace period a container
first has its preStop hook run, then waits for its turn (sidecars end after what they serve), and gets TERM with what is
left, but at least two seconds. Its end is noticed by who follows the container, not here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kubesim.kubelet import aftermath, hooks, shims
from kubesim.kubelet.background import Tasks
from kubesim.kubelet.containers import JsonObject, PodView, every_container
from kubesim.kubelet.events import EventRecorder
from kubesim.kubelet.handlers import Target
from kubesim.kubelet.reconcile import Decision
from kubesim.kubelet.shims import ShimError

log = logging.getLogger(__name__)

STUCK_AFTER = 5.0
"""Seconds beyond the grace after which a shim is taken for stuck and its container ended by force."""
SMALLEST_GRACE = 2.0
"""Seconds that TERM gets when a hook, or waiting for its turn, has used the grace up."""


@dataclass(kw_only=True)
class _Ending:
    """A container that is being ended."""

    attempt: int
    kill_at: float
    task: asyncio.Task[None] | None = None
    turn: asyncio.Event = field(default_factory=asyncio.Event)


class Stopping:
    """Ends the containers of one pod."""

    def __init__(
        self, *, events: EventRecorder, clock: Callable[[], float], directory: Callable[[str, int], Path]
    ) -> None:
        self._events = events
        self._clock = clock
        self._directory = directory
        self._endings: dict[str, _Ending] = {}
        self._tasks = Tasks()

    @property
    def times(self) -> list[float]:
        """When to look again at what should have ended."""
        return [ending.kill_at for ending in self._endings.values()]

    async def carry_out(self, view: PodView, decision: Decision) -> None:
        """End what the decision wants ended. Safe to repeat."""
        self._forget(view)
        for name in decision.stop:
            message = f"Stopping container {name}"
            held = name in decision.held
            await self._end(view, name, decision.grace, message, held=held)
        for kill in decision.kill:
            await self._end(view, kill.container, kill.grace, kill.message)

    async def aclose(self) -> None:
        """Leave the containers as they are."""
        await self._tasks.aclose()

    def _forget(self, view: PodView) -> None:
        for name, ending in list(self._endings.items()):
            current = view.container(name).current
            if current is not None and current.running and current.number == ending.attempt:
                continue
            del self._endings[name]  # it has ended, and may have been started again already
            if ending.task is not None:
                ending.task.cancel()

    async def _end(self, view: PodView, name: str, grace: float, message: str, *, held: bool = False) -> None:
        current = view.container(name).current
        assert current is not None
        directory = self._directory(name, current.number)
        now = self._clock()
        known = self._endings.get(name)
        if known is not None:
            if not held:
                known.turn.set()
            if now >= known.kill_at:
                log.warning("the shim of %s does not end it; by force now", directory)
                await asyncio.to_thread(aftermath.end_by_force, str(directory))
                known.kill_at = now + STUCK_AFTER
                return
        kill_at = now + grace + SMALLEST_GRACE + STUCK_AFTER
        if known is not None and kill_at >= known.kill_at - 0.5:
            return  # only a shorter grace changes what is under way, and ends a hook
        container = _container(view, name)
        hook = hooks.hook_of(container, "preStop") if known is None and grace > 0 else None
        if known is None and view.pod:
            self._events.normal(view.pod, "Killing", message, name)
        if known is not None and known.task is not None:
            known.task.cancel()
        ending = self._endings[name] = _Ending(attempt=current.number, kill_at=kill_at)
        if not held:
            ending.turn.set()
        target = Target(directory=directory, container=container, pod_ip=view.pod_ip)
        ending.task = self._tasks.start(
            self._carry_out_one(view.pod, target, hook, grace, ending), name=f"end {directory}"
        )

    async def _carry_out_one(
        self, pod: JsonObject, target: Target, hook: JsonObject | None, grace: float, ending: _Ending
    ) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        hurried = hook is not None or not ending.turn.is_set()
        try:
            async with asyncio.timeout_at(deadline):
                if hook is not None:
                    await self._pre_stop(pod, target, hook)
                if not ending.turn.is_set():
                    await ending.turn.wait()
        except TimeoutError:
            pass  # the grace is over, whatever it was spent on
        left = max(deadline - loop.time(), SMALLEST_GRACE) if hurried else grace
        try:
            await shims.stop(target.directory, left)
        except ShimError as error:
            log.info("%s was not asked to stop: %s", target.directory, error)

    async def _pre_stop(self, pod: JsonObject, target: Target, hook: JsonObject) -> None:
        name = target.container["name"]
        try:
            await hooks.run(hook, target)
        except hooks.HookError as error:
            log.info("preStop hook of container %s failed: %s", name, error)
            self._events.warning(pod, "FailedPreStopHook", "PreStopHook failed", name)


def _container(view: PodView, name: str) -> JsonObject:
    """The container in the pod's spec; of a pod that is gone only the name is left."""
    return next((one for one in every_container(view.pod) if one["name"] == name), {"name": name})
