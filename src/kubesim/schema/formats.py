"""The formats of strings that a structural schema can ask for; one that is not known here takes everything."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime
from urllib.parse import urlsplit

from kubesim.schema.meta import dns_label, dns_subdomain

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(
    r"[-+]?(\d+(\.\d+)?|\.\d+)\s*(ns|us|µs|ms|s|m|h|d|w)(\s*\d+(\.\d+)?\s*(ns|us|µs|ms|s|m|h|d|w))*"
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_MAC = re.compile(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*\.?")


def _without_error(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            parse(value)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _date_time(value: str) -> bool:
    if not _DATE_TIME.fullmatch(value):
        return False
    return _without_error(lambda text: datetime.fromisoformat(text[:19].upper()))(value)


def _date(value: str) -> bool:
    return len(value) == 10 and _without_error(date.fromisoformat)(value)


def _uri(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return bool(parts.scheme) or value.startswith("/")


def _cidr(value: str) -> bool:
    return "/" in value and _without_error(ipaddress.ip_interface)(value)


def _uuid(version: int = 0) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            made = uuid.UUID(value)
        except ValueError:
            return False
        return not version or made.version == version

    return check


_CHECKS: dict[str, Callable[[str], bool]] = {
    "date-time": _date_time,
    "datetime": _date_time,
    "date": _date,
    "duration": lambda value: _DURATION.fullmatch(value) is not None,
    "email": lambda value: _EMAIL.fullmatch(value) is not None,
    "hostname": lambda value: len(value) < 256 and _HOST.fullmatch(value) is not None,
    "ipv4": _without_error(ipaddress.IPv4Address),
    "ipv6": _without_error(ipaddress.IPv6Address),
    "cidr": _cidr,
    "mac": lambda value: _MAC.fullmatch(value) is not None,
    "uri": _uri,
    "uuid": _uuid(),
    "uuid3": _uuid(3),
    "uuid4": _uuid(4),
    "uuid5": _uuid(5),
    "byte": _without_error(lambda value: base64.b64decode(value, validate=True)),
    "k8s-short-name": lambda value: not dns_label(value),
    "k8s-long-name": lambda value: not dns_subdomain(value),
}


def fits(format_: str, value: str) -> bool:
    """Whether a string has the format."""
    check = _CHECKS.get(format_)
    return check is None or check(value)
