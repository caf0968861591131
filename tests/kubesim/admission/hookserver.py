"""A real HTTPS server that answers AdmissionReviews as a test tells it to, and a certificate authority for it."""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = Callable[[dict[str, Any]], dict[str, Any] | bytes | int | Awaitable[None]]
SERVICE_NAME = "hook.default.svc"


@cache
def _pair() -> tuple[bytes, bytes]:
    """A self-signed certificate for the server's names, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hook")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(SERVICE_NAME), x509.DNSName("localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), secret


def ca_bundle() -> str:
    return base64.b64encode(_pair()[0]).decode()


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="w") as folder:
        for name, data in zip(("cert", "key"), _pair(), strict=True):
            Path(folder, name).write_bytes(data)
        context.load_cert_chain(Path(folder, "cert"), Path(folder, "key"))
    return context


@dataclass
class HookServer:
    """By path: how it answers. What it was asked is kept in order."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def client_config(self, path: str) -> dict[str, Any]:
        return {"url": f"https://localhost:{self.port}{path}", "caBundle": ca_bundle()}

    def requests(self, path: str) -> list[dict[str, Any]]:
        return [review["request"] for where, review in self.asked if where.partition("?")[0] == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            size = next(
                int(line.partition(":")[2])
                for line in head.splitlines()
                if line.lower().startswith("content-length")
            )
            target = head.split()[1]
            document = orjson.loads(await reader.readexactly(size))
            self.asked.append((target, document))
            status, body = await self._answer(target.partition("?")[0], document)
            writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the API server gave up: what a test about deadlines wants
        finally:
            writer.close()

    async def _answer(self, path: str, document: dict[str, Any]) -> tuple[int, bytes]:
        made: Any = self.answers[path](document)
        if isinstance(made, Awaitable):
            made = await made
        if isinstance(made, int):
            return made, b"broken"
        return 200, made if isinstance(made, bytes) else orjson.dumps(made)


@asynccontextmanager
async def hook_server() -> AsyncIterator[HookServer]:
    server = HookServer()
    listening = await asyncio.start_server(server._serve, "127.0.0.1", 0, ssl=_context())
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


def reviewed(review: dict[str, Any], **response: Any) -> dict[str, Any]:
    response = {"uid": review["request"]["uid"], "allowed": True, **response}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def allow(review: dict[str, Any]) -> dict[str, Any]:
    return reviewed(review)


def deny(**status: Any) -> Answer:
    return lambda review: reviewed(review, allowed=False, status=status)


def patching(*operations: dict[str, Any], **response: Any) -> Answer:
    patch = base64.b64encode(orjson.dumps(operations)).decode()
    return lambda review: reviewed(review, patch=patch, patchType="JSONPatch", **response)
