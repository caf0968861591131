"""Running a credential plugin: a foreign program that gets a deadline, no terminal, and no second chance.

It runs in a session of its own, so that at the deadline all that it started is killed with it. What it prints is an
ExecCredential; what of it may be shown to people is only its stderr, never its stdout, which may hold a token. When to
run it and how long its answer counts is `credentials`' business.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from kubewire.connection import Connection, ExecPlugin
from kubewire.errors import CredentialError, PluginMissing
from kubewire.requests import JsonObject
from kubewire.tls import Certificate

API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")

_MAX_OUTPUT = 1024 * 1024
_AFTER_EXIT = 1.0  # a child that the plugin left behind may hold its output open
_REAP = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginCredential:
    """What a plugin answered."""

    token: str | None = field(default=None, repr=False)
    certificate: Certificate | None = None
    expires: float | None = None  # UNIX seconds; None: until it is refused


async def run_plugin(
    connection: Connection,
    plugin: ExecPlugin,
    *,
    timeout: float,
    environ: Mapping[str, str] | None = None,
    authority: bytes | None = None,
) -> PluginCredential:
    """Run the plugin once. Raises `CredentialError`, which names the command.

    `authority` is what it is told of the cluster's certificate authority, where that is in a file.
    """
    if plugin.interactive_mode == "Always":
        raise CredentialError(
            f"the credential plugin {plugin.command!r} insists on a terminal, which it does not get here",
            remedy="Set its interactiveMode to Never or IfAvailable.",
        )
    environment = dict(os.environ if environ is None else environ)
    environment.update(plugin.env)
    environment["KUBERNETES_EXEC_INFO"] = exec_info(connection, plugin, authority)
    code, stdout, stderr = await _run(plugin, environment, timeout)
    if code != 0:
        said = " ".join(stderr.decode("utf-8", "replace").split())[-500:]
        how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
        raise CredentialError(
            f"the credential plugin {plugin.command!r} {how}" + (f": {said}" if said else ""),
            remedy=plugin.install_hint
            or f"Run {plugin.command!r} by hand to see what it needs (perhaps a new login).",
        )
    return parse_credential(stdout, plugin)


def exec_info(connection: Connection, plugin: ExecPlugin, authority: bytes | None = None) -> str:
    """The value of KUBERNETES_EXEC_INFO."""
    spec: JsonObject = {"interactive": False}
    if plugin.provide_cluster_info:
        cluster: JsonObject = {"server": connection.server}
        if connection.tls_server_name:
            cluster["tls-server-name"] = connection.tls_server_name
        if connection.insecure:
            cluster["insecure-skip-tls-verify"] = True
        authority = authority or connection.ca_data
        if authority:
            cluster["certificate-authority-data"] = base64.b64encode(authority).decode("ascii")
        if connection.proxy_url:
            cluster["proxy-url"] = connection.proxy_url
        if connection.exec_config is not None:
            cluster["config"] = connection.exec_config
        spec["cluster"] = cluster
    return orjson.dumps({"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}).decode(
        "utf-8"
    )


def parse_credential(stdout: bytes, plugin: ExecPlugin) -> PluginCredential:
    """The ExecCredential that a plugin printed."""

    def garbage(what: str) -> CredentialError:
        return CredentialError(
            f"the credential plugin {plugin.command!r} {what}",
            remedy="Check that its version fits the apiVersion in the kubeconfig.",
        )

    try:
        answer = orjson.loads(stdout)
    except orjson.JSONDecodeError:
        raise garbage("did not print an ExecCredential") from None
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
        raise garbage("did not print an ExecCredential")
    if answer.get("apiVersion") != plugin.api_version:
        raise garbage(f"answered in {answer.get('apiVersion')!r} where {plugin.api_version!r} was asked for")
    status = answer.get("status")
    if not isinstance(status, dict):
        raise garbage("printed an ExecCredential without a status")
    token = status.get("token") or None
    chain, key = status.get("clientCertificateData"), status.get("clientKeyData")
    if bool(chain) != bool(key):
        raise garbage("printed a certificate without its key, or a key without its certificate")
    if not token and not chain:
        raise garbage("printed neither a token nor a certificate")
    if not all(part is None or isinstance(part, str) for part in (token, chain, key)):
        raise garbage("printed credentials that are no strings")
    try:
        expires = _timestamp(status.get("expirationTimestamp"))
    except ValueError:
        raise garbage("printed an expirationTimestamp that is no time") from None
    return PluginCredential(
        token=token,
        certificate=Certificate(str(chain).encode(), str(key).encode()) if chain else None,
        expires=expires,
    )


def _timestamp(value: object) -> float | None:
    if value is None:
        return None
    then = datetime.fromisoformat(str(value))
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp()


async def _run(
    plugin: ExecPlugin, environment: Mapping[str, str], timeout: float
) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr. Nothing of it is left when this returns late or is cancelled."""
    async with _Pipe() as stdout, _Pipe() as stderr:
        try:
            process = await asyncio.create_subprocess_exec(
                plugin.command,
                *plugin.args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout.writing,
                stderr=stderr.writing,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            remedy = (
                plugin.install_hint or f"Install {plugin.command!r}, or correct users[].user.exec.command."
            )
            if isinstance(error, FileNotFoundError):
                raise PluginMissing(
                    f"the credential plugin {plugin.command!r} is not installed", remedy=remedy
                ) from None
            raise CredentialError(
                f"the credential plugin {plugin.command!r} cannot be run ({error.strerror})", remedy=remedy
            ) from None
        stdout.close_writing()
        stderr.close_writing()
        try:
            async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
                reading = [
                    group.create_task(pipe.collect(), name="kubewire plugin output")
                    for pipe in (stdout, stderr)
                ]
                await process.wait()
                await asyncio.wait(reading, timeout=_AFTER_EXIT)
                for task in reading:
                    task.cancel()
        except TimeoutError:
            raise CredentialError(
                f"the credential plugin {plugin.command!r} did not finish within {timeout:g} s and was killed",
                remedy=f"Run {plugin.command!r} by hand to see what it waits for (perhaps a login).",
            ) from None
        finally:
            await _kill(process)
        return process.returncode or 0, bytes(stdout.data), bytes(stderr.data)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the whole group if its leader still runs (only then is the group's number surely ours), and reap it."""
    if process.returncode is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended this moment
    try:
        async with asyncio.timeout(_REAP):
            await process.wait()
    except TimeoutError:
        pass  # unkillable (stuck in the kernel); the event loop's child watcher reaps it when it dies


class _Pipe:
    """A pipe whose reading end belongs to the event loop, and whose life does not depend on who holds the other."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.writing = -1
        self._reader = asyncio.StreamReader()
        self._transport: asyncio.ReadTransport | None = None

    async def __aenter__(self) -> _Pipe:
        loop = asyncio.get_running_loop()
        reading, self.writing = os.pipe()
        protocol = asyncio.StreamReaderProtocol(self._reader)
        self._transport, _ = await loop.connect_read_pipe(
            lambda: protocol, os.fdopen(reading, "rb", buffering=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close_writing()
        if self._transport is not None:
            self._transport.close()

    def close_writing(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    async def collect(self) -> None:
        """Read until the end, or until there is more than anybody wants."""
        while len(self.data) < _MAX_OUTPUT and (piece := await self._reader.read(65536)):
            self.data += piece
