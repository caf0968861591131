"""What Kubernetes adds to CEL: quantities, URLs, IP addresses and networks, versions, named formats, the authorizer."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import total_ordering
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from kubesim.schema import meta
from kubesim.schema.cel.functions import define
from kubesim.schema.cel.values import MOST_INT, NONE, CelError, Opaque, some
from kubesim.schema.formats import fits
from kubesim.schema.quantity import Quantity
from kubesim.schema.quantity import parse as parse_quantity

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class QuantityValue(Opaque):
    code: ClassVar[str] = "Q"
    name: ClassVar[str] = "kubernetes.Quantity"
    nanos: int
    text: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuantityValue) and other.nanos == self.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Url(Opaque):
    code: ClassVar[str] = "U"
    name: ClassVar[str] = "kubernetes.URL"
    text: str


@dataclass(frozen=True, slots=True)
class Ip(Opaque):
    code: ClassVar[str] = "P"
    name: ClassVar[str] = "net.IP"
    address: Address

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class Cidr(Opaque):
    code: ClassVar[str] = "C"
    name: ClassVar[str] = "net.CIDR"
    network: Network

    def __str__(self) -> str:
        return str(self.network)


@total_ordering
@dataclass(frozen=True, slots=True)
class Semver(Opaque):
    code: ClassVar[str] = "V"
    name: ClassVar[str] = "kubernetes.Semver"
    numbers: tuple[int, int, int]
    pre: tuple[tuple[int, int, str], ...] = ()

    def __lt__(self, other: Semver) -> bool:
        return (self.numbers, not self.pre, self.pre) < (other.numbers, not other.pre, other.pre)


@dataclass(frozen=True, slots=True)
class Format(Opaque):
    code: ClassVar[str] = "F"
    name: ClassVar[str] = "kubernetes.NamedFormat"
    title: str
    check: Callable[[str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Decision(Opaque):
    code: ClassVar[str] = "X"
    name: ClassVar[str] = "kubernetes.authorization.Decision"
    allowed: bool
    reason: str = ""


Decide = Callable[[Mapping[str, str]], Decision]
"""From what is to be done (verb, path or group, resource, subresource, namespace, name, and an account where it is not
the requester's) to what is decided."""


@dataclass(frozen=True, slots=True)
class Authorizer(Opaque):
    code: ClassVar[str] = "A"
    name: ClassVar[str] = "kubernetes.authorization.Authorizer"
    decide: Decide
    account: str = ""
    request: Mapping[str, str] | None = None
    """What the request itself is about, as `requestResource`."""

    def member(self, name: str) -> Any:
        if name != "requestResource" or self.request is None:
            return Opaque.member(self, name)
        given = self.request
        return ResourceCheck(
            of=self,
            group=given["group"],
            resource=given["resource"],
            subresource=given["subresource"],
            namespace=given["namespace"],
            object=given["name"],
        )


@dataclass(frozen=True, slots=True)
class PathCheck(Opaque):
    code: ClassVar[str] = "H"
    name: ClassVar[str] = "kubernetes.authorization.PathCheck"
    of: Authorizer
    path: str


@dataclass(frozen=True, slots=True)
class GroupCheck(Opaque):
    code: ClassVar[str] = "G"
    name: ClassVar[str] = "kubernetes.authorization.GroupCheck"
    of: Authorizer
    group: str


@dataclass(frozen=True, slots=True)
class ResourceCheck(Opaque):
    code: ClassVar[str] = "R"
    name: ClassVar[str] = "kubernetes.authorization.ResourceCheck"
    of: Authorizer
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    object: str = ""

    def check(self, verb: str) -> Decision:
        asked = {"verb": verb, "group": self.group, "resource": self.resource, "account": self.of.account}
        return self.of.decide(
            {**asked, "subresource": self.subresource, "namespace": self.namespace, "name": self.object}
        )


OPAQUE = {
    one.code: one.name
    for one in (
        *(QuantityValue, Url, Ip, Cidr, Semver, Format, Decision),
        *(Authorizer, PathCheck, GroupCheck, ResourceCheck),
    )
}


def _holds(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except CelError:
            return False
        return True

    return check


# Quantities


def _quantity(text: str) -> QuantityValue:
    try:
        return QuantityValue(parse_quantity(text).nanos, text)
    except ValueError:
        why = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        raise CelError(why) from None


def _number(value: QuantityValue | int) -> int:
    return value.nanos if isinstance(value, QuantityValue) else value * 10**9


def _amount(nanos: int) -> QuantityValue:
    return QuantityValue(nanos, str(Quantity(nanos)))


def _whole(value: QuantityValue) -> int:
    if value.nanos % 10**9 or abs(value.nanos // 10**9) > MOST_INT:
        raise CelError("cannot convert value to integer")
    return value.nanos // 10**9


def _is_whole(value: QuantityValue) -> bool:
    return not value.nanos % 10**9 and abs(value.nanos // 10**9) <= MOST_INT


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


define("quantity", "s:Q", _quantity)
define("isQuantity", "s:b", _holds(_quantity))
define("sign", "Q.:i", lambda value: _sign(value.nanos))
define("isInteger", "Q.:b", _is_whole)
define("asInteger", "Q.:i", _whole)
define("asApproximateFloat", "Q.:d", lambda value: value.nanos / 10**9)
define("add", "Q.Q:Q Q.i:Q", lambda one, other: _amount(one.nanos + _number(other)))
define("sub", "Q.Q:Q Q.i:Q", lambda one, other: _amount(one.nanos - _number(other)))
define("isLessThan", "Q.Q:b", lambda one, other: one.nanos < other.nanos)
define("isGreaterThan", "Q.Q:b", lambda one, other: one.nanos > other.nanos)
define("compareTo", "Q.Q:i", lambda one, other: _sign(one.nanos - other.nanos))
define("string", "Q:s P:s C:s", str)


# URLs


def _url(text: str) -> Url:
    try:
        parts = urlsplit(text)
        _ = parts.port
        absolute = bool(parts.scheme) or text.startswith("/")
    except ValueError as wrong:
        raise CelError(f'URL parse error during conversion from string: parse "{text}": {wrong}') from None
    if not absolute or re.search(r"[\x00-\x20\x7f]", text) or re.search(r"%(?![0-9a-fA-F]{2})", text):
        why = f'URL parse error during conversion from string: parse "{text}": invalid URI for request'
        raise CelError(why)
    return Url(text)


def _netloc(value: Url) -> str:
    return urlsplit(value.text).netloc.rpartition("@")[2]


def _query(value: Url) -> dict[str, list[str]]:
    return parse_qs(urlsplit(value.text).query, keep_blank_values=True)


define("url", "s:U", _url)
define("isURL", "s:b", _holds(_url))
define("getScheme", "U.:s", lambda value: urlsplit(value.text).scheme)
define("getHost", "U.:s", _netloc)
define("getHostname", "U.:s", lambda value: re.sub(r":\d*$", "", _netloc(value)).strip("[]"))
define("getPort", "U.:s", lambda value: str(urlsplit(value.text).port or ""))
define("getEscapedPath", "U.:s", lambda value: urlsplit(value.text).path)
define("getQuery", "U.:m", _query)
define("string", "U:s", lambda value: value.text)
define("url.unescape", "s:s", unquote)


# Addresses


def _ip(text: str) -> Ip:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise CelError(f'IP Address "{text}" parse error during conversion from string') from None
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        raise CelError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Ip(address)


def _cidr(text: str) -> Cidr:
    try:
        if "/" not in text or not text.rpartition("/")[2].isdigit():
            raise ValueError
        return Cidr(ipaddress.ip_interface(text))
    except ValueError:
        raise CelError(f'network address parse error during conversion from string: "{text}"') from None


def _canonical(text: str) -> bool:
    return str(_ip(text)) == text


def _global(value: Ip) -> bool:
    one = value.address
    broadcast = str(one) == "255.255.255.255"
    return not (one.is_unspecified or one.is_loopback or one.is_multicast or one.is_link_local or broadcast)


def _link_local_multicast(value: Ip) -> bool:
    one = value.address
    if isinstance(one, ipaddress.IPv4Address):
        return one in ipaddress.ip_network("224.0.0.0/24")
    return one.packed[0] == 0xFF and one.packed[1] & 0x0F == 2


def _contains_ip(value: Cidr, other: Ip | str) -> bool:
    one = _ip(other) if isinstance(other, str) else other
    return one.address in value.network.network


def _contains_cidr(value: Cidr, other: Cidr | str) -> bool:
    one = (_cidr(other) if isinstance(other, str) else other).network
    whole = value.network.network
    return one.version == whole.version and one.network.prefixlen >= whole.prefixlen and one.ip in whole


def _masked(value: Cidr) -> Cidr:
    network = value.network.network
    return Cidr(ipaddress.ip_interface(str(network)))


define("ip", "s:P", _ip)
define("isIP", "s:b", _holds(_ip))
define("ip.isCanonical", "s:b", _canonical)
define("family", "P.:i", lambda value: value.address.version)
define("isUnspecified", "P.:b", lambda value: value.address.is_unspecified)
define("isLoopback", "P.:b", lambda value: value.address.is_loopback)
define("isLinkLocalUnicast", "P.:b", lambda value: value.address.is_link_local)
define("isLinkLocalMulticast", "P.:b", _link_local_multicast)
define("isGlobalUnicast", "P.:b", _global)
define("cidr", "s:C", _cidr)
define("isCIDR", "s:b", _holds(_cidr))
define("containsIP", "C.P:b C.s:b", _contains_ip)
define("containsCIDR", "C.C:b C.s:b", _contains_cidr)
define("ip", "C.:P", lambda value: Ip(value.network.ip))
define("masked", "C.:C", _masked)
define("prefixLength", "C.:i", lambda value: value.network.network.prefixlen)


# Versions

_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-.]+)?"
)


def _semver(text: str, normalize: bool = False) -> Semver:
    if normalize:
        head, mark, tail = text.removeprefix("v").partition("-")
        parts = [str(int(one)) if one.isdigit() else one for one in head.split(".")]
        text = ".".join([*parts, *["0"] * (3 - len(parts))]) + mark + tail
    found = _SEMVER.fullmatch(text)
    if found is None:
        raise CelError(f'Invalid character(s) found in version "{text}"')
    pre = tuple(
        (0, int(one), "") if one.isdigit() else (1, 0, one) for one in (found[4] or "").split(".") if one
    )
    return Semver((int(found[1]), int(found[2]), int(found[3])), pre)


define("semver", "s:V sb:V", _semver)
define("isSemver", "s:b", _holds(_semver))
define("isSemver", "sb:b", lambda text, normalize: _holds(lambda one: _semver(one, normalize))(text))
for _place, _name in enumerate(("major", "minor", "patch")):
    define(_name, "V.:i", lambda value, at=_place: value.numbers[at])
define("isLessThan", "V.V:b", lambda one, other: one < other)
define("isGreaterThan", "V.V:b", lambda one, other: one > other)
define("compareTo", "V.V:i", lambda one, other: (one > other) - (one < other))


# Named formats


def _prefix(rule: Callable[[str], tuple[str, ...]]) -> Callable[[str], tuple[str, ...]]:
    """A name to which something will be appended may end with a dash."""
    return lambda text: rule(text[:-1] + "a" if text.endswith("-") else text)


def _by_format(name: str, why: str) -> Callable[[str], tuple[str, ...]]:
    return lambda text: () if fits(name, text) else (why,)


_FORMATS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "dns1123Label": meta.dns_label,
    "dns1123Subdomain": meta.dns_subdomain,
    "dns1035Label": meta.dns_1035_label,
    "qualifiedName": meta.qualified_name,
    "dns1123LabelPrefix": _prefix(meta.dns_label),
    "dns1123SubdomainPrefix": _prefix(meta.dns_subdomain),
    "dns1035LabelPrefix": _prefix(meta.dns_1035_label),
    "labelValue": meta.label_value,
    "uri": _by_format("uri", "invalid URI"),
    "uuid": _by_format("uuid", "does not match the UUID format"),
    "byte": _by_format("byte", "invalid base64"),
    "date": _by_format("date", "invalid date"),
    "datetime": _by_format("datetime", "invalid datetime"),
}


def _validated(value: Format, text: str) -> Any:
    found = list(value.check(text))
    return some(found) if found else NONE


for _title, _check in _FORMATS.items():
    define(f"format.{_title}", ":F", lambda one=Format(_title, _check): one)
define("format.named", "s:o", lambda name: some(Format(name, _FORMATS[name])) if name in _FORMATS else NONE)
define("validate", "F.s:o", _validated)


# Authorization

define("path", "A.s:H", PathCheck)
define("group", "A.s:G", GroupCheck)
define(
    "serviceAccount",
    "A.ss:A",
    lambda one, namespace, name: replace(one, account=f"system:serviceaccount:{namespace}:{name}"),
)
define("resource", "G.s:R", lambda one, resource: ResourceCheck(one.of, one.group, resource))
define("subresource", "R.s:R", lambda one, name: replace(one, subresource=name))
define("namespace", "R.s:R", lambda one, name: replace(one, namespace=name))
define("name", "R.s:R", lambda one, name: replace(one, object=name))
define(
    "check",
    "H.s:X",
    lambda one, verb: one.of.decide({"verb": verb, "path": one.path, "account": one.of.account}),
)
define("check", "R.s:X", ResourceCheck.check)
define("allowed", "X.:b", lambda one: one.allowed)
define("reason", "X.:s", lambda one: one.reason)
define("errored", "X.:b", lambda one: False)
define("error", "X.:s", lambda one: "")


# Patches

define("jsonpatch.escapeKey", "s:s", lambda text: text.replace("~", "~0").replace("/", "~1"))
