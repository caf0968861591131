"""Kinds that are one thing in the store and have two faces: Events in two groups, HorizontalPodAutoscalers in two
versions.

`to_storage` and `from_storage` are inverse to each other as far as both faces can say a thing; what the older one
cannot say goes into annotations, as the real server does. Everything else is stored as it is served.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubesim.errors import JsonObject
from kubesim.schema.decode import canonical_object
from kubesim.schema.registry import Registry, ResourceType
from kubesim.schema.types import type_of
from kubesim.schema.values import constant_defaults

_EVENT = (  # core, events.k8s.io
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
)
_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"


def storage_type(rt: ResourceType, registry: Registry) -> ResourceType:
    """The resource in whose form objects of `rt` are stored: mostly itself."""
    if (rt.group, rt.plural) == ("events.k8s.io", "events"):
        return registry.find("", "v1", "events") or rt
    if (rt.group, rt.version, rt.plural) == ("autoscaling", "v1", "horizontalpodautoscalers"):
        return registry.find("autoscaling", "v2", "horizontalpodautoscalers") or rt
    return rt


def to_storage(rt: ResourceType, obj: JsonObject) -> JsonObject:
    """An object of `rt` as it is stored."""
    if (rt.group, rt.plural) == ("events.k8s.io", "events"):
        return _renamed(obj, {new: old for old, new in _EVENT}, "v1")
    if (rt.group, rt.version, rt.plural) == ("autoscaling", "v1", "horizontalpodautoscalers"):
        return _hpa_to_v2(obj)
    return obj


def from_storage(rt: ResourceType, obj: JsonObject) -> JsonObject:
    """A stored object in the form of `rt`."""
    if rt.custom:
        made: JsonObject = constant_defaults(type_of(rt), canonical_object(rt, obj))
        return made
    if (rt.group, rt.plural) == ("events.k8s.io", "events"):
        event = _renamed(obj, dict(_EVENT), "events.k8s.io/v1")
        for key in ("reportingController", "reportingInstance"):
            if not event.get(key):
                event.pop(key, None)
        return canonical_object(rt, event)
    if (rt.group, rt.version, rt.plural) == ("autoscaling", "v1", "horizontalpodautoscalers"):
        return _hpa_to_v1(obj)
    return obj


def _renamed(obj: JsonObject, names: dict[str, str], api_version: str) -> JsonObject:
    made = {names.get(key, key): value for key, value in obj.items()}
    made["apiVersion"] = api_version
    if api_version == "v1":
        made.setdefault("reportingComponent", "")
        made.setdefault("reportingInstance", "")
    return made


def _utilization(metric: JsonObject) -> bool:
    source = metric.get("resource", {})
    return (
        metric.get("type") == "Resource"
        and source.get("name") == "cpu"
        and ((source.get("target") or source.get("current") or {}).get("averageUtilization") is not None)
    )


def _with_annotations(obj: JsonObject, changes: dict[str, Any]) -> JsonObject:
    annotations = dict(obj["metadata"].get("annotations") or {})
    for key, value in changes.items():
        if value:
            annotations[key] = orjson.dumps(value).decode()
        else:
            annotations.pop(key, None)
    meta = {key: value for key, value in obj["metadata"].items() if key != "annotations"}
    return {**obj, "metadata": meta | ({"annotations": annotations} if annotations else {})}


def _hpa_to_v1(obj: JsonObject) -> JsonObject:
    spec, status = dict(obj["spec"]), dict(obj.get("status") or {})
    metrics = spec.pop("metrics", None) or []
    behavior = spec.pop("behavior", None)
    current = status.pop("currentMetrics", None) or []
    conditions = status.pop("conditions", None) or []
    for metric in metrics:
        if _utilization(metric):
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
            break
    for metric in current:
        if _utilization(metric):
            status["currentCPUUtilizationPercentage"] = metric["resource"]["current"]["averageUtilization"]
            break
    rest = [metric for metric in metrics if not _utilization(metric)]
    annotated = _with_annotations(
        obj,
        {_METRICS: rest, _CURRENT: current, _CONDITIONS: conditions, _BEHAVIOR: behavior},
    )
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)
    return {**annotated, "apiVersion": "autoscaling/v1", "spec": spec, "status": status}


def _hpa_to_v2(obj: JsonObject) -> JsonObject:
    spec, status = dict(obj["spec"]), dict(obj.get("status") or {})
    annotations = obj["metadata"].get("annotations") or {}

    def annotated(key: str) -> Any:
        return orjson.loads(annotations[key]) if key in annotations else None

    metrics = annotated(_METRICS) or []
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    if percentage is not None:
        target = {"type": "Utilization", "averageUtilization": percentage}
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}, *metrics]
    if metrics:
        spec["metrics"] = metrics
    behavior = annotated(_BEHAVIOR)
    if behavior:
        spec["behavior"] = behavior
    status.pop("currentCPUUtilizationPercentage", None)
    status["currentMetrics"] = annotated(_CURRENT)
    conditions = annotated(_CONDITIONS)
    if conditions:
        status["conditions"] = conditions
    status.setdefault("desiredReplicas", 0)
    cleared = _with_annotations(obj, {_METRICS: None, _CURRENT: None, _CONDITIONS: None, _BEHAVIOR: None})
    return {**cleared, "apiVersion": "autoscaling/v2", "spec": spec, "status": status}
