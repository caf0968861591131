"""TLS: whom we trust, as whom we come, and that keys leave no trace."""

import asyncio
import contextlib
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from kubewire.client import Client
from kubewire.errors import ConfigError, CredentialError, Unreachable
from kubewire.resources import PODS
from kubewire.testing import Authority, Exchange, http_server
from kubewire.tls import Certificate, TlsMaterial

pytestmark = pytest.mark.anyio

Make = Callable[..., Client]


async def who_are_you(exchange: Exchange) -> None:
    """Answers with the common name of the client's certificate."""
    certificate = exchange.request.peer_certificate or {}
    names = dict(pair[0] for pair in certificate.get("subject", ()))
    await exchange.reply(200, {"user": names.get("commonName")})


async def test_a_server_of_a_known_authority_is_trusted(client_for: Make, authority: Authority) -> None:
    async with http_server(who_are_you, tls=authority.server_context("127.0.0.1")) as server:
        assert await client_for(server.url, ca_data=authority.certificate).version() == {"user": None}


async def test_a_client_certificate_says_who_we_are(client_for: Make, authority: Authority) -> None:
    mine = authority.client("alice", "system:masters")
    tls = authority.server_context("127.0.0.1", ask_client=True)
    async with http_server(who_are_you, tls=tls) as server:
        client = client_for(
            server.url,
            ca_data=authority.certificate,
            certificate_data=mine.certificate,
            key_data=mine.key,
        )
        assert await client.version() == {"user": "alice"}


async def test_a_client_certificate_that_the_server_wants_and_does_not_get_is_a_tls_error(
    client_for: Make, authority: Authority
) -> None:
    tls = authority.server_context("127.0.0.1", ask_client=True)
    async with http_server(who_are_you, tls=tls) as server:
        with pytest.raises(Unreachable) as caught:
            await client_for(server.url, ca_data=authority.certificate).version()
    assert caught.value.reason in ("tls", "reset")


@pytest.mark.parametrize(
    ("names", "days", "words"), [(("other.example",), 1, "mismatch"), (("127.0.0.1",), -1, "expired")]
)
async def test_a_certificate_for_another_name_or_time_is_refused(
    client_for: Make, authority: Authority, names: tuple[str, ...], days: int, words: str
) -> None:
    async with http_server(who_are_you, tls=authority.server_context(*names, days=days)) as server:
        with pytest.raises(Unreachable, match=words) as caught:
            await client_for(server.url, ca_data=authority.certificate).version()
    assert caught.value.reason == "tls"


async def test_tls_server_name_replaces_the_name_in_the_address(
    client_for: Make, authority: Authority
) -> None:
    async with http_server(who_are_you, tls=authority.server_context("api.example")) as server:
        client = client_for(server.url, ca_data=authority.certificate, tls_server_name="api.example")
        assert await client.version() == {"user": None}


async def test_insecure_skips_the_check_and_only_that(client_for: Make, authority: Authority) -> None:
    async with http_server(who_are_you, tls=authority.server_context("other.example", days=-1)) as server:
        assert await client_for(server.url, insecure=True).version() == {"user": None}


async def test_certificates_are_read_again_when_their_files_change(
    client_for: Make, authority: Authority, tmp_path: Path
) -> None:
    certificate, key, ca = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"
    ca.write_bytes(authority.certificate)

    def issue(user: str) -> None:
        issued = authority.client(user)
        certificate.write_bytes(issued.certificate)
        key.write_bytes(issued.key)

    issue("before")
    tls = authority.server_context("127.0.0.1", ask_client=True)
    async with http_server(who_are_you, tls=tls) as server:
        client = client_for(server.url, ca_file=ca, certificate_file=certificate, key_file=key)
        assert (await client.version())["user"] == "before"
        assert (await client.version())["user"] == "before"
        assert server.connections == 1
        issue("after-the-renewal")
        assert (await client.version())["user"] == "after-the-renewal"


async def test_a_stream_outlives_the_certificates_that_it_was_opened_with(
    client_for: Make, authority: Authority, tmp_path: Path
) -> None:
    renewed_twice = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        if not exchange.request.path.endswith("/log"):
            await who_are_you(exchange)
            return
        await exchange.start()
        await exchange.chunk(b"one")
        await renewed_twice.wait()
        await exchange.chunk(b"end")
        await exchange.end()

    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    async with http_server(handler, tls=authority.server_context("127.0.0.1", ask_client=True)) as server:
        client = client_for(
            server.url, ca_data=authority.certificate, certificate_file=certificate, key_file=key
        )
        for user in ("first", "second-one", "the-third"):
            issued = authority.client(user)
            certificate.write_bytes(issued.certificate)
            key.write_bytes(issued.key)
            if user == "first":
                logs = client.logs("p", "default", follow=True)
                assert await anext(logs) == b"one"
            else:
                assert (await client.get(PODS, "p", "default"))["user"] == user
        renewed_twice.set()
        assert [piece async for piece in logs] == [b"end"]


async def test_a_certificate_file_that_is_gone_is_named(client_for: Make, tmp_path: Path) -> None:
    client = client_for("https://127.0.0.1:1", ca_file=tmp_path / "no-such-ca.crt")
    with pytest.raises(CredentialError, match=r"no-such-ca\.crt"):
        await client.version()


def test_a_bundle_may_hold_an_intermediate_as_anchor(authority: Authority) -> None:
    context = TlsMaterial(ca=authority.certificate).context()
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


def test_broken_certificates_are_refused_in_words(authority: Authority) -> None:
    with pytest.raises(ConfigError, match="certificate authority cannot be read"):
        TlsMaterial(ca=b"no certificate").context()
    with pytest.raises(ConfigError, match="client certificate cannot be used"):
        TlsMaterial(ca=authority.certificate, certificate=Certificate(b"no", b"pem")).context()
    first, second = authority.client("a"), authority.client("b")
    with pytest.raises(ConfigError, match="client certificate cannot be used"):
        TlsMaterial(certificate=Certificate(first.certificate, second.key)).context()


def test_a_key_with_a_passphrase_is_refused_and_never_asked_for(authority: Authority) -> None:
    issued = authority.client("alice")
    key = serialization.load_pem_private_key(issued.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    with pytest.raises(ConfigError, match="encrypted"):
        TlsMaterial(certificate=Certificate(issued.certificate, locked)).context()


@pytest.mark.parametrize("in_memory", [True, False])
def test_keys_leave_no_file_behind(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    before = _open_files()
    issued = authority.client("alice")
    TlsMaterial(certificate=Certificate(issued.certificate, issued.key)).context()
    with pytest.raises(ConfigError):
        TlsMaterial(certificate=Certificate(b"broken", issued.key)).context()
    assert list(tmp_path.iterdir()) == []
    assert _open_files() == before


def _open_files() -> int:
    return sum(1 for _ in _descriptors())


def _descriptors() -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        yield from os.listdir("/proc/self/fd")
