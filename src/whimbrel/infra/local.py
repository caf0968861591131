"""The embedded Kubernetes of this machine: a kubesim cluster with a process node, run by its command.

kubesim is never imported: it is another program that happens to be installed with us, and it never shares a process
with us. Everything that it does to the cluster is its own; we only wait for it, within bounds, and pass on what it
says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from whimbrel.infra.base import Progress
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.infra.kubernetes.settings import LOCAL_CONTEXT
from whimbrel.model.errors import InfraError, InfraRefused, LeftBehind, Unreachable

CLUSTER = "local"
NAME = f"k8s/{LOCAL_CONTEXT}"
UP_TIMEOUT = 60.0
DOWN_TIMEOUT = 60.0
LOOK_TIMEOUT = 5.0


class LocalState(StrEnum):
    """What is there of it; kubesim's words."""

    ABSENT = "Absent"
    CREATING = "Creating"
    RUNNING = "Running"
    STOPPED = "Stopped"
    DEAD = "Dead"
    DELETING = "Deleting"
    UNAVAILABLE = "Unavailable"


class Local:
    """The cluster `local`, written into the first of the client's kubeconfig files."""

    name = NAME

    def __init__(
        self,
        kubeconfig: Sequence[str | Path],
        *,
        infra: Callable[[], Awaitable[KubernetesInfra]] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        """`infra` gives the way to it, or raises `ContextNotFound`; without one, kubesim is asked how it is."""
        self._kubeconfig = str(kubeconfig[0]) if kubeconfig else None
        self._infra = infra
        self._command = list(command or (sys.executable, "-P", "-m", "kubesim"))

    async def state(self) -> LocalState:
        """What there is, as kubesim says."""
        return (await self._look())[0]

    async def running(self) -> bool:
        """Whether it runs and answers, and the kubeconfig that we were given leads to it."""
        if self._infra is not None:
            try:
                return await (await self._infra()).answers()
            except InfraError:
                return False
        state, kubeconfig = await self._look()
        return state is LocalState.RUNNING and (self._kubeconfig in (None, kubeconfig))

    async def up(self, progress: Progress) -> None:
        """Make it run: create it, start it again, or find it running. A context that is current stays so."""
        progress("starting the embedded Kubernetes on this machine")
        arguments = ["create", "cluster", "--name", CLUSTER, "--process-node", "--wait", "30s", "--json"]
        arguments += ["--keep-current-context"]
        if self._kubeconfig:
            arguments += ["--kubeconfig", self._kubeconfig]
        code, _, said = await self._run(arguments, UP_TIMEOUT, progress)
        if code != 0:
            raise InfraRefused(
                f"The embedded Kubernetes could not be started: {_last(said, code)}",
                remedy=f"look at `kubesim logs --name {CLUSTER}`",
            )
        if self._infra is not None:
            (await self._infra()).forget_failures()

    async def down(self, progress: Progress) -> None:
        """Remove it with everything in it. Nothing there is as good."""
        progress("removing the embedded Kubernetes of this machine")
        code, _, said = await self._run(["delete", "cluster", "--name", CLUSTER], DOWN_TIMEOUT, progress)
        if code != 0:
            raise LeftBehind(
                f"The embedded Kubernetes could not be removed: {_last(said, code)}",
                remedy=f"mend that, or `kubesim delete cluster --name {CLUSTER} --force`, which keeps nothing",
            )

    async def _look(self) -> tuple[LocalState, str | None]:
        code, out, said = await self._run(["get", "clusters", "--json"], LOOK_TIMEOUT, None)
        if code != 0:
            raise InfraRefused(f"`kubesim get clusters` failed: {_last(said, code)}")
        try:
            clusters: list[dict[str, Any]] = json.loads(out)
            found = next((one for one in clusters if one["name"] == CLUSTER), None)
            if found is None:
                return LocalState.ABSENT, None
            return LocalState(found["status"]), found.get("kubeconfig")
        except (ValueError, KeyError, TypeError) as error:
            raise InfraRefused(f"`kubesim get clusters` said something unexpected: {error!r}") from error

    async def _run(
        self, arguments: Sequence[str], timeout: float, progress: Progress | None
    ) -> tuple[int, str, list[str]]:
        """The exit code, stdout, and the lines of stderr, each told as progress when it comes."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout
        assert process.stderr
        lines: list[str] = []
        reading = asyncio.create_task(_lines(process.stderr, lines, progress), name="kubesim's stderr")
        try:
            async with asyncio.timeout(timeout):
                out = await process.stdout.read()
                await reading
                return await process.wait(), out.decode("utf-8", "replace"), lines
        except TimeoutError:
            raise _late(arguments, timeout) from None
        finally:
            reading.cancel()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(
                        process.pid, signal.SIGKILL
                    )  # the command; the cluster's daemon is not its child
                await process.wait()
            await asyncio.gather(reading, return_exceptions=True)


async def _lines(stream: asyncio.StreamReader, lines: list[str], progress: Progress | None) -> None:
    async for raw in stream:
        line = raw.decode("utf-8", "replace").strip()
        if line:
            lines.append(line)
            if progress:
                progress(line)


def _last(lines: Sequence[str], code: int) -> str:
    return " ".join(lines[-3:]) if lines else f"it ended with exit code {code}"


def _late(arguments: Sequence[str], timeout: float) -> InfraError:
    return Unreachable(
        f"`kubesim {' '.join(arguments[:2])}` did not end within {timeout:g} s.",
        remedy=f"look at `kubesim logs --name {CLUSTER}`",
    )
