"""Calls to webhooks: where they are, how they are asked, and what went wrong in the real server's words.

A webhook is named by a URL or by a Service. A Service is followed to the addresses behind it (its EndpointSlices, or
Endpoints that somebody wrote by hand), because cluster IPs need not be served here; TLS is checked for the Service's
name in either case. Each call has one deadline over everything, and a connection of its own, so that nothing is left
open when the server goes. Only HTTPS is spoken.
"""

from __future__ import annotations

import base64
import binascii
import random
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from kubesim.apiserver.requests import JsonObject
from kubesim.errors import quoted
from kubesim.store import Store
from kubewire.connection import Connection
from kubewire.deadlines import Deadlines
from kubewire.errors import KubeError, Unreachable
from kubewire.http import HttpTransport
from kubewire.requests import Request, Response

_SLICES = "discovery.k8s.io/endpointslices"


class CallFailed(Exception):
    """The webhook gave no usable answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a webhook is."""

    shown: str
    """The URL, as messages name it."""
    server: str
    """`https://address:port`"""
    path: str
    server_name: str


class Caller:
    """Calls webhooks of the cluster whose services are in this store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def post(self, client: JsonObject, document: JsonObject, seconds: float) -> JsonObject:
        """The answer of the webhook with this `clientConfig`. Raises CallFailed."""
        place = self._place(client, seconds)
        transport = HttpTransport(
            Connection(server=place.server, ca_data=_bundle(client), tls_server_name=place.server_name),
            Deadlines(connect=seconds),
        )
        request = Request(
            method="POST",
            path=place.path,
            query=(("timeout", f"{seconds:g}s"),),
            headers={"content-type": "application/json", "accept": "application/json"},
            body=orjson.dumps(document),
        )
        try:
            answer = await transport.send(request, timeout=seconds)
        except KubeError as error:
            raise CallFailed(f"failed to call webhook: Post {quoted(place.shown)}: {_words(error)}") from None
        finally:
            await transport.aclose()
        return _read(answer)

    def _place(self, client: JsonObject, seconds: float) -> Place:
        service = client.get("service")
        if service is None:
            url = client.get("url") or ""
            parts = urlsplit(url)
            return Place(
                shown=f"{url}?timeout={seconds:g}s",
                server=f"https://{parts.netloc}",
                path=parts.path or "/",
                server_name=parts.hostname or "",
            )
        name, namespace, port = service["name"], service["namespace"], service.get("port", 443)
        path = "/" + (service.get("path") or "").lstrip("/")
        host = f"{name}.{namespace}.svc"
        shown = f"https://{host}:{port}{path}?timeout={seconds:g}s"
        try:
            address = self._address(name, namespace, port)
        except LookupError as error:
            why = f"failed to call webhook: Post {quoted(shown)}: {error.args[0]}"
            raise CallFailed(why) from None
        return Place(shown=shown, server=f"https://{address}", path=path, server_name=host)

    def _address(self, name: str, namespace: str, port: int) -> str:
        """`address:port` behind a Service. Raises LookupError with the reason."""
        service = self._object("/services", f"{namespace}/{name}")
        if service is None:
            raise LookupError(f"service {quoted(name)} not found")
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return f"{spec['externalName']}:{port}"
        found = next((one for one in spec.get("ports") or () if one["port"] == port), None)
        if found is None:
            raise LookupError(f"no service port {port} found for service {quoted(name)}")
        ready = [*self._from_slices(name, namespace, found), *self._from_endpoints(name, namespace, found)]
        if not ready:
            raise LookupError(f"no endpoints available for service {quoted(name)}")
        return random.choice(ready)

    def _from_slices(self, name: str, namespace: str, port: JsonObject) -> list[str]:
        ready: list[str] = []
        for stored in self._store.table(_SLICES).all(namespace):
            one = _decoded(stored.data)
            if (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != name:
                continue
            number = _number(one.get("ports"), port)
            for endpoint in one.get("endpoints") or () if number else ():
                if (endpoint.get("conditions") or {}).get("ready") is not False:
                    ready += [_joined(address, number) for address in endpoint["addresses"]]
        return ready

    def _from_endpoints(self, name: str, namespace: str, port: JsonObject) -> list[str]:
        found = self._object("/endpoints", f"{namespace}/{name}") or {}
        ready: list[str] = []
        for subset in found.get("subsets") or ():
            number = _number(subset.get("ports"), port)
            if number:
                ready += [_joined(one["ip"], number) for one in subset.get("addresses") or ()]
        return ready

    def _object(self, table: str, key: str) -> JsonObject | None:
        stored = self._store.get(table, key)
        return _decoded(stored.data) if stored is not None else None


def _decoded(data: bytes) -> JsonObject:
    made: JsonObject = orjson.loads(b"{" + data)
    return made


def _number(ports: list[JsonObject] | None, wanted: JsonObject) -> int:
    """The port of the endpoints that carries this port of the service; 0 for none."""
    name = wanted.get("name") or ""
    return next((int(one["port"]) for one in ports or () if (one.get("name") or "") == name), 0)


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _bundle(client: JsonObject) -> bytes | None:
    bundle = client.get("caBundle")
    if not bundle:
        return None
    try:
        return base64.b64decode(bundle)
    except binascii.Error:
        raise CallFailed("could not get REST client: unable to load root certificates") from None


def _words(error: KubeError) -> str:
    """In the words of Go's HTTP client."""
    if not isinstance(error, Unreachable):
        return str(error)
    address = urlsplit(error.endpoint).netloc
    match error.reason:
        case "timeout":
            return "context deadline exceeded"
        case "refused":
            return f"dial tcp {address}: connect: connection refused"
        case "dns":
            return f"dial tcp: lookup {urlsplit(error.endpoint).hostname}: no such host"
        case "tls":
            return f"tls: failed to verify certificate: x509: {_certificate(error.detail)}"
        case "reset":
            return "EOF"
        case _:
            return error.detail or str(error)


def _certificate(words: str) -> str:
    if "self-signed" in words or "self signed" in words or "local issuer" in words:
        return "certificate signed by unknown authority"
    if "expired" in words:
        return "certificate has expired or is not yet valid"
    return words


_GENERIC = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    415: "the body of the request was in an unknown format",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


def _read(answer: Response) -> JsonObject:
    """The document of an answer. Raises CallFailed."""
    if not 200 <= answer.status < 300:
        raise CallFailed(f"failed to call webhook: {_refusal(answer)}")
    try:
        document: Any = orjson.loads(answer.body)
    except orjson.JSONDecodeError as wrong:
        raise CallFailed(f"failed to call webhook: couldn't decode the answer: {wrong}") from None
    if not isinstance(document, dict):
        raise CallFailed("failed to call webhook: the answer is not a JSON object")
    return document


def _refusal(answer: Response) -> str:
    text = answer.body.decode("utf-8", "replace").strip()
    try:
        status = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status" and status.get("message"):
        return str(status["message"])
    if answer.status == 403 and text:
        return text
    if answer.status >= 500 and answer.status not in _GENERIC:
        return (
            f"an error on the server ({quoted(text or 'unknown')}) has prevented the request from succeeding"
        )
    return _GENERIC.get(answer.status, f"the server responded with the status code {answer.status}")
