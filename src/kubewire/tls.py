"""TLS contexts from certificates in memory.

Certificate authorities are judged as Go judges them, because that is what the clusters were made for: any certificate
of the bundle is an anchor, and the extensions that Python 3.13 insists on by default are not. Private keys reach the
disk at most as a file that only we can open and that is gone at once; a key that would ask for a passphrase on the
terminal is refused.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from kubewire.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client certificate (with its chain) and its key, in PEM."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """All that a context depends on: when it is equal, so is the context."""

    ca: bytes | None = field(default=None, repr=False)  # None: what the system trusts
    certificate: Certificate | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """A client context. Raises `ConfigError` when a certificate or key cannot be read."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            self._load_authorities(context)
        if self.certificate is not None:
            _load_certificate(context, self.certificate)
        return context

    def _load_authorities(self, context: ssl.SSLContext) -> None:
        if self.ca is None:
            context.load_default_certs()
            return
        try:
            context.load_verify_locations(cadata=self.ca.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(f"the certificate authority cannot be read: {error}") from None


def _load_certificate(context: ssl.SSLContext, certificate: Certificate) -> None:
    def refuse() -> str:
        raise ConfigError(
            "the client key is encrypted, and nobody is here to type its passphrase",
            remedy="Decrypt the key, or use a credential plugin.",
        )

    try:
        with _as_file(certificate.chain + b"\n" + certificate.key) as path:
            context.load_cert_chain(path, password=refuse)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"the client certificate cannot be used: {error}") from None


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A name under which OpenSSL can read the data now: a file in memory, else one that is removed at once."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        with open(os.memfd_create("kubewire"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    descriptor, path = tempfile.mkstemp(prefix="kubewire-")  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        yield path
    finally:
        os.unlink(path)
