"""Which pods stand behind a Service, and how Endpoints and EndpointSlices say so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kubesim.apiserver.selectors import LabelSelector, from_object
from kubesim.controllers.objects import annotations_of, deleting, finished, labels_of, phase, ready, status_of
from kubewire.informer import Object

NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SLICE_MANAGER = "endpointslice-controller.k8s.io"
ENDPOINTS_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
ENDPOINTS_MANAGER = "endpoint-controller"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
ZONE = "topology.kubernetes.io/zone"
PER_SLICE = 100
MOST_ADDRESSES = 1000

Port = tuple[str, int | None, str, str]  # name, number, protocol, application protocol


def selector_of(service: Object) -> LabelSelector | None:
    """The pods that a service wants; None when it is not ours to find them."""
    spec = service["spec"]
    if not spec.get("selector") or spec.get("type") == "ExternalName":
        return None
    return from_object({"matchLabels": spec["selector"]})


def families_of(service: Object) -> list[str]:
    """`IPv4`, `IPv6`: one set of slices each."""
    return list(service["spec"].get("ipFamilies") or ["IPv4"])


def headless(service: Object) -> bool:
    """Whether the service has no address of its own."""
    return bool(service["spec"].get("clusterIP") == "None")


def address_of(pod: Object, family: str) -> str | None:
    """The pod's address in a family."""
    status = status_of(pod)
    found = [one["ip"] for one in status.get("podIPs") or () if one.get("ip")]
    if not found and status.get("podIP"):
        found = [status["podIP"]]
    return next((one for one in found if (":" in one) == (family == "IPv6")), None)


def included(pod: Object, family: str, *, leaving: bool) -> bool:
    """Whether the pod is an endpoint at all."""
    return not finished(pod) and address_of(pod, family) is not None and (leaving or not deleting(pod))


def ports_of(service: Object, pod: Object) -> tuple[Port, ...]:
    """The ports of the service on this pod: what is named is looked up in its containers."""
    found: list[Port] = []
    for one in service["spec"].get("ports") or ():
        protocol = one.get("protocol", "TCP")
        number = _number(one, protocol, pod)
        if number is not None:
            found.append((one.get("name", ""), number, protocol, one.get("appProtocol", "")))
    return tuple(found)


def _number(port: Mapping[str, Any], protocol: str, pod: Object) -> int | None:
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target or int(port["port"])
    restartable = [
        one for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"
    ]
    for container in [*pod["spec"]["containers"], *restartable]:
        for one in container.get("ports") or ():
            if one.get("name") == target and one.get("protocol", "TCP") == protocol:
                return int(one["containerPort"])
    return None


def endpoint(service: Object, pod: Object, node: Object | None, family: str) -> Object:
    """A pod as an entry of a slice."""
    serving, leaving = ready(pod), deleting(pod)
    all_of_them = bool(service["spec"].get("publishNotReadyAddresses"))
    made: Object = {
        "addresses": [address_of(pod, family)],
        "conditions": {
            "ready": all_of_them or (serving and not leaving),
            "serving": serving,
            "terminating": leaving,
        },
        "targetRef": _reference(pod),
    }
    if pod["spec"].get("nodeName"):
        made["nodeName"] = pod["spec"]["nodeName"]
    zone = labels_of(node).get(ZONE) if node is not None else None
    if zone:
        made["zone"] = zone
    if _by_host_name(service, pod):
        made["hostname"] = pod["spec"]["hostname"]
    return made


def _by_host_name(service: Object, pod: Object) -> bool:
    spec, metadata = pod["spec"], service["metadata"]
    return bool(spec.get("hostname")) and spec.get("subdomain") == metadata["name"]


def _reference(pod: Object) -> Object:
    about = pod["metadata"]
    return {"kind": "Pod", "namespace": about["namespace"], "name": about["name"], "uid": about["uid"]}


def slices(
    service: Object, pods: Iterable[Object], nodes: Mapping[str, Object], family: str
) -> list[tuple[tuple[Port, ...], list[Object]]]:
    """The endpoints of one family, by the ports that they share."""
    groups: dict[tuple[Port, ...], list[Object]] = {}
    for pod in sorted(pods, key=lambda one: str(one["metadata"]["name"])):
        node = nodes.get(pod["spec"].get("nodeName", ""))
        if not included(pod, family, leaving=True) or node is None:
            continue
        groups.setdefault(ports_of(service, pod), []).append(endpoint(service, pod, node, family))
    if not groups:
        groups[()] = []
    return sorted(groups.items(), key=lambda one: str(one[0]))


def slice_ports(ports: Iterable[Port]) -> list[Object]:
    """Ports as a slice has them."""
    made = []
    for name, number, protocol, application in ports:
        port: Object = {"name": name, "port": number, "protocol": protocol}
        if application:
            port["appProtocol"] = application
        made.append(port)
    return made


def slice_labels(service: Object) -> dict[str, str]:
    """The service's labels and those by which its slices are found."""
    reserved = (NAME, MANAGED_BY, HEADLESS)
    own = {key: value for key, value in labels_of(service).items() if key not in reserved}
    marks = {NAME: service["metadata"]["name"], MANAGED_BY: SLICE_MANAGER}
    return {**own, **marks, **({HEADLESS: ""} if headless(service) else {})}


def packed(
    wanted: list[Object], existing: list[Object]
) -> tuple[list[tuple[Object, list[Object]]], list[list[Object]]]:
    """Where endpoints go: slices with what they are to hold, and contents of new ones.

    Slices of `existing` that are not in the answer are needed no more. What a slice
    holds already stays in it, so that one pod's change touches one slice.
    """
    by_key = {_identity(one): one for one in wanted}
    left = dict(by_key)
    kept: list[tuple[Object, list[Object]]] = []
    for one in existing:
        held = []
        for entry in one.get("endpoints") or ():
            found = left.pop(_identity(entry), None)
            if found is not None:
                held.append(found)
        kept.append((one, held))
    rest = list(left.values())
    for _, held in kept:
        while rest and len(held) < PER_SLICE and (held or len(kept) == 1):
            held.append(rest.pop(0))
    for _, held in kept:
        while rest and not held:
            held += rest[:PER_SLICE]
            del rest[: len(held)]
    new = [rest[at : at + PER_SLICE] for at in range(0, len(rest), PER_SLICE)]
    full = [pair for pair in kept if pair[1]]
    if not full and not new:  # one slice says that there is nothing
        return kept[:1], [] if kept else [[]]
    return full, new


def _identity(entry: Object) -> str:
    return str((entry.get("targetRef") or {}).get("uid") or entry["addresses"])


def subsets(service: Object, pods: Iterable[Object]) -> list[Object]:
    """What Endpoints say: addresses with the same ports together, ready ones and others apart."""
    family = families_of(service)[0]
    all_of_them = bool(service["spec"].get("publishNotReadyAddresses"))
    by_port: dict[Port | None, dict[str, tuple[bool, Object]]] = {}
    for pod in pods:
        if not included(pod, family, leaving=all_of_them):
            continue
        is_ready = all_of_them or ready(pod)
        if not is_ready and not _may_become_ready(pod):
            continue
        address = _address(service, pod, family)
        ports: Iterable[Port | None] = ports_of(service, pod)
        if not service["spec"].get("ports") and headless(service):
            ports = (None,)
        for port in ports:
            by_port.setdefault(port, {})[str(pod["metadata"]["uid"])] = (is_ready, address)
    groups: dict[tuple[tuple[str, bool], ...], list[Port | None]] = {}
    for wanted, members in by_port.items():
        groups.setdefault(tuple(sorted((uid, one[0]) for uid, one in members.items())), []).append(wanted)
    made = [_subset(group, by_port[group[0]].values()) for group in groups.values()]
    return sorted(made, key=lambda one: str(one.get("ports")))


def _may_become_ready(pod: Object) -> bool:
    policy = pod["spec"].get("restartPolicy", "Always")
    if policy == "Never":
        return phase(pod) not in ("Failed", "Succeeded")
    return policy != "OnFailure" or phase(pod) != "Succeeded"


def _address(service: Object, pod: Object, family: str) -> Object:
    made: Object = {"ip": address_of(pod, family), "targetRef": _reference(pod)}
    if pod["spec"].get("nodeName"):
        made["nodeName"] = pod["spec"]["nodeName"]
    if _by_host_name(service, pod):
        made["hostname"] = pod["spec"]["hostname"]
    return made


def _subset(ports: list[Port | None], members: Iterable[tuple[bool, Object]]) -> Object:
    ordered = sorted(members, key=lambda one: str(one[1]["ip"]))
    groups = {
        "addresses": [address for is_ready, address in ordered if is_ready],
        "notReadyAddresses": [address for is_ready, address in ordered if not is_ready],
        "ports": [_without_empty(one) for one in slice_ports(one for one in ports if one is not None)],
    }
    return {name: value for name, value in groups.items() if value}


def _without_empty(port: Object) -> Object:
    return {key: value for key, value in port.items() if value != ""}


def truncated(found: list[Object]) -> tuple[list[Object], bool]:
    """Endpoints hold a thousand addresses at most; ready ones first."""
    total = sum(len(one.get(name, ())) for one in found for name in ("addresses", "notReadyAddresses"))
    if total <= MOST_ADDRESSES:
        return found, False
    left, made = MOST_ADDRESSES, [dict(one) for one in found]
    for name in ("addresses", "notReadyAddresses"):
        for one in made:
            one[name] = one.get(name, [])[:left]
            left -= len(one[name])
    return [{key: value for key, value in one.items() if value} for one in made], True


def endpoints_labels(service: Object) -> dict[str, str]:
    """The labels of Endpoints."""
    own = {**labels_of(service), ENDPOINTS_MANAGED_BY: ENDPOINTS_MANAGER}
    return {**own, **({HEADLESS: ""} if headless(service) else {})}


def trigger_time(pods: Iterable[Object]) -> str | None:
    """When what is said changed last: the newest change of readiness."""
    times = [
        one["lastTransitionTime"]
        for pod in pods
        for one in status_of(pod).get("conditions") or ()
        if one["type"] == "Ready" and one.get("lastTransitionTime")
    ]
    return max(times, default=None)


def with_annotation(obj: Object, name: str, value: str | None) -> dict[str, str]:
    """The object's annotations with one set, or without it."""
    found = {key: text for key, text in annotations_of(obj).items() if key != name}
    return found if value is None else {**found, name: value}
