"""HorizontalPodAutoscalers, in the form of v2: what metrics and behaviour may say, and what is filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kubesim.apiserver.kinds.amounts import container_name_errors
from kubesim.apiserver.kinds.base import Strategy, not_negative, put
from kubesim.apiserver.kinds.pod_defaults import filled, replaced
from kubesim.errors import (
    FieldError,
    JsonObject,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import dns_label, path_segment
from kubesim.schema.quantity import parse
from kubesim.schema.registry import ResourceType

_UTILIZATION = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}


_DOUBLE = {"type": "Percent", "value": 100, "periodSeconds": 15}
_RULES: dict[str, JsonObject] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, _DOUBLE],
    },
    "scaleDown": {"selectPolicy": "Max", "policies": [_DOUBLE]},
}
"""What a behavior that says something has for the rest."""


class AutoscalerStrategy(Strategy):
    """HorizontalPodAutoscaler, in the form of v2."""

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        constants: JsonObject = {"minReplicas": 1}
        if rt.version == "v2":
            constants["metrics"] = [_UTILIZATION]
        made = replaced(obj, "spec", lambda spec: filled(spec, constants))
        behavior = made["spec"].get("behavior")
        if behavior is None:
            return made
        full = {way: filled(behavior.get(way) or {}, rules) for way, rules in _RULES.items()}
        return made if full == behavior else put(made, "spec", put(made["spec"], "behavior", full))

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found: list[FieldError] = []
        least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
        if least is not None and least < 1:
            found.append(invalid_value("spec.minReplicas", least, "must be greater than or equal to 1"))
        if most < 1:
            found.append(invalid_value("spec.maxReplicas", most, "must be greater than 0"))
        if least is not None and most < least:
            why = "must be greater than or equal to `minReplicas`"
            found.append(invalid_value("spec.maxReplicas", most, why))
        found += _target(spec["scaleTargetRef"], "spec.scaleTargetRef")
        metrics = spec.get("metrics") or []
        for at, metric in enumerate(metrics):
            found += _metric(metric, f"spec.metrics[{at}]")
        if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
            why = "must specify at least one Object or External metric to support scaling to zero replicas"
            found.append(forbidden_field("spec.metrics", why))
        for way, rules in (spec.get("behavior") or {}).items():
            found += _scaling(rules, f"spec.behavior.{way}")
        return found

    def validate_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        status = new.get("status") or {}
        found = not_negative(status.get("currentReplicas"), "status.currentReplicas")
        return found + not_negative(status.get("desiredReplicas"), "status.desiredReplicas")


def _target(ref: JsonObject, path: str) -> Iterator[FieldError]:
    """A reference to an object of any version."""
    for key in ("kind", "name"):
        value = ref.get(key)
        if not value:
            yield required(f"{path}.{key}")
        else:
            yield from (invalid_value(f"{path}.{key}", value, why) for why in path_segment(value))


_LONGEST_WINDOW, _LONGEST_PERIOD = 3600, 1800
_SELECT = ("Disabled", "Max", "Min")


def _scaling(rules: JsonObject, path: str) -> Iterator[FieldError]:
    window, select = rules.get("stabilizationWindowSeconds"), rules.get("selectPolicy")
    where = f"{path}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        yield invalid_value(where, window, "must be greater than or equal to zero")
    if window is not None and window > _LONGEST_WINDOW:
        yield invalid_value(where, window, f"must be less than or equal to {_LONGEST_WINDOW}")
    if select is not None and select not in _SELECT:
        yield not_supported(f"{path}.selectPolicy", select, _SELECT)
    if not rules.get("policies"):
        yield required(f"{path}.policies", "must specify at least one Policy")
    for at, policy in enumerate(rules.get("policies") or ()):
        yield from _scaling_policy(policy, f"{path}.policies[{at}]")


def _scaling_policy(policy: JsonObject, path: str) -> Iterator[FieldError]:
    kind, period = policy.get("type", ""), policy.get("periodSeconds", 0)
    if kind not in ("Pods", "Percent"):
        yield not_supported(f"{path}.type", kind, ("Percent", "Pods"))
    for key in ("value", "periodSeconds"):
        if policy.get(key, 0) <= 0:
            yield invalid_value(f"{path}.{key}", policy.get(key, 0), "must be greater than zero")
    if period > _LONGEST_PERIOD:
        why = f"must be less than or equal to {_LONGEST_PERIOD}"
        yield invalid_value(f"{path}.periodSeconds", period, why)


_MISSING = "must populate information for the given metric source"
_SURPLUS = "must populate the given metric source only"
_BOTH = "may not set both a target raw value and a target utilization"
_NEITHER = "must set either a target raw value or a target utilization"


def _metric(metric: JsonObject, path: str) -> Iterator[FieldError]:
    kind = metric.get("type", "")
    given = [key for key in _SOURCES if metric.get(key) is not None]
    if not kind:
        yield required(f"{path}.type", "must specify a metric source type")
    wanted = kind[:1].lower() + kind[1:]
    if wanted not in _SOURCES:
        yield not_supported(f"{path}.type", kind, _TYPES)
    elif wanted not in given:
        yield required(f"{path}.{wanted}", _MISSING)
    if given:
        yield from _SOURCES[given[0]](metric[given[0]], f"{path}.{given[0]}")
    if len(given) > 1:
        yield from (forbidden_field(f"{path}.{key}", _SURPLUS) for key in given if key != wanted)


def _named(metric: JsonObject, path: str) -> Iterator[FieldError]:
    name = metric.get("name")
    if not name:
        yield required(f"{path}.name", "must specify a metric name")
    else:
        yield from (invalid_value(f"{path}.name", name, why) for why in path_segment(name))


def _amount(target: JsonObject, path: str) -> Iterator[FieldError]:
    kind = target.get("type", "")
    if not kind:
        yield required(f"{path}.type", "must specify a metric target type")
    if kind not in ("Utilization", "Value", "AverageValue"):
        yield invalid_value(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue")
    for key in ("value", "averageValue"):
        if target.get(key) is not None and parse(target[key]).nanos <= 0:
            yield invalid_value(f"{path}.{key}", target[key], "must be positive")
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        yield invalid_value(f"{path}.averageUtilization", share, "must be greater than 0")


def _object(source: JsonObject, path: str) -> Iterator[FieldError]:
    target = source.get("target") or {}
    yield from _target(source.get("describedObject") or {}, f"{path}.describedObject")
    yield from _named(source.get("metric") or {}, f"{path}.metric")
    yield from _amount(target, f"{path}.target")
    if target.get("value") is None and target.get("averageValue") is None:
        yield required(f"{path}.target.averageValue", "must set either a target value or averageValue")


def _external(source: JsonObject, path: str) -> Iterator[FieldError]:
    target = source.get("target") or {}
    yield from _named(source.get("metric") or {}, f"{path}.metric")
    yield from _amount(target, f"{path}.target")
    given = [key for key in ("value", "averageValue") if target.get(key) is not None]
    if not given:
        why = "must set either a target value for metric or a per-pod target"
        yield required(f"{path}.target.averageValue", why)
    if len(given) == 2:
        why = "may not set both a target value for metric and a per-pod target"
        yield forbidden_field(f"{path}.target.value", why)


def _pods(source: JsonObject, path: str) -> Iterator[FieldError]:
    target = source.get("target") or {}
    yield from _named(source.get("metric") or {}, f"{path}.metric")
    yield from _amount(target, f"{path}.target")
    if target.get("averageValue") is None:
        yield required(f"{path}.target.averageValue", "must specify a positive target averageValue")


def _resource(source: JsonObject, path: str) -> Iterator[FieldError]:
    target = source.get("target") or {}
    if not source.get("name"):
        yield required(f"{path}.name", "must specify a resource name")
    yield from _amount(target, f"{path}.target")
    given = [key for key in ("averageUtilization", "averageValue") if target.get(key) is not None]
    if not given:
        yield required(f"{path}.target.averageUtilization", _NEITHER)
    if len(given) == 2:
        yield forbidden_field(f"{path}.target.averageValue", _BOTH)


def _container_resource(source: JsonObject, path: str) -> Iterator[FieldError]:
    name, container = source.get("name"), source.get("container")
    if name:
        yield from container_name_errors(name, f"{path}.name")
    if not container:
        yield required(f"{path}.container", "must specify a container")
    else:
        yield from (invalid_value(f"{path}.container", container, why) for why in dns_label(container))
    yield from _resource(source, path)


_SOURCES: dict[str, Callable[[Any, str], Iterator[FieldError]]] = {
    "object": _object,
    "external": _external,
    "pods": _pods,
    "resource": _resource,
    "containerResource": _container_resource,
}
_TYPES = ("ContainerResource", "External", "Object", "Pods", "Resource")
