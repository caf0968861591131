"""Services: defaults by type, cluster IPs and node ports, and what may change while the type stays.

Addresses come from the Allocator of the context, after validation and before the store, so that a refused service
costs none; `release` gives them back.
"""

from __future__ import annotations

from kubesim import errors
from kubesim.apiserver.kinds.addresses import (
    NOT_AN_IP,
    cidr_errors,
    ip_errors,
    is_ip,
    special_ip_errors,
)
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
from kubesim.schema.meta import dns_label, dns_subdomain, labels, port_name, qualified_name
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
        found += _affinity(spec) + _balancer(spec) + _families(spec)
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

    def validate_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        listed = ((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        path = "status.loadBalancer.ingress"
        if listed and new["spec"]["type"] != "LoadBalancer":
            return [forbidden_field(path, "may only be used when `spec.type` is 'LoadBalancer'")]
        return [error for at, one in enumerate(listed) for error in _ingress(one, f"{path}[{at}]")]

    def warnings(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject) -> list[str]:
        return service_warnings(obj["spec"])

    def allocate(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject, ctx: Context) -> JsonObject:
        if ctx.allocator is None:
            return obj
        spec = _with_ip(rt, obj, old["spec"] if old else None, ctx.allocator)
        spec = _with_ports(rt, obj, spec, old["spec"] if old else None, ctx.allocator)
        spec = _with_check_port(rt, obj, spec, old["spec"] if old else None, ctx.allocator)
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
        if _checked(old) and _checked(made) and not made.get("healthCheckNodePort"):
            made["healthCheckNodePort"] = old.get("healthCheckNodePort")
        if not _checked(made) and made.get("healthCheckNodePort") == old.get("healthCheckNodePort"):
            made.pop("healthCheckNodePort", None)
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
    return found + _node_ports(ports)


def _node_ports(ports: list[JsonObject]) -> list[FieldError]:
    found: list[FieldError] = []
    seen: set[tuple[str, int]] = set()
    for at, port in enumerate(ports):
        number = port.get("nodePort")
        if number and (port.get("protocol", ""), number) in seen:
            found.append(duplicate(f"spec.ports[{at}].nodePort", number))
        if number:
            seen.add((port.get("protocol", ""), number))
    return found


def _affinity(spec: JsonObject) -> list[FieldError]:
    path, config = "spec.sessionAffinityConfig", spec.get("sessionAffinityConfig")
    if spec["sessionAffinity"] == "None" and config is not None:
        return [forbidden_field(path, "must not be set when session affinity is None")]
    seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
    if spec["sessionAffinity"] == "ClientIP" and not 0 < (seconds or 0) <= _DAY:
        why = f"must be greater than 0 and less than {_DAY}"
        return [invalid_value(f"{path}.clientIP.timeoutSeconds", seconds, why)]
    return []


_DAY = 86400
_ONLY_BALANCED = "may only be used when `type` is 'LoadBalancer'"
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")


def _balancer(spec: JsonObject) -> list[FieldError]:
    """What only a service with a load balancer may have, and addresses from outside."""
    balanced = spec["type"] == "LoadBalancer"
    found: list[FieldError] = []
    for at, address in enumerate(spec.get("externalIPs") or ()):
        path = f"spec.externalIPs[{at}]"
        found += ip_errors(address, path) or special_ip_errors(address, path)
    ranges = spec.get("loadBalancerSourceRanges") or []
    if ranges and not balanced:
        found.append(forbidden_field("spec.LoadBalancerSourceRanges", _ONLY_BALANCED))
    for at, text in enumerate(ranges):
        found += cidr_errors(text.strip(), f"spec.LoadBalancerSourceRanges[{at}]")
    if spec.get("allocateLoadBalancerNodePorts") is not None and not balanced:
        found.append(forbidden_field("spec.allocateLoadBalancerNodePorts", _ONLY_BALANCED))
    kind = spec.get("loadBalancerClass")
    if kind is not None and not balanced:
        found.append(forbidden_field("spec.loadBalancerClass", _ONLY_BALANCED))
    elif kind is not None:
        found.extend(invalid_value("spec.loadBalancerClass", kind, why) for why in qualified_name(kind))
    if spec.get("healthCheckNodePort") and not _checked(spec):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        found.append(invalid_value("spec.healthCheckNodePort", spec["healthCheckNodePort"], why))
    traffic = spec.get("trafficDistribution")
    if traffic is not None and traffic not in _DISTRIBUTIONS:
        found.append(not_supported("spec.trafficDistribution", traffic, _DISTRIBUTIONS))
    return found


def _checked(spec: JsonObject) -> bool:
    """Whether its nodes have to say if they have an endpoint of it."""
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _families(spec: JsonObject) -> list[FieldError]:
    if spec["type"] == "ExternalName":
        return []
    found: list[FieldError] = []
    families, policy = spec.get("ipFamilies") or [], spec.get("ipFamilyPolicy")
    for at, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            found.append(not_supported(f"spec.ipFamilies[{at}]", family, ("IPv4", "IPv6")))
        if family in families[:at]:
            found.append(duplicate(f"spec.ipFamilies[{at}]", family))
    known = ("PreferDualStack", "RequireDualStack", "SingleStack")
    if policy is not None and policy not in known:
        found.append(not_supported("spec.ipFamilyPolicy", policy, known))
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
    protocol_of_application = port.get("appProtocol")
    if protocol_of_application is not None:
        where, wrong = f"{path}.appProtocol", qualified_name(protocol_of_application)
        found.extend(invalid_value(where, protocol_of_application, why) for why in wrong)
    return found


_NOT_EXTERNAL = "may not be set for ExternalName services"


def _ingress(one: JsonObject, path: str) -> list[FieldError]:
    """One address of a load balancer."""
    ip, mode, host = one.get("ip"), one.get("ipMode"), one.get("hostname")
    found = ip_errors(ip, f"{path}.ip") if ip else []
    if mode is not None and not ip:
        found.append(forbidden_field(f"{path}.ipMode", "may not be specified when `ip` is not set"))
    elif mode is not None and mode not in ("Proxy", "VIP"):
        found.append(not_supported(f"{path}.ipMode", mode, ("Proxy", "VIP")))
    if host:
        found.extend(invalid_value(f"{path}.hostname", host, why) for why in dns_subdomain(host))
        if is_ip(host):
            found.append(invalid_value(f"{path}.hostname", host, NOT_AN_IP))
    return found


def service_warnings(spec: JsonObject) -> list[str]:
    """Fields that this type of service does not heed."""
    kind, external = spec["type"], spec.get("externalIPs")
    headless = kind == "ClusterIP" and spec.get("clusterIP") == _HEADLESS
    found: list[str] = []
    if headless:
        if spec.get("loadBalancerIP"):
            found.append("spec.loadBalancerIP is ignored for headless services")
        if external:
            found.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity") != "None":
            found.append("spec.SessionAffinity is ignored for headless services")
    if external and kind == "ExternalName":
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    elif external and not headless:
        found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if kind != "ExternalName" and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found


def _external_name(spec: JsonObject) -> list[FieldError]:
    found: list[FieldError] = []
    if spec.get("clusterIPs"):
        found.append(forbidden_field("spec.clusterIPs", _NOT_EXTERNAL))
    if spec.get("ipFamilies"):
        found.append(forbidden_field("spec.ipFamilies", _NOT_EXTERNAL))
    if spec.get("ipFamilyPolicy") is not None:
        found.append(forbidden_field("spec.ipFamilyPolicy", _NOT_EXTERNAL))
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
    if not single and several:
        why = "must be empty when `clusterIP` is not specified"
        found.append(invalid_value("spec.clusterIPs", several, why))
    for at, address in enumerate(several):
        if at == 0 and address == _HEADLESS:
            if len(several) > 1:
                why = "'None' must be the first and only value"
                found.append(invalid_value("spec.clusterIPs", several, why))
            continue
        found += ip_errors(address, f"spec.clusterIPs[{at}]")
    if len(several) > 2:
        found.append(invalid_value("spec.clusterIPs", several, "may only hold up to 2 values"))
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
    wrong = _stack_errors(spec)
    if wrong:
        raise errors.invalid(rt.group_kind, obj["metadata"]["name"], wrong)
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
    if made.get("clusterIP") == _HEADLESS and not made.get("selector"):
        # Nobody knows yet whose addresses it will have: both families, on any cluster.
        made.setdefault("ipFamilyPolicy", "RequireDualStack")
        families = list(made.get("ipFamilies") or ["IPv4"])
        if len(families) == 1 and made["ipFamilyPolicy"] != "SingleStack":
            families.append("IPv6" if families[0] == "IPv4" else "IPv4")
        made["ipFamilies"] = families
    made.setdefault("ipFamilies", ["IPv4"])
    made.setdefault("ipFamilyPolicy", "SingleStack")
    return spec if made == spec else made


def _stack_errors(spec: JsonObject) -> list[FieldError]:
    """Addresses of a family that this cluster has not."""
    if not spec.get("selector") and spec.get("clusterIP") == _HEADLESS:
        return []
    found = [
        invalid_value(f"spec.ipFamilies[{at}]", family, "not configured on this cluster")
        for at, family in enumerate(spec.get("ipFamilies") or ())
        if family == "IPv6"
    ]
    if spec.get("ipFamilyPolicy") == "RequireDualStack":
        why = "this cluster is not configured for dual-stack services"
        found.append(invalid_value("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], why))
    return found


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


def _with_check_port(
    rt: ResourceType, obj: JsonObject, spec: JsonObject, old: JsonObject | None, allocator: Allocator
) -> JsonObject:
    """The port at which a node says whether it has an endpoint of the service."""
    key = "healthCheckNodePort"
    if not _checked(spec):
        return drop(spec, key)
    wanted = spec.get(key) or 0
    if wanted and wanted == (old or {}).get(key):
        return spec
    try:
        return put(spec, key, allocator.take_port(wanted, "TCP"))
    except ValueError as taken:
        problem = invalid_value(f"spec.{key}", wanted, str(taken))
        raise errors.invalid(rt.group_kind, obj["metadata"]["name"], [problem]) from None


def _give_back(old: JsonObject, new: JsonObject, allocator: Allocator) -> None:
    address = old.get("clusterIP")
    if address and address != _HEADLESS and address != new.get("clusterIP"):
        allocator.release_ip(address)
    check = old.get("healthCheckNodePort")
    if check and check != new.get("healthCheckNodePort"):
        allocator.release_port(check, "TCP")
    kept = {one.get("nodePort") for one in new.get("ports") or ()}
    for port in old.get("ports") or ():
        number = port.get("nodePort")
        if number and number not in kept:
            allocator.release_port(number, port["protocol"])
