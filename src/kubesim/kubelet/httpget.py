"""The GET that probes and lifecycle hooks send: one connection, no proxy, no check of certificates, as the real one.

Redirects are followed on the same host only; the answer says when one led elsewhere. Of a body only the beginning is
read. Errors carry the wording that users know from the events of real clusters.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httptools

MOST_BODY = 10 << 10
MOST_REDIRECTS = 10
VERSION = "1.36"
_REDIRECTS = (301, 302, 303, 307, 308)


class NoPort(Exception):
    """The container has no port of that name."""


class GetError(Exception):
    """No answer came; the message is what an event says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: str
    left_host: bool = False  # it was a redirect to another host, which is not followed


def port_of(port: object, container: Mapping[str, Any]) -> int:
    """A port by number, or by the name that the container gives it. Raises NoPort."""
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    if isinstance(port, str) and port.isdigit():
        return int(port)
    raise NoPort(f"couldn't find port: {port} in container {container.get('name')}")


def join(host: str, port: int) -> str:
    """Host and port as one address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(action: Mapping[str, Any], container: Mapping[str, Any], pod_ip: str) -> str:
    """The address of a httpGet. Raises NoPort."""
    scheme = str(action.get("scheme") or "HTTP").lower()
    path = quote(str(action.get("path") or "/"), safe="/?&=%#:@!$'()*+,;~-._[]")
    where = join(action.get("host") or pod_ip, port_of(action.get("port"), container))
    return f"{scheme}://{where}/{path.removeprefix('/')}"


def headers_of(action: Mapping[str, Any], agent: str) -> list[tuple[str, str]]:
    """The headers of a httpGet: its own, and what it does not say itself."""
    own = [(str(one["name"]), str(one.get("value") or "")) for one in action.get("httpHeaders") or ()]
    names = {name.lower() for name, _ in own}
    defaults = (("User-Agent", f"{agent}/{VERSION}"), ("Accept", "*/*"), ("Connection", "close"))
    return own + [(name, value) for name, value in defaults if name.lower() not in names]


async def get(url: str, headers: list[tuple[str, str]], timeout: float) -> Answer:
    """GET, within a bound. Raises GetError."""
    first = url
    try:
        async with asyncio.timeout(timeout):
            for _ in range(MOST_REDIRECTS):
                answer, location = await _once(url, headers)
                if answer.status not in _REDIRECTS or not location:
                    return answer
                target = urljoin(url, location)
                if urlsplit(target).hostname != urlsplit(url).hostname:
                    return Answer(status=answer.status, body=answer.body, left_host=True)
                url = target
    except TimeoutError:
        reason = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        raise GetError(f'Get "{url}": {reason}') from None
    except httptools.HttpParserError as error:
        raise GetError(f'Get "{url}": net/http: HTTP/1.x transport connection broken: {error}') from error
    except ssl.SSLError as error:
        words = (
            "http: server gave HTTP response to HTTPS client" if _is_plain(error) else f"tls: {error.reason}"
        )
        raise GetError(f'Get "{url}": {words}') from error
    except (OSError, EOFError) as error:
        raise GetError(f'Get "{url}": {_words(error, url)}') from error
    raise GetError(f'Get "{first}": stopped after {MOST_REDIRECTS} redirects')


class _Response:
    """What the parser tells of an answer."""

    def __init__(self) -> None:
        self.location = ""
        self.body = bytearray()
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"location":
            self.location = value.decode("latin-1")

    def on_body(self, piece: bytes) -> None:
        self.body += piece[: MOST_BODY - len(self.body)]

    def on_message_complete(self) -> None:
        self.is_complete = True


async def _once(url: str, headers: list[tuple[str, str]]) -> tuple[Answer, str]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if secure else 80), ssl=_unchecked() if secure else None
    )
    try:
        writer.write(_request(url, headers))
        response = _Response()
        parser = httptools.HttpResponseParser(response)
        received = False
        while not response.is_complete and len(response.body) < MOST_BODY:
            data = await reader.read(MOST_BODY)
            if not data:
                break
            received = True
            parser.feed_data(data)
    finally:
        await hang_up(writer)
    status = parser.get_status_code()
    if not received or not status:
        raise EOFError
    return Answer(status=status, body=response.body.decode("utf-8", "replace")), response.location


def _request(url: str, headers: list[tuple[str, str]]) -> bytes:
    parts = urlsplit(url)
    host = next((value for name, value in headers if name.lower() == "host"), parts.netloc)
    lines = [f"GET {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() != "host"]
    kept = (line.replace("\r", " ").replace("\n", " ") for line in lines)  # a value must not add a header
    return ("\r\n".join(kept) + "\r\n\r\n").encode("latin-1", "replace")


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _is_plain(error: ssl.SSLError) -> bool:
    return error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection at once, whatever the other side does."""
    writer.transport.abort()
    try:
        await writer.wait_closed()
    except OSError:
        return  # it had been broken before


def dial_words(error: OSError) -> str:
    """Why a connection was not made, in the words of the real kubelet."""
    return f"connect: {os.strerror(error.errno).lower()}" if error.errno and error.errno > 0 else str(error)


def _words(error: OSError | EOFError, url: str) -> str:
    if isinstance(error, EOFError):
        return "EOF"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "read: connection reset by peer"
    return f"dial tcp {urlsplit(url).netloc}: {dial_words(error)}"
