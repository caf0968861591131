"""Services: defaults by type, cluster IPs and node ports, and what may change while the type stays.

Addresses come from the Allocator of the context, after validation and before the store, so that a refused service
costs none; `release` gives them back.
"""

from __future__ import annotations

from ipaddress import ip_address

from kubesim import errors
from kubesim.apiserver.kinds.base import Allocator, Context, Strategy, drop, put
from kubesim.apiserver.kinds.containers import PORT_RANGE, PROTOCOLS
from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import dns_label, dns_subdomain, labels, port_name
from kubesim.schema.registry import ResourceType

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_HEADLESS = "None"
_TEN_THOUSAND = 10800


def _has_ip(spec: JsonObject) -> bool:
    return spec.get("type") != "ExternalName"


def _has_node_ports(spec: JsonObject) -> bool:
    if spec.get("type") == "NodePort":
        return True
    return spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False


def _external(spec: JsonObject) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))


def _port(port: JsonObject, *, external_name: bool) -> JsonObject:
    made = port
    if not port.get("protocol"):
        made = {**made, "protocol": "TCP"}
    if port.get("targetPort") in (0, "", None):
        made = {**made, "targetPort": port["port"]}
    return made


def _filled(spec: JsonObject) -> JsonObject:
    made = dict(spec)
    made.setdefault("type", "ClusterIP")
    made.setdefault("sessionAffinity", "None")
    if made["sessionAffinity"] == "ClientIP":
        config = made.get("sessionAffinityConfig") or {}
        client = config.get("clientIP") or {}
        if client.get("timeoutSeconds") is None:
            made["sessionAffinityConfig"] = {"clientIP": {**client, "timeoutSeconds": _TEN_THOUSAND}}
    if "ports" in made:
        made["ports"] = [_port(port, external_name=made["type"] == "ExternalName") for port in made["ports"]]
    if _has_ip(made):
        made.setdefault("internalTrafficPolicy", "Cluster")
        if _external(made):
            made.setdefault("externalTrafficPolicy", "Cluster")
    if made["type"] == "LoadBalancer":
        made.setdefault("allocateLoadBalancerNodePorts", True)
    single, several = made.get("clusterIP"), made.get("clusterIPs")
    if single and not several:
        made["clusterIPs"] = [single]
    return made


class ServiceStrategy(Strategy):
    create_on_update = True
    delete_returns_object = True
    name_rule = staticmethod(dns_label)

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        spec = _filled(obj["spec"])
        return obj if spec == obj["spec"] else put(obj, "spec", spec)

    def prepare_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str, ctx: Context
    ) -> JsonObject:
        made = super().prepare_update(rt, old, new, subresource, ctx)
        return made if subresource == "status" else put(made, "spec", _carried(old["spec"], made["spec"]))

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found = _ports(spec)
        if spec["type"] not in _TYPES:
            found.append(not_supported("spec.type", spec["type"], _TYPES))
        if spec["type"] == "ExternalName":
            found += _external_name(spec)
        elif spec["type"] == "LoadBalancer" and spec.get("clusterIP") == _HEADLESS:
            why = "may not be set to 'None' for LoadBalancer services"
            found.append(invalid_value("spec.clusterIPs[0]", _HEADLESS, why))
        elif spec["type"] == "NodePort" and spec.get("clusterIP") == _HEADLESS:
            why = "may not be set to 'None' for NodePort services"
            found.append(invalid_value("spec.clusterIPs[0]", _HEADLESS, why))
        if spec["sessionAffinity"] not in ("ClientIP", "None"):
            found.append(not_supported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None")))
        if "selector" in spec:
            found += labels(spec["selector"], "spec.selector")
        return found + _addresses(spec) + _policies(spec)

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        before, after = old["spec"], new["spec"]
        if not _has_ip(before) or not _has_ip(after) or before.get("clusterIP") == after.get("clusterIP"):
            return []
        shown = after.get("clusterIPs")
        if not after.get("clusterIP"):
            return [invalid_value("spec.clusterIPs[0]", shown, "primary clusterIP can not be unset")]
        return [invalid_value("spec.clusterIPs[0]", shown, "may not change once set")]

    def allocate(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject, ctx: Context) -> JsonObject:
        if ctx.allocator is None:
            return obj
        spec = _with_ip(rt, obj, old["spec"] if old else None, ctx.allocator)
        spec = _with_ports(rt, obj, spec, old["spec"] if old else None, ctx.allocator)
        if old is not None:
            _give_back(old["spec"], spec, ctx.allocator)
        return obj if spec is obj["spec"] else put(obj, "spec", spec)

    def release(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> None:
        if ctx.allocator is not None:
            _give_back(obj["spec"], {"type": "ExternalName"}, ctx.allocator)


def _carried(old: JsonObject, new: JsonObject) -> JsonObject:
    """What an update that does not mention them keeps: addresses and node ports."""
    made = dict(new)
    if _has_ip(old) and _has_ip(new):
        if not made.get("clusterIP") and not made.get("clusterIPs"):
            for key in ("clusterIP", "clusterIPs"):
                if key in old:
                    made[key] = old[key]
        for key in ("ipFamilies", "ipFamilyPolicy"):
            if key not in made and key in old:
                made[key] = old[key]
    elif not _has_ip(new) and _has_ip(old):
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if made.get(key) == old.get(key):
                made.pop(key, None)
    if _has_node_ports(new) and _has_node_ports(old):
        ports = {(one["port"], one.get("protocol")): one.get("nodePort") for one in old.get("ports") or ()}
        taken = {one.get("nodePort") for one in made.get("ports") or ()}
        made["ports"] = [
            {**one, "nodePort": kept}
            if not one.get("nodePort")
            and (kept := ports.get((one["port"], one.get("protocol"))))
            and kept not in taken
            else one
            for one in made.get("ports") or ()
        ]
    elif _has_node_ports(old) and not _has_node_ports(new):
        dropped = {one.get("nodePort") for one in old.get("ports") or ()}
        made["ports"] = [
            drop(one, "nodePort") if one.get("nodePort") in dropped else one
            for one in made.get("ports") or ()
        ]
        if not _external(made) and made.get("externalTrafficPolicy") == old.get("externalTrafficPolicy"):
            made.pop("externalTrafficPolicy", None)
    return new if made == new else made


def _ports(spec: JsonObject) -> list[FieldError]:
    ports = spec.get("ports") or []
    headless = spec.get("clusterIP") == _HEADLESS
    found: list[FieldError] = []
    if not ports and not headless and spec["type"] != "ExternalName":
        found.append(required("spec.ports"))
    names: set[str] = set()
    pairs: set[tuple[str, int]] = set()
    for at, port in enumerate(ports):
        path = f"spec.ports[{at}]"
        found += _one_port(port, path, named=len(ports) > 1, headless=headless)
        name = port.get("name")
        if name:
            if name in names:
                found.append(duplicate(f"{path}.name", name))
            names.add(name)
        pair = (port.get("protocol", ""), port["port"])
        if pair in pairs:
            found.append(duplicate(path, {"protocol": pair[0], "port": pair[1]}))
        pairs.add(pair)
        if port.get("nodePort") and not _has_node_ports(spec) and spec["type"] != "LoadBalancer":
            why = "may not be used when `type` is 'ClusterIP'"
            if spec["type"] == "ClusterIP":
                found.append(forbidden_field(f"{path}.nodePort", why))
    return found


def _one_port(port: JsonObject, path: str, *, named: bool, headless: bool) -> list[FieldError]:
    found: list[FieldError] = []
    name = port.get("name")
    if name:
        found.extend(invalid_value(f"{path}.name", name, why) for why in dns_label(name))
    elif named:
        found.append(required(f"{path}.name"))
    if not 0 < port["port"] < 65536:
        found.append(invalid_value(f"{path}.port", port["port"], PORT_RANGE))
    protocol = port.get("protocol", "")
    if protocol not in PROTOCOLS:
        found.append(not_supported(f"{path}.protocol", protocol, PROTOCOLS))
    target = port.get("targetPort", 0)
    if isinstance(target, str):
        found.extend(invalid_value(f"{path}.targetPort", target, why) for why in port_name(target))
    elif not 0 < target < 65536:
        found.append(invalid_value(f"{path}.targetPort", target, PORT_RANGE))
    return found


def _external_name(spec: JsonObject) -> list[FieldError]:
    found: list[FieldError] = []
    if spec.get("clusterIPs"):
        found.append(forbidden_field("spec.clusterIPs", "may not be set when `type` is 'ExternalName'"))
    name = spec.get("externalName", "").removesuffix(".")
    if not name:
        found.append(required("spec.externalName"))
    else:
        found.extend(
            invalid_value("spec.externalName", spec["externalName"], why) for why in dns_subdomain(name)
        )
    return found


def _addresses(spec: JsonObject) -> list[FieldError]:
    found: list[FieldError] = []
    single, several = spec.get("clusterIP"), spec.get("clusterIPs") or []
    if single and several and several[0] != single:
        found.append(invalid_value("spec.clusterIPs", several, "first value must match `clusterIP`"))
    for at, address in enumerate(several):
        if address == _HEADLESS:
            continue
        try:
            ip_address(address)
        except ValueError:
            why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            found.append(invalid_value(f"spec.clusterIPs[{at}]", address, why))
    return found


def _policies(spec: JsonObject) -> list[FieldError]:
    found: list[FieldError] = []
    for key in ("internalTrafficPolicy", "externalTrafficPolicy"):
        value = spec.get(key)
        if value and value not in ("Cluster", "Local"):
            found.append(not_supported(f"spec.{key}", value, ("Cluster", "Local")))
    if spec.get("externalTrafficPolicy") and not _external(spec):
        why = "may only be set for externally-accessible services"
        found.append(invalid_value("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], why))
    return found


def _with_ip(rt: ResourceType, obj: JsonObject, old: JsonObject | None, allocator: Allocator) -> JsonObject:
    spec: JsonObject = obj["spec"]
    if not _has_ip(spec):
        return spec
    made = dict(spec)
    wanted = made.get("clusterIP", "")
    if wanted != _HEADLESS and (not wanted or wanted != (old or {}).get("clusterIP")):
        try:
            address = allocator.take_ip(wanted)
        except ValueError as taken:
            why = (
                f"failed to allocate IP {wanted}: {taken}"
                if wanted
                else f"failed to allocate a serviceIP: {taken}"
            )
            raise errors.invalid(
                rt.group_kind, obj["metadata"]["name"], [invalid_value("spec.clusterIPs", [wanted], why)]
            ) from None
        made["clusterIP"], made["clusterIPs"] = address, [address]
    if made.get("clusterIP") == _HEADLESS:
        made["clusterIPs"] = [_HEADLESS]
    made.setdefault("ipFamilies", ["IPv4"])
    made.setdefault("ipFamilyPolicy", "SingleStack")
    return spec if made == spec else made


def _with_ports(
    rt: ResourceType, obj: JsonObject, spec: JsonObject, old: JsonObject | None, allocator: Allocator
) -> JsonObject:
    if not _has_node_ports(spec):
        return spec
    held = {one.get("nodePort") for one in (old or {}).get("ports") or ()}
    listed = []
    for at, port in enumerate(spec.get("ports") or ()):
        wanted = port.get("nodePort", 0)
        if wanted and wanted in held:
            listed.append(port)
            continue
        try:
            listed.append({**port, "nodePort": allocator.take_port(wanted, port["protocol"])})
        except ValueError as taken:
            problem = invalid_value(f"spec.ports[{at}].nodePort", wanted, str(taken))
            raise errors.invalid(rt.group_kind, obj["metadata"]["name"], [problem]) from None
    return spec if listed == spec.get("ports") else put(spec, "ports", listed)


def _give_back(old: JsonObject, new: JsonObject, allocator: Allocator) -> None:
    address = old.get("clusterIP")
    if address and address != _HEADLESS and address != new.get("clusterIP"):
        allocator.release_ip(address)
    kept = {one.get("nodePort") for one in new.get("ports") or ()}
    for port in old.get("ports") or ():
        number = port.get("nodePort")
        if number and number not in kept:
            allocator.release_port(number, port["protocol"])
