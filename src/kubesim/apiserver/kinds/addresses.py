"""What addresses, ranges, host names and paths with a domain have to look like, wherever an object holds one."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from kubesim.errors import FieldError, invalid_value, required
from kubesim.schema.meta import dns_subdomain, rule_with

IP_RULE = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR_RULE = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
NOT_AN_IP = "must be a DNS name, not an IP address"
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_WILDCARD = rf"\*\.{_LABEL}(\.{_LABEL})*"
_WILDCARD_RULE = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_PREFIXED = 'must be a domain-prefixed path (such as "acme.io/foo")'


def is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def ip_errors(text: str, path: str) -> list[FieldError]:
    return [] if is_ip(text) else [invalid_value(path, text, IP_RULE)]


def network(text: str) -> IPv4Network | IPv6Network | None:
    """A range in the form of CIDR; bits below the mask do no harm."""
    address, slash, bits = text.partition("/")
    if not slash or not bits.isdigit() or not is_ip(address):
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def cidr_errors(text: str, path: str) -> list[FieldError]:
    return [] if network(text) else [invalid_value(path, text, CIDR_RULE)]


def special_ip_errors(text: str, path: str, *, loopback: bool = False) -> list[FieldError]:
    """Addresses that mean something else on each machine, and so cannot be where others send their traffic.

    Pods of a process node have `loopback` addresses: where pods are listed, these are allowed.
    """
    if not is_ip(text):
        return [invalid_value(path, text, "must be a valid IP address")]
    address = ip_address(text)
    found: list[FieldError] = []
    if address.is_unspecified:
        found.append(invalid_value(path, text, f"may not be unspecified ({text})"))
    if address.is_loopback and not loopback:
        why = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
        found.append(invalid_value(path, text, why))
    if address.is_link_local:
        why = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        found.append(invalid_value(path, text, why))
    if address in ip_network("224.0.0.0/24" if address.version == 4 else "ff02::/16"):
        why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        found.append(invalid_value(path, text, why))
    return found


def host_errors(host: str, path: str) -> list[FieldError]:
    """A DNS name, or all names below one (`*.example.com`)."""
    if "*" not in host:
        return [invalid_value(path, host, why) for why in dns_subdomain(host)]
    if re.fullmatch(_WILDCARD, host, re.ASCII):
        return []
    return [invalid_value(path, host, rule_with(_WILDCARD_RULE, _WILDCARD, "*.example.com"))]


def domain_path_errors(text: str, path: str) -> list[FieldError]:
    """A name such as `acme.io/foo`."""
    if not text:
        return [required(path)]
    domain, _, rest = text.partition("/")
    if not domain or not rest:
        return [invalid_value(path, text, _PREFIXED)]
    found = [invalid_value(path, domain, why) for why in dns_subdomain(domain)]
    if not re.fullmatch(_PATH, rest, re.ASCII):
        found.append(invalid_value(path, rest, rule_with("Invalid path", _PATH)))
    return found
