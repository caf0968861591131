"""metrics.k8s.io: what pods and nodes use, as `kubectl top` and autoscalers ask for it.

The group is served when there is something to measure: a process node, or a pod that says what it pretends to use
(the annotations `kwok.x-k8s.io/usage-cpu` and `kwok.x-k8s.io/usage-memory` of simulations). Nothing of it is stored;
a pod without figures is not in the answer, as with the real metrics server.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kubesim import errors
from kubesim.apiserver.calls import Call
from kubesim.apiserver.core import Core
from kubesim.apiserver.negotiation import wanted
from kubesim.apiserver.nodes import ContainerUsage, NodeUsage
from kubesim.apiserver.rendering import document
from kubesim.apiserver.requests import JsonObject, Reply
from kubesim.apiserver.selectors import LabelSelector, parse_field_selector, parse_label_selector
from kubesim.schema.quantity import parse
from kubesim.schema.registry import Registry, ResourceType

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
CPU, MEMORY = "kwok.x-k8s.io/usage-cpu", "kwok.x-k8s.io/usage-memory"
_WINDOW = 15.0


def serve(registry: Registry) -> None:
    """Add the group to what is served."""
    if registry.has(GROUP):
        return
    for plural, kind, namespaced in (("nodes", "NodeMetrics", False), ("pods", "PodMetrics", True)):
        registry.add(
            ResourceType(
                group=GROUP,
                version=VERSION,
                plural=plural,
                singular="",
                kind=kind,
                namespaced=namespaced,
                verbs=frozenset(("get", "list")),
            )
        )


def pretends(pod: JsonObject) -> bool:
    """Whether the pod says what it pretends to use."""
    annotations = pod["metadata"].get("annotations") or {}
    return CPU in annotations or MEMORY in annotations


async def get(core: Core, call: Call) -> Reply:
    """The metrics of one pod or node."""
    found = [one for one in _all(core, call) if one["metadata"]["name"] == call.name]
    if not found:
        raise errors.not_found(call.rt.group_resource, call.name)
    return _answer(call, {"kind": call.rt.kind, "apiVersion": f"{GROUP}/{VERSION}", **found[0]})


async def list_(core: Core, call: Call) -> Reply:
    """The metrics of all that selectors take."""
    query = call.request.query
    labels = LabelSelector()
    if query.has("labelSelector"):
        labels = parse_label_selector(query.get("labelSelector"))
    items = [one for one in _all(core, call) if labels.matches(one["metadata"].get("labels") or {})]
    if query.has("fieldSelector"):
        fields = parse_field_selector(query.get("fieldSelector"), call.rt)
        items = [one for one in items if fields.matches_object(call.rt, one)]
    made = {"kind": f"{call.rt.kind}List", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}
    return _answer(call, made)


def _answer(call: Call, made: JsonObject) -> Reply:
    return document(made, wanted(call.request.headers.get("accept", ""), forms=False))


def _all(core: Core, call: Call) -> list[JsonObject]:
    pods = [pod for pod in _objects(core, "pods") if _is_running(pod)]
    usages = {node: meter.usage() for node, meter in core.nodes.meters().items()}
    if call.rt.plural == "pods":
        namespace = call.route.namespace
        chosen = [pod for pod in pods if namespace in (None, pod["metadata"]["namespace"])]
        return [made for pod in chosen if (made := _pod(pod, usages)) is not None]
    return [made for node in _objects(core, "nodes") if (made := _node(node, pods, usages)) is not None]


def _objects(core: Core, plural: str) -> list[JsonObject]:
    found = []
    for stored in core.store.table(f"/{plural}").all():
        obj = core.lookup("", "v1", plural, stored.name)
        if obj is not None:
            found.append(obj)
    return found


def _is_running(pod: JsonObject) -> bool:
    state = (pod.get("status") or {}).get("phase")
    return bool(pod["spec"].get("nodeName")) and state == "Running"


def _pod(pod: JsonObject, usages: Mapping[str, NodeUsage | None]) -> JsonObject | None:
    metadata = pod["metadata"]
    names = [one["name"] for one in pod["spec"]["containers"]]
    usage = usages.get(pod["spec"]["nodeName"])
    containers: list[JsonObject] = []
    at, window = time.time(), _WINDOW
    if pretends(pod):
        share = _pretended(pod)
        containers = [
            {"name": name, "usage": _shown(share if not at_ else None)} for at_, name in enumerate(names)
        ]
    elif usage is not None:
        at, window = usage.at, usage.window
        measured = [(name, usage.containers.get((metadata["uid"], name))) for name in names]
        containers = [{"name": name, "usage": _shown(one)} for name, one in measured if one is not None]
    if not containers:
        return None
    kept = {key: metadata[key] for key in ("name", "namespace", "labels") if key in metadata}
    return _metrics(kept, at, window, {"containers": containers})


def _node(
    node: JsonObject, pods: list[JsonObject], usages: Mapping[str, NodeUsage | None]
) -> JsonObject | None:
    metadata = node["metadata"]
    usage = usages.get(metadata["name"])
    at, window = time.time(), _WINDOW
    if usage is not None:
        at, window, total = usage.at, usage.window, usage.machine
    else:
        mine = [
            _pretended(pod) for pod in pods if pod["spec"]["nodeName"] == metadata["name"] and pretends(pod)
        ]
        if not mine:
            return None
        total = ContainerUsage(cpu=sum(one.cpu for one in mine), memory=sum(one.memory for one in mine))
    kept = {key: metadata[key] for key in ("name", "labels") if key in metadata}
    return _metrics(kept, at, window, {"usage": _shown(total)})


def _metrics(metadata: JsonObject, at: float, window: float, more: JsonObject) -> JsonObject:
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {**metadata, "creationTimestamp": moment},
        "timestamp": moment,
        "window": f"{window:.3f}s",
        **more,
    }


def _pretended(pod: JsonObject) -> ContainerUsage:
    """What the annotations say, or nothing where they cannot be read."""
    annotations: Mapping[str, Any] = pod["metadata"].get("annotations") or {}

    def amount(key: str) -> int:
        try:
            return parse(str(annotations.get(key, "0"))).nanos
        except ValueError:
            return 0

    return ContainerUsage(cpu=amount(CPU), memory=amount(MEMORY) // 10**9)


def _shown(usage: ContainerUsage | None) -> JsonObject:
    """As the metrics server writes amounts."""
    if usage is None:
        return {"cpu": "0", "memory": "0"}
    return {"cpu": f"{usage.cpu}n" if usage.cpu else "0", "memory": f"{usage.memory // 1024}Ki"}
