"""As whom we talk: the headers and the client certificate of the moment.

Files are looked at before each request, beside the event loop, and read again when they have changed (tokens of
service accounts are renewed on disk). The answer of a credential plugin counts until it expires or the server refuses
it; however many requests need one at the same moment, one plugin runs. Static credentials win over a plugin, as in
client-go.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubewire.aside import Aside, StillReading
from kubewire.connection import Connection
from kubewire.errors import CredentialError
from kubewire.exec_plugin import PluginCredential, run_plugin
from kubewire.tls import Certificate, TlsMaterial

_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f]")
_EARLY = 10.0  # credentials are renewed this many seconds before they expire


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What one request is sent with."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    tls: TlsMaterial


class Credentials:
    """The credentials of one connection."""

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._connection = connection
        self._timeout = timeout
        self._clock = clock
        self._environ = environ
        self._ca = _source("certificate authority", connection.ca_data, connection.ca_file)
        self._chain = _source("client certificate", connection.certificate_data, connection.certificate_file)
        self._key = _source("client key", connection.key_data, connection.key_file)
        self._token_file = _File("token", connection.token_file) if connection.token_file else None
        self._token_before = b""
        files = (self._ca, self._chain, self._key, self._token_file)
        self._aside = Aside() if any(isinstance(source, _File) for source in files) else None
        self._certificate: Certificate | None = None
        self._material: TlsMaterial | None = None
        self._plugin: PluginCredential | None = None
        self._running: asyncio.Task[PluginCredential] | None = None

    async def get(self) -> Credential:
        """The credentials of the moment. Raises `CredentialError`."""
        connection = self._connection
        token, certificate, ca = await self._static()
        password = connection.username is not None
        if connection.exec_plugin is not None and token is None and not password:
            answer = await self._from_plugin()
            token = answer.token
            certificate = answer.certificate or certificate
        headers = list(connection.impersonate)
        if token is not None:
            headers.append(("authorization", f"Bearer {token}"))
        elif password:
            pair = f"{connection.username}:{connection.password or ''}".encode()
            headers.append(("authorization", "Basic " + base64.b64encode(pair).decode("ascii")))
        for name, value in headers:
            if _UNSENDABLE.search(value):
                # said here, because whoever would notice it later would quote the value
                raise CredentialError(
                    f"the value for the header {name} holds characters that cannot be sent",
                    remedy="Check the token or user name in the kubeconfig: it may have been pasted with a line break.",
                )
        return Credential(headers=tuple(headers), tls=self._tls(ca, certificate))

    async def refused(self, credential: Credential) -> bool:
        """The server answered 401. Whether there are, or may be, newer credentials worth one more try."""
        if self._connection.exec_plugin is None:
            if self._token_file is None:
                return False
            token, _, _ = await self._static()
            return ("authorization", f"Bearer {token}") not in credential.headers
        if self._plugin is None:
            return True  # somebody else has already sent it away
        ours = (
            self._plugin.token is None
            or ("authorization", f"Bearer {self._plugin.token}") in credential.headers
        )
        if ours:
            self._plugin = None
        return True

    async def aclose(self) -> None:
        """End a running plugin."""
        task, self._running = self._running, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])

    async def _static(self) -> tuple[str | None, Certificate | None, bytes | None]:
        """Token, certificate and authority that need no plugin."""
        if self._aside is None:
            return self._look()
        try:
            return await self._aside.run(self._look)
        except StillReading as error:
            sources = (self._ca, self._chain, self._key, self._token_file)
            names = ", ".join(str(source.path) for source in sources if isinstance(source, _File))
            raise CredentialError(
                f"a file that the kubeconfig names ({names}) cannot be read: {error}",
                remedy="Check the file system that they lie on.",
            ) from None

    def _look(self) -> tuple[str | None, Certificate | None, bytes | None]:
        ca = self._ca.read() if self._ca is not None and not self._connection.insecure else None
        return self._static_token(), self._static_certificate(), ca

    def _static_token(self) -> str | None:
        """A token file wins over a token: its content is the newer one."""
        token = self._connection.token.strip() if self._connection.token else None
        if self._token_file is None:
            return token
        try:
            self._token_before = self._token_file.read().strip() or self._token_before
        except CredentialError:
            if not self._token_before and token is None:
                raise
        return self._token_before.decode("utf-8", "replace") or token

    def _static_certificate(self) -> Certificate | None:
        if self._chain is None or self._key is None:
            return None
        chain, key = self._chain.read(), self._key.read()
        if self._certificate is None or self._certificate.chain != chain or self._certificate.key != key:
            self._certificate = Certificate(chain, key)
        return self._certificate

    def _tls(self, ca: bytes | None, certificate: Certificate | None) -> TlsMaterial:
        wanted = TlsMaterial(ca=ca, certificate=certificate, insecure=self._connection.insecure)
        if self._material != wanted:
            self._material = wanted
        return self._material

    async def _from_plugin(self) -> PluginCredential:
        answer = self._plugin
        if answer is not None and (answer.expires is None or self._clock() < answer.expires - _EARLY):
            return answer
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run_plugin(), name="kubewire credential plugin")
            self._running.add_done_callback(_look_at)
        # one caller's deadline or cancellation does not end the run that the others wait for
        return await asyncio.shield(self._running)

    async def _run_plugin(self) -> PluginCredential:
        plugin = self._connection.exec_plugin
        assert plugin is not None
        _, _, authority = await self._static() if plugin.provide_cluster_info else (None, None, None)
        self._plugin = await run_plugin(
            self._connection,
            plugin,
            timeout=self._timeout,
            environ=self._environ,
            authority=authority,
        )
        return self._plugin


def _look_at(task: asyncio.Task[PluginCredential]) -> None:
    """A failure that nobody waits for any more is no news."""
    if not task.cancelled():
        task.exception()


class _File:
    """A file that is read again when it has changed."""

    def __init__(self, what: str, path: Path) -> None:
        self._what = what
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._data = b""

    def read(self) -> bytes:
        try:
            status = self.path.stat()
            signature = (status.st_mtime_ns, status.st_ino, status.st_size)
            if signature != self._seen:
                self._data = self.path.read_bytes()
                self._seen = signature
        except OSError as error:
            raise CredentialError(
                f"the {self._what} {self.path} cannot be read: {error.strerror}",
                remedy="Check the path in the kubeconfig, and who may read the file.",
            ) from None
        return self._data


@dataclass(frozen=True, slots=True)
class _Data:
    """Data that stands in the kubeconfig itself."""

    data: bytes = field(repr=False)

    def read(self) -> bytes:
        return self.data


def _source(what: str, data: bytes | None, path: Path | None) -> _Data | _File | None:
    if data is not None:
        return _Data(data)
    return _File(what, path) if path is not None else None
