"""A TLS context with a certificate that no client should trust. Made when a fault needs it, kept nowhere."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kubesim.apiserver.faults.spec import FaultRefused

if TYPE_CHECKING:
    from cryptography.x509 import Name


def bad_context(how: str, authority: Path, authority_key: Path | None) -> ssl.SSLContext:
    """`expired`, `wrong-name` or `untrusted`. Raises FaultRefused."""
    # cryptography costs 75 ms to import, and only this fault needs it in a daemon
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    issuer: Name = x509.load_pem_x509_certificate(authority.read_bytes()).subject
    signing: ec.EllipticCurvePrivateKey
    if how == "untrusted":
        signing = ec.generate_private_key(ec.SECP256R1())
    elif authority_key is None:
        raise FaultRefused("The key of the authority is not at hand.", remedy="Take how=untrusted.")
    else:
        loaded = serialization.load_pem_private_key(authority_key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise FaultRefused(f"{authority_key} is not a key of the kind that kubesim makes.")
        signing = loaded
    now = dt.datetime.now(dt.UTC)
    ends = now - dt.timedelta(days=1) if how == "expired" else now + dt.timedelta(days=1)
    names: list[x509.GeneralName] = [x509.DNSName("another-cluster.example")]
    if how != "wrong-name":
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signing, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(prefix="kubesim-") as file:  # the ssl module reads files only; mode 0600
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context
