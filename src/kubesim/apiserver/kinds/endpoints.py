"""Endpoints and EndpointSlices: what addresses and ports they may list."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from kubesim.apiserver.kinds.addresses import ip_errors, is_ip, special_ip_errors
from kubesim.apiserver.kinds.base import Strategy, immutable
from kubesim.apiserver.kinds.containers import PORT_RANGE, PROTOCOLS
from kubesim.apiserver.kinds.pod_defaults import each, filled, replaced
from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    invalid_value,
    not_supported,
    required,
    too_many,
)
from kubesim.schema.meta import dns_label, dns_subdomain, labels, qualified_name
from kubesim.schema.registry import ResourceType

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_MOST_ENDPOINTS, _MOST_ADDRESSES, _MOST_PORTS = 1000, 100, 20000


class EndpointSliceStrategy(Strategy):
    generation = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        return replaced(obj, "ports", each(lambda port: filled(port, {"name": "", "protocol": "TCP"})))

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        kind = obj.get("addressType", "")
        found: list[FieldError] = []
        if not kind:
            found.append(required("addressType"))
        elif kind not in _ADDRESS_TYPES:
            found.append(not_supported("addressType", kind, _ADDRESS_TYPES))
        return [
            *found,
            *_slice_endpoints(obj.get("endpoints") or [], kind),
            *_slice_ports(obj.get("ports") or []),
        ]

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        return immutable(old["addressType"], new["addressType"], "addressType")


def _slice_endpoints(listed: list[JsonObject], kind: str) -> Iterator[FieldError]:
    if len(listed) > _MOST_ENDPOINTS:
        yield too_many("endpoints", len(listed), _MOST_ENDPOINTS)
        return
    for at, one in enumerate(listed):
        path = f"endpoints[{at}]"
        addresses = one.get("addresses") or []
        if not addresses:
            yield required(f"{path}.addresses", "must contain at least 1 address")
        elif len(addresses) > _MOST_ADDRESSES:
            yield too_many(f"{path}.addresses", len(addresses), _MOST_ADDRESSES)
        for number, address in enumerate(addresses):
            yield from _slice_address(address, kind, f"{path}.addresses[{number}]")
        yield from labels(one.get("deprecatedTopology"), f"{path}.deprecatedTopology")
        node, host = one.get("nodeName"), one.get("hostname")
        if node is not None:
            yield from (invalid_value(f"{path}.nodeName", node, why) for why in dns_subdomain(node))
        if host is not None:
            yield from (invalid_value(f"{path}.hostname", host, why) for why in dns_label(host))


def _slice_address(address: str, kind: str, path: str) -> Iterator[FieldError]:
    if kind in ("IPv4", "IPv6"):
        yield from ip_errors(address, path)
        if is_ip(address) and ip_address(address).version != int(kind[-1]):
            yield invalid_value(path, address, f"must be an {kind} address")
        yield from special_ip_errors(address, path, loopback=True)
    elif kind == "FQDN":
        name = address.removesuffix(".")
        wrong = dns_subdomain(name)
        yield from (invalid_value(path, address, why) for why in wrong)
        if not wrong and "." not in name:
            yield invalid_value(
                path, address, "should be a domain with at least two segments separated by dots"
            )


def _slice_ports(ports: list[JsonObject]) -> Iterator[FieldError]:
    if len(ports) > _MOST_PORTS:
        yield too_many("ports", len(ports), _MOST_PORTS)
        return
    names: set[str] = set()
    for at, port in enumerate(ports):
        path, name, protocol = f"ports[{at}]", port.get("name") or "", port.get("protocol")
        if name:
            yield from (invalid_value(f"{path}.name", name, why) for why in dns_label(name))
        if name in names:
            yield duplicate(f"{path}.name", name)
        names.add(name)
        if protocol is None:
            yield required(f"{path}.protocol")
        elif protocol not in PROTOCOLS:
            yield not_supported(f"{path}.protocol", protocol, PROTOCOLS)
        yield from _app_protocol(port, path)


def _app_protocol(port: JsonObject, path: str) -> Iterator[FieldError]:
    name = port.get("appProtocol")
    if name is not None:
        yield from (invalid_value(f"{path}.appProtocol", name, why) for why in qualified_name(name))


class EndpointsStrategy(Strategy):
    deprecation = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        def subset(one: JsonObject) -> JsonObject:
            return replaced(one, "ports", each(lambda port: filled(port, {"protocol": "TCP"})))

        return replaced(obj, "subsets", each(subset))

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        for at, subset in enumerate(obj.get("subsets") or ()):
            path = f"subsets[{at}]"
            if not subset.get("addresses") and not subset.get("notReadyAddresses"):
                found.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
            for key in ("addresses", "notReadyAddresses"):
                for number, one in enumerate(subset.get(key) or ()):
                    found += _address(one, f"{path}.{key}[{number}]")
            ports = subset.get("ports") or []
            for number, port in enumerate(ports):
                found += _port(port, f"{path}.ports[{number}]", named=len(ports) > 1)
        return found


def _address(one: JsonObject, path: str) -> Iterator[FieldError]:
    ip = one.get("ip", "")
    yield from ip_errors(ip, f"{path}.ip")
    if one.get("hostname"):
        where = f"{path}.hostname"
        yield from (invalid_value(where, one["hostname"], why) for why in dns_label(one["hostname"]))
    if one.get("nodeName") is not None:
        where = f"{path}.nodeName"
        yield from (invalid_value(where, one["nodeName"], why) for why in dns_subdomain(one["nodeName"]))
    yield from special_ip_errors(ip, f"{path}.ip", loopback=True)


def _port(port: JsonObject, path: str, *, named: bool) -> Iterator[FieldError]:
    name, protocol = port.get("name"), port.get("protocol")
    if name:
        yield from (invalid_value(f"{path}.name", name, why) for why in dns_label(name))
    elif named:
        yield required(f"{path}.name")
    if not 0 < port.get("port", 0) < 65536:
        yield invalid_value(f"{path}.port", port.get("port", 0), PORT_RANGE)
    if not protocol:
        yield required(f"{path}.protocol")
    elif protocol not in PROTOCOLS:
        yield not_supported(f"{path}.protocol", protocol, PROTOCOLS)
    yield from _app_protocol(port, path)
