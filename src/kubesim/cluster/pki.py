"""The certificates of one cluster: its own authority, the server's pair, the administrator's pair, the signing key.

Made once, by the command that creates the cluster, so that the daemon never imports `cryptography`. P-256, because
making the keys takes a millisecond and a handshake little more. Everything is readable by its user only.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from kubesim.cluster.files import write_whole

_LIFE = dt.timedelta(days=3650)
_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
_SERVER_ADDRESSES = ("127.0.0.1", "::1", "10.0.0.1")


@dataclass(frozen=True, slots=True)
class PkiFiles:
    """The names of the files below `pki/`."""

    root: Path

    @property
    def ca_cert(self) -> Path:
        return self.root / "ca.crt"

    @property
    def ca_key(self) -> Path:
        return self.root / "ca.key"

    @property
    def server_cert(self) -> Path:
        return self.root / "server.crt"

    @property
    def server_key(self) -> Path:
        return self.root / "server.key"

    @property
    def admin_cert(self) -> Path:
        return self.root / "admin.crt"

    @property
    def admin_key(self) -> Path:
        return self.root / "admin.key"

    @property
    def accounts_key(self) -> Path:
        return self.root / "sa.key"

    @property
    def accounts_public(self) -> Path:
        return self.root / "sa.pub"

    def all(self) -> tuple[Path, ...]:
        """Every file that a whole cluster has."""
        return (
            self.ca_cert,
            self.ca_key,
            self.server_cert,
            self.server_key,
            self.admin_cert,
            self.admin_key,
            self.accounts_key,
            self.accounts_public,
        )

    def missing(self) -> list[Path]:
        """What is not there, or empty, or no PEM file."""
        return [path for path in self.all() if not _is_pem(path)]


def _is_pem(path: Path) -> bool:
    try:
        return path.read_bytes().startswith(b"-----BEGIN ")
    except OSError:
        return False


def make(files: PkiFiles, cluster: str) -> None:
    """Make all keys and certificates of a new cluster."""
    # cryptography costs 75 ms to import, and only the creation of a cluster needs it
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    files.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)

    def keep_key(path: Path) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_whole(path, pem)
        return key

    def name(common: str, *organizations: str) -> x509.Name:
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
        return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common)])

    def builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + _LIFE)
        )

    def keep_cert(path: Path, certificate: x509.CertificateBuilder) -> None:
        signed = certificate.sign(ca_key, hashes.SHA256())
        write_whole(path, signed.public_bytes(serialization.Encoding.PEM))

    def usage(*, ca: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=ca,
            crl_sign=ca,
            encipher_only=False,
            decipher_only=False,
        )

    authority = name(f"kubesim-{cluster}-ca")
    ca_key = keep_key(files.ca_key)
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    keep_cert(
        files.ca_cert,
        builder(authority, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False),
    )
    server_key = keep_key(files.server_key)
    names: list[x509.GeneralName] = [x509.DNSName(one) for one in _SERVER_NAMES]
    names += [x509.IPAddress(ipaddress.ip_address(one)) for one in _SERVER_ADDRESSES]
    keep_cert(
        files.server_cert,
        builder(name("kube-apiserver"), server_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority_key, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False),
    )
    admin_key = keep_key(files.admin_key)
    keep_cert(
        files.admin_cert,
        builder(name("kubernetes-admin", "system:masters"), admin_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(authority_key, critical=False),
    )
    accounts = keep_key(files.accounts_key)
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_whole(files.accounts_public, public)
