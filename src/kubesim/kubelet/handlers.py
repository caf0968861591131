"""Performing what a pod asks its kubelet to do to a container: a command, a GET, a connection, a gRPC health check.

One attempt, under its own deadline, with the wording of the real kubelet. Probes and lifecycle hooks use the same
handlers; what an outcome means is theirs to say.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from kubesim.kubelet import containerfiles, grpchealth, httpget, shims
from kubesim.kubelet.containers import JsonObject
from kubesim.kubelet.probes import Outcome, Result
from kubesim.kubelet.shims import ShimError

MOST_OUTPUT = 10 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The attempt of a container that a handler is for."""

    directory: Path
    container: JsonObject
    pod_ip: str


class CommandError(Exception):
    """A command could not be run in the container: it is not running, or there is no such program."""


async def probe(handler: JsonObject, target: Target, timeout: float) -> Result:
    """Perform a probe's handler once."""
    try:
        if (action := handler.get("exec")) is not None:
            return await _command(list(action.get("command") or ()), target, timeout)
        if (action := handler.get("httpGet")) is not None:
            return await _get(action, target, timeout)
        if (action := handler.get("tcpSocket")) is not None:
            return await _connect(action, target, timeout)
        if (action := handler.get("grpc")) is not None:
            return await grpchealth.check(
                target.pod_ip, int(action["port"]), action.get("service") or "", timeout
            )
    except httpget.NoPort as error:
        return Result(Outcome.UNKNOWN, str(error))
    return Result(Outcome.UNKNOWN, "missing probe handler")


async def run_command(argv: list[str], target: Target) -> tuple[int, str]:
    """Run a command in the container to its end: exit code and the beginning of its output. The caller bounds it: when
    it is cancelled, the command is ended. Raises CommandError."""
    spec = await asyncio.to_thread(containerfiles.read_spec, str(target.directory))
    if spec is None:
        raise CommandError("the container has not been started")
    try:
        stream = await shims.execute(target.directory, argv, spec.env, spec.cwd)
    except ShimError as error:
        raise CommandError(
            f"failed to exec in container: unable to start container process: {error.message}"
        ) from error
    output = bytearray()
    try:
        async for _, piece in stream.output():
            output += piece[: MOST_OUTPUT - len(output)]
        code = await stream.exit_code()
    except ConnectionError as error:
        raise CommandError(f"the container ended before the command did: {error}") from error
    finally:
        await stream.aclose()
    return code, output.decode("utf-8", "replace")


async def _command(argv: list[str], target: Target, timeout: float) -> Result:
    try:
        async with asyncio.timeout(timeout):
            code, output = await run_command(argv, target)
    except TimeoutError:
        words = " ".join(argv)
        return Result(Outcome.FAILURE, f'command timed out: "{words}" timed out after {timeout:g}s')
    except CommandError as error:
        return Result(Outcome.UNKNOWN, str(error))
    return Result(Outcome.SUCCESS if code == 0 else Outcome.FAILURE, output)


async def _get(action: JsonObject, target: Target, timeout: float) -> Result:
    url = httpget.url_of(action, target.container, target.pod_ip)
    try:
        answer = await httpget.get(url, httpget.headers_of(action, "kube-probe"), timeout)
    except httpget.GetError as error:
        return Result(Outcome.FAILURE, str(error))
    if answer.left_host:
        return Result(Outcome.WARNING, f"Probe terminated redirects, Response body: {answer.body}")
    if 200 <= answer.status < 400:
        return Result(Outcome.SUCCESS, answer.body)
    return Result(Outcome.FAILURE, f"HTTP probe failed with statuscode: {answer.status}")


async def _connect(action: JsonObject, target: Target, timeout: float) -> Result:
    host = action.get("host") or target.pod_ip
    port = httpget.port_of(action.get("port"), target.container)
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Result(Outcome.FAILURE, f"dial tcp {httpget.join(host, port)}: i/o timeout")
    except OSError as error:
        return Result(Outcome.FAILURE, f"dial tcp {httpget.join(host, port)}: {httpget.dial_words(error)}")
    await httpget.hang_up(writer)
    return Result(Outcome.SUCCESS)
