"""The ports of a cluster: the Service and Ingress that open them, and where they can be reached. Pure.

They lead to the first node. A LoadBalancer gets its address from whoever runs the Kubernetes cluster, which takes a
while or for ever; until then the endpoint has a note and no address. Nothing is created for `podip` and `port-forward`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whimbrel.infra.base import ClusterSpec
from whimbrel.infra.kubernetes import pods
from whimbrel.infra.provision import Endpoint
from whimbrel.model.names import node_name

INGRESS_CLASS = "nginx"
_TYPES = {"loadbalancer": "LoadBalancer", "nodeport": "NodePort", "ingress": "ClusterIP"}


def objects(spec: ClusterSpec, namespace: str) -> list[tuple[str, dict[str, Any]]]:
    """What opens the ports, by kind."""
    made = []
    for kind in pods.port_kinds(spec):
        body = _service(spec) if kind == "Service" else _ingress(spec, namespace)
        made.append((kind, {**body, "metadata": _metadata(spec, namespace, body.get("metadata") or {})}))
    return made


def _metadata(spec: ClusterSpec, namespace: str, more: Mapping[str, Any]) -> dict[str, Any]:
    annotations = {**spec.provision.annotations, **more.get("annotations", {})}
    found = {"name": pods.ports_name(spec), "namespace": namespace, "labels": pods.labels(spec)}
    return {**found, "annotations": annotations} if annotations else found


def _service(spec: ClusterSpec) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "spec": {
            "type": _TYPES[spec.provision.port_mode],
            "selector": {pods.CLUSTER_UID: pods.label_value(spec.uid), pods.RANK: "0"},
            "ports": [
                {"name": f"port-{port}", "port": port, "targetPort": port, "protocol": "TCP"}
                for port in spec.provision.ports
            ],
        },
    }


def _ingress(spec: ClusterSpec, namespace: str) -> dict[str, Any]:
    name = pods.ports_name(spec)
    paths = [
        {
            "path": f"{path_of(spec, namespace, port)}(/|$)(.*)",
            "pathType": "ImplementationSpecific",
            "backend": {"service": {"name": name, "port": {"number": port}}},
        }
        for port in spec.provision.ports
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "annotations": {
                "nginx.ingress.kubernetes.io/use-regex": "true",
                "nginx.ingress.kubernetes.io/rewrite-target": "/$2",
            }
        },
        "spec": {"ingressClassName": INGRESS_CLASS, "rules": [{"http": {"paths": paths}}]},
    }


def path_of(spec: ClusterSpec, namespace: str, port: int) -> str:
    """The path under which an Ingress serves a port."""
    return f"/whimbrel/{namespace}/{pods.service_name(spec)}/{port}"


def endpoints(
    spec: ClusterSpec,
    context: str,
    namespace: str,
    pod: Mapping[str, Any] | None,
    others: Sequence[Mapping[str, Any]],
) -> list[Endpoint]:
    """Where each port is reached, from what was found of the cluster."""
    mode, ours = spec.provision.port_mode, pods.ports_name(spec)
    named = {obj["kind"]: obj for obj in others if obj["metadata"]["name"] == ours}
    if mode == "podip":
        ip = str(((pod or {}).get("status") or {}).get("podIP") or "")
        return [_at(port, ip, str(port), "the node has no address yet") for port in spec.provision.ports]
    if mode == "port-forward":
        return [_forwarded(spec, context, namespace, port) for port in spec.provision.ports]
    if mode == "nodeport":
        return _node_ports(spec, pod, named.get("Service"))
    kind = "Ingress" if mode == "ingress" else "Service"
    address, note = _balanced(named.get(kind), kind)
    if mode == "ingress":
        return [
            Endpoint(
                port=port,
                url=f"http://{address}{path_of(spec, namespace, port)}" if address else "",
                note=note,
            )
            for port in spec.provision.ports
        ]
    return [_at(port, address, str(port), note) for port in spec.provision.ports]


def _at(port: int, host: str, number: str, note: str) -> Endpoint:
    if not host or not number:
        return Endpoint(port=port, note=note)
    return Endpoint(port=port, url=f"[{host}]:{number}" if ":" in host else f"{host}:{number}")


def _forwarded(spec: ClusterSpec, context: str, namespace: str, port: int) -> Endpoint:
    pod = node_name(spec.name, spec.uid, 0)
    command = f"kubectl --context {context} -n {namespace} port-forward pod/{pod} {port}"
    return Endpoint(port=port, url=f"localhost:{port}", note=f"while this runs: {command}")


def _node_ports(
    spec: ClusterSpec, pod: Mapping[str, Any] | None, service: Mapping[str, Any] | None
) -> list[Endpoint]:
    host = str(((pod or {}).get("status") or {}).get("hostIP") or "")
    opened = {
        entry.get("port"): entry.get("nodePort")
        for entry in ((service or {}).get("spec") or {}).get("ports") or ()
    }
    note = "the service has no node port" if host else "the node has no machine yet"
    return [_at(port, host, str(opened.get(port) or ""), note) for port in spec.provision.ports]


def _balanced(obj: Mapping[str, Any] | None, kind: str) -> tuple[str, str]:
    if obj is None:
        return "", f"its {kind} is gone: launch again to open it"
    found = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    for entry in found:
        address = entry.get("ip") or entry.get("hostname")
        if address:
            return str(address), ""
    waits = "a load balancer" if kind == "Service" else "an ingress controller"
    return "", f"it has no address yet: {waits} has to be there and to give it one"
