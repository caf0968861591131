"""Ingresses, their classes, and network policies: defaults, and rules in the real server's words."""

from __future__ import annotations

from collections.abc import Iterator

from kubesim.apiserver.kinds.addresses import (
    NOT_AN_IP,
    cidr_errors,
    domain_path_errors,
    host_errors,
    ip_errors,
    is_ip,
    network,
)
from kubesim.apiserver.kinds.base import Strategy, immutable
from kubesim.apiserver.kinds.containers import PORT_RANGE
from kubesim.apiserver.kinds.placement import label_selector
from kubesim.apiserver.kinds.pod_defaults import each, filled, replaced
from kubesim.errors import (
    FieldError,
    JsonObject,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
    too_long,
)
from kubesim.schema.meta import dns_label, dns_subdomain, path_segment, port_name
from kubesim.schema.registry import ResourceType

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")
_CONTROLLER_LIMIT = 250
_SCOPES = ("Cluster", "Namespace")
_PROTOCOLS = ("TCP", "UDP", "SCTP")


class IngressStrategy(Strategy):
    generation = True

    def validate_create(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found = super().validate_create(rt, obj)
        old, name = _annotated(obj), obj["spec"].get("ingressClassName")
        if old is not None and name is not None and old != name:
            why = "must match `ingressClassName` when both are specified"
            found.append(invalid_value(f"annotations.{CLASS_ANNOTATION}", old, why))
        return found

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found: list[FieldError] = []
        rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
        if not rules and backend is None:
            why = "either `defaultBackend` or `rules` must be specified"
            found.append(invalid_value("spec", spec.get("rules"), why))
        if backend is not None:
            found += _backend(backend, "spec.defaultBackend")
        for at, rule in enumerate(rules):
            found += _rule(rule, f"spec.rules[{at}]")
        for at, one in enumerate(spec.get("tls") or ()):
            found += _tls(one, f"spec.tls[{at}]")
        name = spec.get("ingressClassName")
        if name is not None:
            found.extend(invalid_value("spec.ingressClassName", name, why) for why in dns_subdomain(name))
        return found

    def validate_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        balancer = (new.get("status") or {}).get("loadBalancer") or {}
        found: list[FieldError] = []
        for at, one in enumerate(balancer.get("ingress") or ()):
            path = f"status.loadBalancer.ingress[{at}]"
            if one.get("ip"):
                found += ip_errors(one["ip"], f"{path}.ip")
            if one.get("hostname"):
                found += _plain_host(one["hostname"], f"{path}.hostname")
        return found

    def warnings(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject) -> list[str]:
        if old is None and _annotated(obj) is not None and obj["spec"].get("ingressClassName") is None:
            return [
                f"annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"
            ]
        return []


def _annotated(obj: JsonObject) -> str | None:
    found: str | None = (obj["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION)
    return found


def _plain_host(host: str, path: str) -> list[FieldError]:
    found = [invalid_value(path, host, why) for why in dns_subdomain(host)]
    return [*found, invalid_value(path, host, NOT_AN_IP)] if is_ip(host) else found


def _rule(rule: JsonObject, path: str) -> Iterator[FieldError]:
    host, http = rule.get("host"), rule.get("http")
    if host:
        if is_ip(host):
            yield invalid_value(f"{path}.host", host, NOT_AN_IP)
        yield from host_errors(host, f"{path}.host")
    if http is None:
        return
    paths = http.get("paths") or []
    if not paths:
        yield required(f"{path}.http.paths")
    for at, one in enumerate(paths):
        yield from _http_path(one, f"{path}.http.paths[{at}]")


def _http_path(one: JsonObject, path: str) -> Iterator[FieldError]:
    kind, text = one.get("pathType"), one.get("path", "")
    if not kind:
        yield required(f"{path}.pathType", "pathType must be specified")
        return
    where = f"{path}.path"
    if kind not in _PATH_TYPES:
        yield not_supported(f"{path}.pathType", kind, _PATH_TYPES)
    elif not text.startswith("/") and (text or kind != "ImplementationSpecific"):
        yield invalid_value(where, text, "must be an absolute path")
    if kind in ("Exact", "Prefix"):
        for bad in _BAD_SEQUENCES:
            if bad in text:
                yield invalid_value(where, text, f"must not contain '{bad}'")
        for bad in _BAD_ENDS:
            if text.endswith(bad):
                yield invalid_value(where, text, f"cannot end with '{bad}'")
    yield from _backend(one.get("backend") or {}, f"{path}.backend")


def _backend(backend: JsonObject, path: str) -> Iterator[FieldError]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        yield invalid_value(path, "", "cannot set both resource and service backends")
    elif resource is not None:
        yield from _reference(resource, f"{path}.resource")
    elif service is None:
        yield invalid_value(path, "", "resource or service backend is required")
    else:
        yield from _service(service, path)


def _service(service: JsonObject, path: str) -> Iterator[FieldError]:
    name, port = service.get("name"), service.get("port") or {}
    if not name:
        yield required(f"{path}.service.name")
    else:
        yield from (invalid_value(f"{path}.service.name", name, why) for why in dns_label(name))
    number, port_text = port.get("number"), port.get("name")
    if number and port_text:
        yield invalid_value(path, "", "cannot set both port name & port number")
    elif port_text:
        where = f"{path}.service.port.name"
        yield from (invalid_value(where, port_text, why) for why in port_name(port_text))
    elif not number:
        yield required(path, "port name or number is required")
    elif not 0 < number < 65536:
        yield invalid_value(f"{path}.service.port.number", number, PORT_RANGE)


def _tls(one: JsonObject, path: str) -> Iterator[FieldError]:
    for at, host in enumerate(one.get("hosts") or ()):
        yield from host_errors(host, f"{path}.hosts[{at}]")
    secret = one.get("secretName")
    if secret:
        yield from (invalid_value(f"{path}.secretName", secret, why) for why in dns_subdomain(secret))


def _reference(ref: JsonObject, path: str) -> Iterator[FieldError]:
    group = ref.get("apiGroup")
    if group is not None:
        yield from (invalid_value(f"{path}.apiGroup", group, why) for why in dns_subdomain(group))
    for key in ("kind", "name"):
        value = ref.get(key)
        if not value:
            yield required(f"{path}.{key}")
        else:
            yield from (invalid_value(f"{path}.{key}", value, why) for why in path_segment(value))


class IngressClassStrategy(Strategy):
    generation = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        def spec(one: JsonObject) -> JsonObject:
            return replaced(one, "parameters", lambda parameters: filled(parameters, {"scope": "Cluster"}))

        return replaced(obj, "spec", spec)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj.get("spec") or {}
        controller = spec.get("controller", "")
        found: list[FieldError] = []
        if len(controller) > _CONTROLLER_LIMIT:
            found.append(too_long("spec.controller", _CONTROLLER_LIMIT))
        found += domain_path_errors(controller, "spec.controller")
        if spec.get("parameters") is not None:
            found += _parameters(spec["parameters"], "spec.parameters")
        return found

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        before, after = old.get("spec") or {}, new.get("spec") or {}
        return immutable(before.get("controller"), after.get("controller"), "spec.controller")


def _parameters(ref: JsonObject, path: str) -> Iterator[FieldError]:
    yield from _reference(ref, path)
    scope, namespace = ref.get("scope"), ref.get("namespace")
    if scope is None:
        yield required(f"{path}.scope")
    elif scope not in _SCOPES:
        yield not_supported(f"{path}.scope", scope, _SCOPES)
    elif scope == "Cluster":
        if namespace is not None:
            yield forbidden_field(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")
    elif namespace is None:
        yield required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
    else:
        yield from (invalid_value(f"{path}.namespace", namespace, why) for why in dns_label(namespace))


class NetworkPolicyStrategy(Strategy):
    generation = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        def port(one: JsonObject) -> JsonObject:
            return filled(one, {"protocol": "TCP"})

        def rule(one: JsonObject) -> JsonObject:
            return replaced(one, "ports", each(port))

        def spec(one: JsonObject) -> JsonObject:
            for key in ("ingress", "egress"):
                one = replaced(one, key, each(rule))
            if one.get("policyTypes"):
                return one
            kinds = ["Ingress", "Egress"] if one.get("egress") else ["Ingress"]
            return {**one, "policyTypes": kinds}

        return replaced(obj, "spec", spec)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj.get("spec") or {}
        found = label_selector(spec.get("podSelector"), "spec.podSelector")
        for way, peers in (("ingress", "from"), ("egress", "to")):
            for at, rule in enumerate(spec.get(way) or ()):
                path = f"spec.{way}[{at}]"
                for number, port in enumerate(rule.get("ports") or ()):
                    found += _policy_port(port, f"{path}.ports[{number}]")
                for number, peer in enumerate(rule.get(peers) or ()):
                    found += _peer(peer, f"{path}.{peers}[{number}]")
        kinds = spec.get("policyTypes") or []
        if len(kinds) > 2:
            why = "may not specify more than two policyTypes"
            return [*found, invalid_value("spec.policyTypes", kinds, why)]
        known = ("Ingress", "Egress")
        found.extend(
            not_supported(f"spec.policyTypes[{at}]", kind, known)
            for at, kind in enumerate(kinds)
            if kind not in known
        )
        return found


def _policy_port(port: JsonObject, path: str) -> Iterator[FieldError]:
    protocol, number, end = port.get("protocol"), port.get("port"), port.get("endPort")
    if protocol is not None and protocol not in _PROTOCOLS:
        yield not_supported(f"{path}.protocol", protocol, _PROTOCOLS)
    if number is None:
        if end is not None:
            yield invalid_value(f"{path}.endPort", end, "may not be specified when `port` is not specified")
    elif isinstance(number, str):
        if end is not None:
            yield invalid_value(f"{path}.endPort", end, "may not be specified when `port` is non-numeric")
        yield from (invalid_value(f"{path}.port", number, why) for why in port_name(number))
    else:
        if not 0 < number < 65536:
            yield invalid_value(f"{path}.port", number, PORT_RANGE)
        if end is not None and end < number:
            yield invalid_value(f"{path}.endPort", end, "must be greater than or equal to `port`")
        if end is not None and not 0 < end < 65536:
            yield invalid_value(f"{path}.endPort", end, PORT_RANGE)


def _peer(peer: JsonObject, path: str) -> Iterator[FieldError]:
    given = [key for key in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(key) is not None]
    for key in ("podSelector", "namespaceSelector"):
        yield from label_selector(peer.get(key), f"{path}.{key}")
    if "ipBlock" in given:
        yield from _block(peer["ipBlock"], f"{path}.ipBlock")
    if not given:
        yield required(path, "must specify a peer")
    elif len(given) > 1 and "ipBlock" in given:
        yield forbidden_field(path, "may not specify both ipBlock and another peer")


def _block(block: JsonObject, path: str) -> Iterator[FieldError]:
    text = block.get("cidr", "")
    if not text:
        yield required(f"{path}.cidr")
        return
    yield from cidr_errors(text, f"{path}.cidr")
    whole = network(text)
    if whole is None:
        return
    for at, one in enumerate(block.get("except") or ()):
        where = f"{path}.except[{at}]"
        yield from cidr_errors(one, where)
        part = network(one)
        if part is None:
            continue
        inside = part.version == whole.version and part.network_address in whole
        if not inside or whole.prefixlen >= part.prefixlen:
            yield invalid_value(where, one, "must be a strict subset of `cidr`")
