"""Certificates for tests: an authority that issues what it is asked for, also what nobody should trust."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, in PEM."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


class Authority:
    """A certificate authority that lives in memory."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            self._builder(self._name, self._key.public_key(), days=30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, in PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def server(self, *names: str, days: int = 1) -> Issued:
        """A server's certificate for DNS names and IP addresses; with negative days, an expired one."""
        return self._issue(names[0], [], names, ExtendedKeyUsageOID.SERVER_AUTH, days)

    def client(self, user: str, *groups: str, days: int = 1) -> Issued:
        """A user's certificate, as Kubernetes reads it: common name and organizations."""
        return self._issue(user, list(groups), (), ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def server_context(self, *names: str, days: int = 1, ask_client: bool = False) -> ssl.SSLContext:
        """A TLS context for a server; with `ask_client` it insists on a certificate of this authority."""
        issued = self.server(*names, days=days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with _in_a_file(issued.certificate + issued.key) as path:
            context.load_cert_chain(path)
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.certificate.decode())
        return context

    def _issue(
        self, name: str, groups: list[str], names: tuple[str, ...], usage: x509.ObjectIdentifier, days: int
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
        builder = self._builder(x509.Name(attributes), key.public_key(), days)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            alternatives = x509.SubjectAlternativeName([_general_name(each) for each in names])
            builder = builder.add_extension(alternatives, critical=False)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), pem)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        first, last = sorted((now - timedelta(hours=1), now + timedelta(days=days)))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(first)
            .not_valid_after(last)
        )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextlib.contextmanager
def _in_a_file(data: bytes) -> Iterator[str]:
    descriptor, path = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield path
    finally:
        os.unlink(path)
