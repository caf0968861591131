"""Lifecycle hooks: what a container wants to be done right after its start, and right before its end.

postStart runs beside the container's main process; until it is done the container is not reported as running and
the next container of the pod is not started, and its failure ends the container (`reconcile.py`). preStop is run by
`stopping.py`, inside the grace period. What a hook printed is not told in events, as in the real kubelet: it could be
a secret.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from kubesim.kubelet import handlers, httpget
from kubesim.kubelet.background import Tasks
from kubesim.kubelet.containers import JsonObject
from kubesim.kubelet.handlers import CommandError, Target

log = logging.getLogger(__name__)

HTTP_LIMIT = 60.0
RUNNING = "running"
FAILED = "failed"


class HookError(Exception):
    """A hook failed."""


async def run(handler: JsonObject, target: Target) -> None:
    """Run a hook. Raises HookError. How long it may take is the caller's to say, as Kubernetes has no limit for it."""
    if (action := handler.get("exec")) is not None:
        await _command(list(action.get("command") or ()), target)
    elif (action := handler.get("httpGet")) is not None:
        await _get(action, target)
    elif (action := handler.get("sleep")) is not None:
        await asyncio.sleep(float(action.get("seconds") or 0))
    else:
        raise HookError(f"invalid handler: {next(iter(handler), 'none')}")


async def _command(argv: list[str], target: Target) -> None:
    try:
        code, output = await handlers.run_command(argv, target)
    except CommandError as error:
        raise HookError(str(error)) from error
    if code != 0:
        raise HookError(f"command '{' '.join(argv)}' exited with {code}: {output}")


async def _get(action: JsonObject, target: Target) -> None:
    """The status of the answer does not matter, only that one comes."""
    try:
        url = httpget.url_of({**action, "port": action.get("port") or 80}, target.container, target.pod_ip)
        await httpget.get(url, httpget.headers_of(action, "kube-lifecycle"), HTTP_LIMIT)
    except (httpget.GetError, httpget.NoPort) as error:
        raise HookError(str(error)) from error


def hook_of(container: JsonObject, kind: str) -> JsonObject | None:
    """A container's postStart or preStop."""
    found: JsonObject | None = (container.get("lifecycle") or {}).get(kind)
    return found or None


class PostStarts:
    """The postStart hooks of one pod that run, or have failed."""

    def __init__(self, changed: Callable[[], None], failed: Callable[[str], None]) -> None:
        self._changed = changed
        self._failed = failed
        self._states: dict[Path, str] = {}
        self._hooks: dict[Path, asyncio.Task[None]] = {}
        self._tasks = Tasks()

    def state(self, directory: Path) -> str:
        """RUNNING, FAILED or nothing to tell."""
        return self._states.get(directory, "")

    def begin(self, target: Target) -> None:
        """Run the hook of a container that has just been started, if it has one."""
        handler = hook_of(target.container, "postStart")
        if handler is None:
            return
        self._states[target.directory] = RUNNING
        name = f"postStart {target.directory}"
        self._hooks[target.directory] = self._tasks.start(self._run(handler, target), name)

    def keep(self, running: set[Path]) -> None:
        """Forget the hooks of containers that have ended."""
        for directory in self._states.keys() - running:
            del self._states[directory]
            self._hooks.pop(directory).cancel()

    async def aclose(self) -> None:
        """End the hooks that still run."""
        await self._tasks.aclose()

    async def _run(self, handler: JsonObject, target: Target) -> None:
        name = target.container["name"]
        try:
            await run(handler, target)
        except HookError as error:
            log.info("postStart hook of container %s failed: %s", name, error)
            self._states[target.directory] = FAILED
            self._failed(name)
        except Exception:  # a mistake in here must not leave the container waiting for its hook
            log.exception("postStart hook of container %s", name)
            self._states[target.directory] = FAILED
            self._failed(name)
        else:
            self._states[target.directory] = ""
        self._changed()
