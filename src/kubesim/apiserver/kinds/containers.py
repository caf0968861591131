"""What a container may look like: names, images, ports, environment, probes, resources, mounts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from kubesim.apiserver.kinds.amounts import container_resources
from kubesim.apiserver.kinds.mounts import devices, mounts
from kubesim.apiserver.kinds.pod_security import container_context
from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
    value_not_found,
)
from kubesim.schema.meta import config_key, dns_label, dns_subdomain, port_name, qualified_name

PORT_RANGE = "must be between 1 and 65535, inclusive"
_NEGATIVE = "must be greater than or equal to 0"
ONE_AT_A_TIME = "may not have more than one field specified at a time"
PROTOCOLS = ("SCTP", "TCP", "UDP")
_ENV_NAME = re.compile("[ -<>-~]+")
_ENV_RULE = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_HEADER = re.compile("[-A-Za-z0-9]+", re.ASCII)
_HEADER_RULE = (
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', "
    "regex used for validation is '[-A-Za-z0-9]+')"
)
_FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_KNOWN_PATHS = {*_FIELD_PATHS, "metadata.labels", "metadata.annotations", "spec.host"}
_SUBSCRIPT = re.compile(r"metadata\.(?:annotations|labels)\['(.+)'\]")
_RESOURCES = re.compile(r"(?:limits|requests)\.(?:cpu|memory|ephemeral-storage|hugepages-.+)", re.ASCII)
_ENV_SOURCES = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
_EPHEMERAL_FORBIDDEN = (
    "ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy",
)  # fmt: skip


def port_or_name(value: object, path: str) -> list[FieldError]:
    """A port by number or by name."""
    if isinstance(value, str):
        return [invalid_value(path, value, why) for why in port_name(value)]
    return port_number(value, path)


def port_number(value: Any, path: str) -> list[FieldError]:
    return [] if 0 < value < 65536 else [invalid_value(path, value, PORT_RANGE)]


def _ports(ports: list[JsonObject], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    names: set[str] = set()
    for at, port in enumerate(ports):
        here = f"{path}[{at}]"
        name = port.get("name")
        if name:
            wrong = port_name(name)
            found.extend(invalid_value(f"{here}.name", name, why) for why in wrong)
            if not wrong and name in names:
                found.append(duplicate(f"{here}.name", name))
            names.add(name)
        if port["containerPort"] == 0:
            found.append(required(f"{here}.containerPort"))
        else:
            found.extend(port_number(port["containerPort"], f"{here}.containerPort"))
        if port.get("hostPort"):
            found.extend(port_number(port["hostPort"], f"{here}.hostPort"))
        protocol = port.get("protocol", "")
        if not protocol:
            found.append(required(f"{here}.protocol"))
        elif protocol not in PROTOCOLS:
            found.append(not_supported(f"{here}.protocol", protocol, PROTOCOLS))
    return found


def field_reference(ref: JsonObject, path: str, *, whole_maps: bool = False) -> list[FieldError]:
    """A fieldRef of an environment variable or of a downward API volume."""
    field = ref["fieldPath"]
    if not ref.get("apiVersion"):
        return [required(f"{path}.apiVersion")]
    if not field:
        return [required(f"{path}.fieldPath")]
    subscript = _SUBSCRIPT.fullmatch(field)
    if subscript:
        return [
            invalid_value(f"{path}.fieldPath", field, why) for why in qualified_name(subscript[1].lower())
        ]
    if field not in _KNOWN_PATHS:
        why = f"error converting fieldPath: field label not supported: {field}"
        return [invalid_value(f"{path}.fieldPath", field, why)]
    allowed: tuple[str, ...] = _FIELD_PATHS
    if whole_maps:
        allowed = (
            "metadata.annotations",
            "metadata.labels",
            "metadata.name",
            "metadata.namespace",
            "metadata.uid",
        )
    return [] if field in allowed else [not_supported(f"{path}.fieldPath", field, allowed)]


def resource_reference(ref: JsonObject, path: str, *, volume: bool = False) -> list[FieldError]:
    if volume and not ref.get("containerName"):
        return [required(f"{path}.containerName")]
    resource = ref["resource"]
    if not resource:
        return [required(f"{path}.resource")]
    if not _RESOURCES.fullmatch(resource):
        known = [
            f"{kind}.{name}"
            for kind in ("limits", "requests")
            for name in ("cpu", "ephemeral-storage", "memory")
        ]
        return [not_supported(f"{path}.resource", resource, known)]
    return _divisor(ref.get("divisor"), resource, f"{path}.divisor")


_BYTES = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"
_SIZES = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}


def _divisor(divisor: Any, resource: str, path: str) -> list[FieldError]:
    """What the amount is counted in: units that are usual for the resource."""
    if divisor in (None, "0", 0):
        return []
    name = resource.partition(".")[2]
    if name == "cpu":
        wrong, why = (
            divisor not in ("1m", "1"),
            "only divisor's values 1m and 1 are supported with the cpu resource",
        )
    else:
        wrong = divisor not in _BYTES.split(", ")
        why = (
            f"only divisor's values {_BYTES} are supported with the {_SIZES.get(name, 'hugepages')} resource"
        )
    return [invalid_value(path, resource, why)] if wrong else []


def key_reference(ref: JsonObject, path: str) -> list[FieldError]:
    """A key of a ConfigMap or Secret."""
    found = [
        invalid_value(f"{path}.name", ref.get("name", ""), why) for why in dns_subdomain(ref.get("name", ""))
    ]
    if not ref["key"]:
        return [*found, required(f"{path}.key")]
    return found + [invalid_value(f"{path}.key", ref["key"], why) for why in config_key(ref["key"])]


def _value_from(variable: JsonObject, path: str) -> list[FieldError]:
    source = variable["valueFrom"]
    found: list[FieldError] = []
    if "fieldRef" in source:
        found += field_reference(source["fieldRef"], f"{path}.fieldRef")
    if "resourceFieldRef" in source:
        found += resource_reference(source["resourceFieldRef"], f"{path}.resourceFieldRef")
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            found += key_reference(source[kind], f"{path}.{kind}")
    if not source:
        found.append(invalid_value(path, "", f"must specify one of: {_ENV_SOURCES}"))
    elif variable.get("value"):
        found.append(invalid_value(path, "", "may not be specified when `value` is not empty"))
    elif len(source) > 1:
        found.append(invalid_value(path, "", ONE_AT_A_TIME))
    return found


def _environment(variables: list[JsonObject], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for at, variable in enumerate(variables):
        name = variable["name"]
        if not name:
            found.append(required(f"{path}[{at}].name"))
        elif not _ENV_NAME.fullmatch(name):
            found.append(invalid_value(f"{path}[{at}].name", name, _ENV_RULE))
        if "valueFrom" in variable:
            found += _value_from(variable, f"{path}[{at}].valueFrom")
    return found


def _env_from(sources: list[JsonObject], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for at, source in enumerate(sources):
        here = f"{path}[{at}]"
        prefix = source.get("prefix")
        if prefix and not _ENV_NAME.fullmatch(prefix):
            found.append(invalid_value(f"{here}.prefix", prefix, _ENV_RULE))
        kinds = [kind for kind in ("configMapRef", "secretRef") if kind in source]
        for kind in kinds:
            name = source[kind].get("name")
            if not name:
                found.append(required(f"{here}.{kind}.name"))
            else:
                found.extend(invalid_value(f"{here}.{kind}.name", name, why) for why in dns_subdomain(name))
        if not kinds:
            found.append(invalid_value(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(kinds) > 1:
            found.append(invalid_value(path, "", ONE_AT_A_TIME))
    return found


def _http_get(action: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    if not action.get("path"):
        found.append(required(f"{path}.path"))
    found += port_or_name(action["port"], f"{path}.port")
    if action.get("scheme") not in ("HTTP", "HTTPS"):
        found.append(not_supported(f"{path}.scheme", action.get("scheme", ""), ("HTTP", "HTTPS")))
    found.extend(
        invalid_value(f"{path}.httpHeaders", header["name"], _HEADER_RULE)
        for header in action.get("httpHeaders", ())
        if not _HEADER.fullmatch(header["name"])
    )
    return found


_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def _handler(handler: JsonObject, path: str, grace: int | None) -> list[FieldError]:
    found: list[FieldError] = []
    kinds = [kind for kind in _HANDLERS if kind in handler]
    why = "may not specify more than 1 handler type"
    found.extend(forbidden_field(f"{path}.{kind}", why) for kind in kinds[1:])
    if not kinds:
        return [required(path, "must specify a handler type")]
    kind, action = kinds[0], handler[kinds[0]]
    here = f"{path}.{kind}"
    if kind == "exec" and not action.get("command"):
        found.append(required(f"{here}.command"))
    elif kind == "httpGet":
        found += _http_get(action, here)
    elif kind == "tcpSocket":
        found += port_or_name(action["port"], f"{here}.port")
    elif kind == "grpc":
        found += port_number(action["port"], f"{here}.port")
    elif kind == "sleep" and grace is not None and not 0 <= action["seconds"] <= grace:
        why = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        found.append(invalid_value(here, action["seconds"], why))
    return found


_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def _probe(container: JsonObject, name: str, path: str) -> list[FieldError]:
    probe = container.get(name)
    if probe is None:
        return []
    here = f"{path}.{name}"
    found = _handler(probe, here, None)
    for count in _COUNTS:
        if probe.get(count, 0) < 0:
            found.append(invalid_value(f"{here}.{count}", probe[count], _NEGATIVE))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None:
        if name == "readinessProbe":
            why = "must not be set for readinessProbes"
            found.append(invalid_value(f"{here}.terminationGracePeriodSeconds", grace, why))
        elif grace <= 0:
            found.append(
                invalid_value(f"{here}.terminationGracePeriodSeconds", grace, "must be greater than 0")
            )
    if name != "readinessProbe" and probe.get("successThreshold", 1) not in (0, 1):
        found.append(invalid_value(f"{here}.successThreshold", probe["successThreshold"], "must be 1"))
    return found


def _lifecycle(lifecycle: JsonObject, path: str, grace: int | None) -> list[FieldError]:
    found: list[FieldError] = []
    for hook in ("postStart", "preStop"):
        if hook in lifecycle:
            found += _handler(lifecycle[hook], f"{path}.{hook}", grace)
    return found


def _resize_policy(container: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    seen: set[str] = set()
    for at, one in enumerate(container.get("resizePolicy", ())):
        name, policy = one["resourceName"], one["restartPolicy"]
        if name in seen:
            found.append(duplicate(f"{path}[{at}]", name))
        seen.add(name)
        for value, known in ((name, ("cpu", "memory")), (policy, ("NotRequired", "RestartContainer"))):
            if not value:
                found.append(required(path))
            elif value not in known:
                found.append(not_supported(path, value, known))
    return found


def _common(container: JsonObject, volumes: Mapping[str, JsonObject], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    name, image = container["name"], container.get("image", "")
    if not name:
        found.append(required(f"{path}.name"))
    else:
        found.extend(invalid_value(f"{path}.name", name, why) for why in dns_label(name))
    if image != image.strip():
        found.append(invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace"))
    for key, supported in (
        ("terminationMessagePolicy", ("FallbackToLogsOnError", "File")),
        ("imagePullPolicy", ("Always", "IfNotPresent", "Never")),
    ):
        value = container.get(key, "")
        if not value:
            found.append(required(f"{path}.{key}"))
        elif value not in supported:
            found.append(not_supported(f"{path}.{key}", value, supported))
    if "env" in container:
        found += _environment(container["env"], f"{path}.env")
    if "envFrom" in container:
        found += _env_from(container["envFrom"], f"{path}.envFrom")
    found += mounts(container, volumes, path) + devices(container, volumes, path)
    found += _resize_policy(container, f"{path}.resizePolicy")
    if container.get("resources"):
        found += container_resources(container["resources"], f"{path}.resources")
    if container.get("securityContext"):
        found += container_context(container["securityContext"], f"{path}.securityContext")
    return found


def _running(container: JsonObject, path: str, grace: int | None) -> list[FieldError]:
    """What containers that run beside each other may have."""
    found: list[FieldError] = []
    if "ports" in container:
        found += _ports(container["ports"], f"{path}.ports")
    if "lifecycle" in container:
        found += _lifecycle(container["lifecycle"], f"{path}.lifecycle", grace)
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        found += _probe(container, probe, path)
    return found


def containers(
    listed: list[JsonObject],
    volumes: Mapping[str, JsonObject],
    path: str,
    taken: Collection[str] = (),
    grace: int | None = None,
) -> list[FieldError]:
    """The containers of a pod; `taken` are names that are in use elsewhere in it."""
    found: list[FieldError] = []
    names = set(taken)
    for at, one in enumerate(listed):
        here = f"{path}[{at}]"
        found += _common(one, volumes, here)
        if not one.get("image"):
            found.append(required(f"{here}.image"))
        if one["name"]:
            if one["name"] in names:
                found.append(duplicate(f"{here}.name", one["name"]))
            names.add(one["name"])
        found += _running(one, here, grace)
    return found


def init_containers(
    listed: list[JsonObject],
    volumes: Mapping[str, JsonObject],
    path: str,
    taken: Collection[str],
    grace: int | None = None,
) -> list[FieldError]:
    """Init containers; only those that go on running (sidecars) may have probes and hooks."""
    found = containers(listed, volumes, path, taken, grace)
    for at, one in enumerate(listed):
        here = f"{path}[{at}]"
        policy = one.get("restartPolicy")
        if policy is not None and policy not in ("Always", "OnFailure", "Never"):
            found.append(not_supported(f"{here}.restartPolicy", policy, ("Always",)))
        if policy == "Always":
            continue
        why = "may not be set for init containers without restartPolicy=Always"
        found.extend(
            forbidden_field(f"{here}.{key}", why)
            for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
            if one.get(key) is not None
        )
    return found


def ephemeral_containers(
    listed: list[JsonObject],
    volumes: Mapping[str, JsonObject],
    path: str,
    taken: Collection[str],
) -> list[FieldError]:
    """Containers for debugging, that are added to a pod while it runs."""
    found: list[FieldError] = []
    names = set(taken)
    for at, one in enumerate(listed):
        here = f"{path}[{at}]"
        found += _common(one, volumes, here)
        if not one.get("image"):
            found.append(required(f"{here}.image"))
        if one["name"] in names:
            found.append(duplicate(f"{here}.name", one["name"]))
        names.add(one["name"])
        target = one.get("targetContainerName")
        if target and target not in taken:
            found.append(value_not_found(f"{here}.targetContainerName", target))
        why = "cannot be set for an Ephemeral Container"
        found.extend(forbidden_field(f"{here}.{key}", why) for key in _EPHEMERAL_FORBIDDEN if one.get(key))
        if one.get("resources"):
            found.append(forbidden_field(f"{here}.resources", why))
        found.extend(
            forbidden_field(f"{here}.volumeMounts[{number}].{key}", why)
            for number, mount in enumerate(one.get("volumeMounts", ()))
            for key in ("subPath", "subPathExpr")
            if mount.get(key)
        )
    return found
