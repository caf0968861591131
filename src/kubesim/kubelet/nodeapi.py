"""What a kubelet answers to the log, exec, attach and portforward subresources, for one pod.

The refusals are worded as the real kubelet words them. The streams themselves are `stream.ShimStream`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from kubesim.apiserver.nodes import ExecOptions, LogOptions, NodeError
from kubesim.kubelet import containerfiles, logread, shims
from kubesim.kubelet.addresses import HOST
from kubesim.kubelet.containers import Attempt, PodView, every_container
from kubesim.kubelet.podworker import PodWorker
from kubesim.kubelet.shims import ShimError
from kubesim.kubelet.stream import ShimStream

DIAL_LIMIT = 3.0
_TERMINAL_TYPE = "xterm-256color"


def unknown_pod(namespace: str, name: str) -> NodeError:
    """The answer for a pod that this node does not have (yet)."""
    return NodeError(f'pods "{name}" not found', code=404)


async def logs(
    worker: PodWorker, container: str, options: LogOptions, now: float
) -> AsyncGenerator[bytes, None]:
    """What a container printed, in this attempt or in the one before."""
    view = await worker.view()
    attempt = _attempt_with_log(view, container, previous=options.previous)
    directory = worker.folder.attempt(container, attempt.number)
    try:
        async with aclosing(logread.read_log(directory, options, now)) as pieces:
            async for piece in pieces:
                yield piece
    except FileNotFoundError:
        if attempt.exit is None or attempt.exit.reason != "StartError":
            raise _gone(attempt) from None


async def execute(worker: PodWorker, container: str, options: ExecOptions) -> ShimStream:
    """Run a command in a running container, with the container's environment and working directory."""
    directory = await _running(worker, container)
    spec = await asyncio.to_thread(containerfiles.read_spec, str(directory))
    if spec is None:
        raise NodeError(f'container not found ("{container}")', code=404)
    env = {"TERM": _TERMINAL_TYPE, **spec.env} if options.tty else spec.env
    try:
        return await shims.execute(
            directory,
            options.command,
            env,
            spec.cwd,
            stdin=options.stdin,
            stdout=options.stdout,
            stderr=options.stderr,
            tty=options.tty,
        )
    except ShimError as error:
        if error.exit_code is None:
            raise NodeError(f'container not found ("{container}"): {error.message}', code=404) from error
        raise NodeError(
            "error executing command in container: failed to exec in container: "
            f"unable to start container process: {error.message}",
            code=500,
        ) from error


async def attach(worker: PodWorker, container: str, options: ExecOptions) -> ShimStream:
    """Follow the output of a running container's main process."""
    directory = await _running(worker, container)
    spec = await asyncio.to_thread(containerfiles.read_spec, str(directory))
    has_terminal = spec is not None and spec.tty
    if options.tty and not has_terminal:
        raise NodeError(f"the container {container} has no terminal: its `tty` is not set", code=400)
    try:
        return await shims.attach(
            directory, stdin=options.stdin, stdout=options.stdout, stderr=options.stderr, tty=has_terminal
        )
    except ShimError as error:
        raise NodeError(f'container not found ("{container}"): {error.message}', code=404) from error


async def dial(worker: PodWorker, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port of a pod: at its own address, or at that of the machine, for who listens only there.
    Raises OSError when nobody listens."""
    view = await worker.view()
    refusal: OSError = ConnectionRefusedError(f"port {port} of pod {view.metadata.get('name')} is closed")
    for address in dict.fromkeys((view.pod_ip or HOST, HOST)):
        try:
            async with asyncio.timeout(DIAL_LIMIT):
                return await asyncio.open_connection(address, port)
        except OSError as error:
            refusal = error
    raise refusal


async def _running(worker: PodWorker, container: str) -> Path:
    view = await worker.view()
    current = view.container(container).current
    if current is None or not current.running:
        raise NodeError(f'container not found ("{container}")', code=404)
    return worker.folder.attempt(container, current.number)


def _attempt_with_log(view: PodView, container: str, *, previous: bool) -> Attempt:
    """The attempt whose log is asked for. Raises NodeError as the real kubelet does."""
    names = [one["name"] for one in every_container(view.pod)]
    pod = view.metadata.get("name")
    if container not in names:
        raise NodeError(f'container "{container}" in pod "{pod}" is not available', code=404)
    known = view.container(container)
    if previous:
        if known.previous is None:
            raise NodeError(f'previous terminated container "{container}" in pod "{pod}" not found', code=400)
        return known.previous
    current = known.current
    if current is None or (current.started_at is None and current.exit is None):
        reason = known.problem[0] if known.problem else "ContainerCreating"
        raise NodeError(f'container "{container}" in pod "{pod}" is waiting to start: {reason}', code=400)
    return current


def _gone(attempt: Attempt) -> NodeError:
    return NodeError(f"unable to retrieve container logs for {attempt.container_id}", code=500)
