"""Certificates that OpenSSL itself accepts, and that only their user can read."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from kubesim.cluster import pki
from kubesim.cluster.pki import PkiFiles


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> PkiFiles:
    made = PkiFiles(tmp_path_factory.mktemp("pki") / "pki")
    pki.make(made, "c")
    return made


def _handshake(files: PkiFiles, name: str) -> dict[str, object]:
    """What the server sees of the client's certificate after a real TLS handshake."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.server_cert, files.server_key)
    server.load_verify_locations(files.ca_cert)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(files.ca_cert))
    client.load_cert_chain(files.admin_cert, files.admin_key)
    ours, theirs = socket.socketpair()
    seen: list[dict[str, object]] = []

    def serve() -> None:
        with server.wrap_socket(theirs, server_side=True) as connection:
            seen.append(dict(connection.getpeercert() or {}))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name):
            thread.join(10)
    finally:
        ours.close()
        thread.join(10)
        theirs.close()
    return seen[0]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "kubernetes.default.svc"])
def test_server_and_administrator_trust_each_other(files: PkiFiles, name: str) -> None:
    subject = _handshake(files, name)["subject"]
    assert subject == ((("organizationName", "system:masters"),), (("commonName", "kubernetes-admin"),))


def test_the_server_is_not_trusted_under_another_name(files: PkiFiles) -> None:
    context = ssl.create_default_context(cafile=str(files.ca_cert))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.server_cert, files.server_key)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = context.wrap_bio(incoming, outgoing, server_hostname="example.com")
    server_side = server.wrap_bio(outgoing, incoming, server_side=True)
    for side in (client_side, server_side):  # hello and answer
        with pytest.raises(ssl.SSLWantReadError):
            side.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError):
        client_side.do_handshake()


def test_nobody_else_can_read_the_keys(files: PkiFiles) -> None:
    assert files.missing() == []
    assert {path.stat().st_mode & 0o077 for path in (*files.all(), files.root)} == {0}


def test_what_is_no_pem_file_counts_as_missing(tmp_path: Path) -> None:
    files = PkiFiles(tmp_path)
    assert files.missing() == list(files.all())
    files.ca_cert.write_text("garbage")
    assert files.ca_cert in files.missing()
