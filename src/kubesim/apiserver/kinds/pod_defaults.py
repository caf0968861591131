"""What the real server fills into a pod, or into the pod template of a workload.

Everything returns its argument when there is nothing to fill in, so that an update of a stored pod costs a walk and
no copies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from kubesim.apiserver.kinds.podtotals import of_containers, of_pods
from kubesim.errors import JsonObject
from kubesim.schema.quantity import parse

_IMAGE = re.compile(
    r"(?:(?:[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?)*(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?P<digest>@[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_MODE = 420
TOKEN_SECONDS = 3600


def filled(obj: JsonObject, values: Mapping[str, Any]) -> JsonObject:
    """The object with the members that it lacks."""
    missing = {key: value for key, value in values.items() if obj.get(key) is None}
    return {**obj, **missing} if missing else obj


def replaced(obj: JsonObject, key: str, change: Callable[[Any], Any]) -> JsonObject:
    """The object with a member changed, if it has it."""
    value = obj.get(key)
    if value is None:
        return obj
    made = change(value)
    return obj if made is value else {**obj, key: made}


def each(change: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    """A change of one element as a change of a list."""

    def change_all(values: list[Any]) -> list[Any]:
        made = [change(one) for one in values]
        return made if any(new is not old for new, old in zip(made, values, strict=True)) else values

    return change_all


def pull_policy(image: str) -> str:
    """Always for an image that is, or is taken as, `latest`."""
    found = _IMAGE.fullmatch(image)
    if found is None:
        return "IfNotPresent"
    latest = found["tag"] == "latest" or (found["tag"] is None and found["digest"] is None)
    return "Always" if latest else "IfNotPresent"


def _http_get(action: JsonObject) -> JsonObject:
    return filled(action, {"path": "/", "scheme": "HTTP"})


def _grpc(action: JsonObject) -> JsonObject:
    return filled(action, {"service": ""})


def _probe(probe: JsonObject) -> JsonObject:
    return replaced(replaced(filled(probe, _PROBE), "httpGet", _http_get), "grpc", _grpc)


def _handler(handler: JsonObject) -> JsonObject:
    return replaced(handler, "httpGet", _http_get)


def _lifecycle(lifecycle: JsonObject) -> JsonObject:
    return replaced(replaced(lifecycle, "postStart", _handler), "preStop", _handler)


def field_ref(ref: JsonObject) -> JsonObject:
    return filled(ref, {"apiVersion": "v1"})


def _env(variable: JsonObject) -> JsonObject:
    return replaced(variable, "valueFrom", lambda source: replaced(source, "fieldRef", field_ref))


def _in_millis(amounts: JsonObject) -> JsonObject:
    rounded = {
        key: str(type(amount)(-(-amount.nanos // 1_000_000) * 1_000_000, amount.form))
        for key, text in amounts.items()
        if (amount := parse(text)).nanos % 1_000_000
    }
    return {**amounts, **rounded} if rounded else amounts


def resources(value: JsonObject) -> JsonObject:
    """Resource amounts are kept in thousandths."""
    return replaced(replaced(value, "limits", _in_millis), "requests", _in_millis)


def container(obj: JsonObject) -> JsonObject:
    """A container of any sort."""
    if "imagePullPolicy" not in obj:
        obj = {**obj, "imagePullPolicy": pull_policy(obj.get("image", ""))}
    obj = filled(obj, {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"})
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in obj:
            obj = replaced(obj, probe, _probe)
    if "lifecycle" in obj:
        obj = replaced(obj, "lifecycle", _lifecycle)
    if "env" in obj:
        obj = replaced(obj, "env", each(_env))
    return replaced(obj, "resources", resources)


def _downward_items(source: JsonObject) -> JsonObject:
    return replaced(source, "items", each(lambda item: replaced(item, "fieldRef", field_ref)))


def _with_mode(source: JsonObject) -> JsonObject:
    return filled(source, {"defaultMode": _MODE})


def _downward(source: JsonObject) -> JsonObject:
    return _downward_items(_with_mode(source))


def _token(source: JsonObject) -> JsonObject:
    return filled(source, {"expirationSeconds": TOKEN_SECONDS})


def _projection(source: JsonObject) -> JsonObject:
    return replaced(replaced(source, "serviceAccountToken", _token), "downwardAPI", _downward_items)


def _projected(source: JsonObject) -> JsonObject:
    return replaced(_with_mode(source), "sources", each(_projection))


def claim_spec(spec: JsonObject) -> JsonObject:
    """The spec of a PersistentVolumeClaim."""
    return filled(spec, {"volumeMode": "Filesystem"})


def _ephemeral(source: JsonObject) -> JsonObject:
    return replaced(source, "volumeClaimTemplate", lambda template: replaced(template, "spec", claim_spec))


_VOLUMES: dict[str, Callable[[JsonObject], JsonObject]] = {
    "secret": _with_mode,
    "configMap": _with_mode,
    "downwardAPI": _downward,
    "projected": _projected,
    "hostPath": lambda source: filled(source, {"type": ""}),
    "azureDisk": lambda source: filled(source, {"readOnly": False}),
    "ephemeral": _ephemeral,
    "image": lambda source: filled(source, {"pullPolicy": pull_policy(source.get("reference") or "")}),
}


def volume(obj: JsonObject) -> JsonObject:
    """A volume; one without a source is an emptyDir."""
    if len(obj) < 2:
        return {**obj, "emptyDir": {}}
    for source in obj:
        change = _VOLUMES.get(source)
        if change is not None:
            obj = replaced(obj, source, change)
    return obj


_POD_SPEC = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}
_containers = each(container)
_volumes = each(volume)


def pod_spec(spec: JsonObject) -> JsonObject:
    """What pods and pod templates have in common."""
    spec = filled(spec, _POD_SPEC)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account and (spec.get("serviceAccountName") != account or spec.get("serviceAccount") != account):
        spec = {**spec, "serviceAccountName": account, "serviceAccount": account}
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        spec = replaced(spec, kind, _containers)
    return replaced(spec, "volumes", _volumes)


def _requests_from_limits(obj: JsonObject) -> JsonObject:
    amounts = obj.get("resources") or {}
    limits = amounts.get("limits")
    if not limits:
        return obj
    requests = filled(amounts.get("requests") or {}, limits)
    if requests == amounts.get("requests"):
        return obj
    return {**obj, "resources": {**amounts, "requests": requests}}


def _host_ports(obj: JsonObject) -> JsonObject:
    def host_port(port: JsonObject) -> JsonObject:
        return port if port.get("hostPort") else {**port, "hostPort": port["containerPort"]}

    return replaced(obj, "ports", each(host_port))


def pod(spec: JsonObject) -> JsonObject:
    """The spec of a Pod: what templates do not get is added."""
    spec = pod_spec(spec)
    for kind in ("containers", "initContainers"):
        spec = replaced(spec, kind, each(_requests_from_limits))
        if spec.get("hostNetwork"):
            spec = replaced(spec, kind, each(_host_ports))
    if (spec.get("resources") or {}).get("limits"):
        spec = _whole_pod(spec)
    return filled(spec, {"enableServiceLinks": True})


def _whole_pod(spec: JsonObject) -> JsonObject:
    """What a pod as a whole requests, where it only says its limits: the sum of its containers, or the limits."""
    resources = spec["resources"]
    limits, sums = resources["limits"], of_containers(spec, "requests")
    wanted = {name: str(amount) for name, amount in sums.items() if of_pods(name)}
    wanted = filled(wanted, {name: text for name, text in limits.items() if of_pods(name)})
    requests = filled(resources.get("requests") or {}, wanted)
    if requests == resources.get("requests"):
        return spec
    return {**spec, "resources": {**resources, "requests": requests}}


def template(obj: JsonObject) -> JsonObject:
    """A pod template."""
    return replaced(obj, "spec", pod_spec)
