"""Deployments, ReplicaSets, StatefulSets, DaemonSets, ReplicationControllers: defaults, rules, immutable selectors."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from kubesim.apiserver.kinds import pod_defaults, pod_rules
from kubesim.apiserver.kinds.base import Context, Strategy, immutable, not_negative, put, with_meta
from kubesim.apiserver.kinds.placement import label_selector
from kubesim.apiserver.kinds.pod_warnings import pod_warnings
from kubesim.apiserver.selectors import from_object
from kubesim.errors import (
    FieldError,
    JsonObject,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import dns_label
from kubesim.schema.registry import ResourceType

_PERCENT = re.compile("[0-9]+%", re.ASCII)
_PERCENT_RULE = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', "
    "regex used for validation is '[0-9]+%')"
)
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


def int_or_percent(value: Any, path: str, *, most: bool = False) -> list[FieldError]:
    """A number or a percentage, not negative, and with `most` not above 100 %."""
    if isinstance(value, int):
        return not_negative(value, path)
    if not _PERCENT.fullmatch(value):
        return [invalid_value(path, value, _PERCENT_RULE)]
    if most and int(value[:-1]) > 100:
        return [invalid_value(path, value, "must not be greater than 100%")]
    return []


def _is_zero(value: Any) -> bool:
    return value in (0, "0%")


def selector_and_template(
    spec: JsonObject, *, complete: bool = True, kind: str = "ReplicaSet", shown: str = "deployment"
) -> list[FieldError]:
    """The selector of a workload has to select the pods that its template makes.

    A template that is not `complete` gets more volumes later: it is checked as a pod then, as by the real server.
    """
    found: list[FieldError] = []
    selector, template = spec.get("selector"), spec["template"]
    if selector is None:
        found.append(required("spec.selector"))
    else:
        found += label_selector(selector, "spec.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            found.append(invalid_value("spec.selector", selector, f"empty selector is invalid for {shown}"))
    labels = (template.get("metadata") or {}).get("labels")
    if not any(error.field.startswith("spec.selector.") for error in found):
        compiled = from_object(selector)
        if not compiled.empty and not compiled.matches(labels or {}):
            why = "`selector` does not match template `labels`"
            found.append(invalid_value("spec.template.metadata.labels", labels, why))
    found += pod_rules.template(template, "spec.template", whole=complete)
    policy = template["spec"].get("restartPolicy")
    if policy in pod_rules.RESTART_POLICIES and policy != "Always":
        found.append(not_supported("spec.template.spec.restartPolicy", policy, ("Always",)))
    if template["spec"].get("activeDeadlineSeconds") is not None:
        why = f"activeDeadlineSeconds in {kind} is not Supported"
        found.append(forbidden_field("spec.template.spec.activeDeadlineSeconds", why))
    return found


def counts(spec: JsonObject, *names: str) -> list[FieldError]:
    """Numbers of a spec that must not be negative."""
    return [error for name in names for error in not_negative(spec.get(name), f"spec.{name}")]


class _Workload(Strategy):
    """What all of them share: a template, a selector that stays, a generation."""

    generation = True
    constants: ClassVar[JsonObject] = {}
    counted: ClassVar[tuple[str, ...]] = ()
    """The numbers of its status that are parts of its replicas."""
    at_most_ready: ClassVar[str] = "cannot be greater than readyReplicas"
    names_hosts: ClassVar[bool] = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        spec = pod_defaults.filled(obj["spec"], self.constants)
        spec = pod_defaults.replaced(spec, "template", pod_defaults.template)
        spec = self.filled(spec)
        return obj if spec is obj["spec"] else put(obj, "spec", spec)

    def filled(self, spec: JsonObject) -> JsonObject:
        return spec

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        return immutable(old["spec"].get("selector"), new["spec"].get("selector"), "spec.selector")

    def validate_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        return _status(new.get("status") or {}, self.counted, self.at_most_ready)

    def warnings(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject) -> list[str]:
        if old is not None and old["metadata"].get("generation") == obj["metadata"].get("generation"):
            return []
        template = obj["spec"].get("template") or {}
        found = host_name_warnings(obj) if old is None and self.names_hosts else []
        meta = template.get("metadata") or {}
        return found + pod_warnings(template.get("spec") or {}, meta, "spec.template")


def host_name_warnings(obj: JsonObject) -> list[str]:
    """Pods of a name that is no label have host names that are not their own."""
    wrong = dns_label(obj["metadata"].get("name", ""))
    if not wrong:
        return []
    why = "this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended"
    return [f"metadata.name: {why}: [{' '.join(wrong)}]"]


def _status(status: JsonObject, counted: tuple[str, ...], at_most_ready: str) -> list[FieldError]:
    """Numbers of a status: none is negative, and none counts more replicas than there are."""
    found: list[FieldError] = []
    for key, value in status.items():
        if isinstance(value, int) and not isinstance(value, bool):
            found += not_negative(value, f"status.{key}")
    total, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    found.extend(
        invalid_value(f"status.{key}", status.get(key, 0), "cannot be greater than status.replicas")
        for key in counted
        if status.get(key, 0) > total
    )
    available = status.get("availableReplicas", 0)
    if counted and available > ready:
        found.append(invalid_value("status.availableReplicas", available, at_most_ready))
    return found


class DeploymentStrategy(_Workload):
    """A write of the status cannot change labels, but can annotations: the controller writes the revision there."""

    constants: ClassVar[JsonObject] = {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }
    counted = ("updatedReplicas", "readyReplicas", "availableReplicas")

    def filled(self, spec: JsonObject) -> JsonObject:
        strategy = spec.get("strategy") or {}
        made = strategy if strategy.get("type") else {**strategy, "type": "RollingUpdate"}
        if made["type"] == "RollingUpdate":
            rolling = made.get("rollingUpdate") or {}
            full = pod_defaults.filled(rolling, {"maxUnavailable": "25%", "maxSurge": "25%"})
            if full is not rolling:
                made = {**made, "rollingUpdate": full}
        return spec if made is strategy else put(spec, "strategy", made)

    def changed(self, old: JsonObject, new: JsonObject) -> bool:
        before, after = old["metadata"].get("annotations"), new["metadata"].get("annotations")
        return bool(before != after) or super().changed(old, new)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found = counts(spec, "replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
        found += selector_and_template(spec) + self._strategy(spec["strategy"])
        deadline = spec.get("progressDeadlineSeconds")
        if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
            why = "must be greater than minReadySeconds"
            found.append(invalid_value("spec.progressDeadlineSeconds", deadline, why))
        return found

    def prepare_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> JsonObject:
        made = super().prepare_status(rt, old, new)
        metadata = {key: value for key, value in made["metadata"].items() if key != "labels"}
        if "labels" in old["metadata"]:
            metadata["labels"] = old["metadata"]["labels"]
        return {**made, "metadata": metadata}

    def reset_fields(self, rt: ResourceType, subresource: str) -> tuple[tuple[str, ...], ...]:
        found = super().reset_fields(rt, subresource)
        return (*found, ("metadata", "labels")) if subresource == "status" else found

    def _strategy(self, strategy: JsonObject) -> list[FieldError]:
        kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
        path = "spec.strategy.rollingUpdate"
        if kind == "Recreate":
            why = "may not be specified when strategy `type` is 'Recreate'"
            return [forbidden_field(path, why)] if rolling is not None else []
        if kind != "RollingUpdate":
            shown = {"Type": kind, "RollingUpdate": rolling}
            return [not_supported("spec.strategy", shown, ("Recreate", "RollingUpdate"))]
        most, surge = rolling["maxUnavailable"], rolling["maxSurge"]  # type: ignore[index]
        found = int_or_percent(most, f"{path}.maxUnavailable", most=True)
        found += int_or_percent(surge, f"{path}.maxSurge")
        if _is_zero(most) and _is_zero(surge):
            found.append(invalid_value(f"{path}.maxUnavailable", most, "may not be 0 when `maxSurge` is 0"))
        return found


class ReplicaSetStrategy(_Workload):
    constants: ClassVar[JsonObject] = {"replicas": 1}
    counted = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        return counts(obj["spec"], "replicas", "minReadySeconds") + selector_and_template(obj["spec"])


class ReplicationControllerStrategy(_Workload):
    """The oldest one: its selector is a plain map, taken from the template if it is missing."""

    constants: ClassVar[JsonObject] = {"replicas": 1}
    counted = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        obj = super().default(rt, obj)
        labels = (((obj["spec"].get("template") or {}).get("metadata")) or {}).get("labels")
        if labels and not obj["spec"].get("selector"):
            obj = put(obj, "spec", put(obj["spec"], "selector", labels))
        if labels and not obj["metadata"].get("labels"):
            obj = with_meta(obj, labels=labels)
        return obj

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found = counts(spec, "replicas", "minReadySeconds")
        if not spec.get("selector"):
            found.append(required("spec.selector"))
        template = spec.get("template")
        if template is None:
            return [*found, required("spec.template")]
        labels = (template.get("metadata") or {}).get("labels") or {}
        if any(labels.get(key) != value for key, value in (spec.get("selector") or {}).items()):
            why = "`selector` does not match template `labels`"
            found.append(invalid_value("spec.template.metadata.labels", labels, why))
        found += pod_rules.template(template, "spec.template")
        policy = template["spec"].get("restartPolicy")
        if policy != "Always":
            found.append(not_supported("spec.template.spec.restartPolicy", policy, ("Always",)))
        if template["spec"].get("activeDeadlineSeconds") is not None:
            why = "activeDeadlineSeconds in ReplicationController is not Supported"
            found.append(forbidden_field("spec.template.spec.activeDeadlineSeconds", why))
        return found

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        return []


_STATEFUL_FREE = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip
_STATEFUL_RULE = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def _claim(template: JsonObject) -> JsonObject:
    made = pod_defaults.filled(template, {"kind": "PersistentVolumeClaim", "apiVersion": "v1"})
    made = pod_defaults.replaced(made, "spec", pod_defaults.claim_spec)
    status = made.get("status") or {}
    return made if status.get("phase") else put(made, "status", {**status, "phase": "Pending"})


_RETENTION = ("Retain", "Delete")


class StatefulSetStrategy(_Workload):
    name_rule = staticmethod(dns_label)
    names_hosts = False
    counted = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    at_most_ready = "cannot be greater than status.readyReplicas"
    constants: ClassVar[JsonObject] = {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "podManagementPolicy": "OrderedReady",
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    }

    def filled(self, spec: JsonObject) -> JsonObject:
        strategy = spec.get("updateStrategy") or {}
        made = strategy if strategy.get("type") else {**strategy, "type": "RollingUpdate"}
        if made["type"] == "RollingUpdate":
            rolling = made.get("rollingUpdate") or {}
            full = pod_defaults.filled(rolling, {"partition": 0})
            if full is not rolling:
                made = {**made, "rollingUpdate": full}
        if made is not strategy:
            spec = put(spec, "updateStrategy", made)
        policy = spec["persistentVolumeClaimRetentionPolicy"]
        full = pod_defaults.filled(policy, self.constants["persistentVolumeClaimRetentionPolicy"])
        if full is not policy:
            spec = put(spec, "persistentVolumeClaimRetentionPolicy", full)
        return pod_defaults.replaced(spec, "volumeClaimTemplates", pod_defaults.each(_claim))

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found = counts(spec, "replicas", "minReadySeconds", "revisionHistoryLimit")
        policy = spec["podManagementPolicy"]
        if policy not in ("OrderedReady", "Parallel"):
            why = "must be 'OrderedReady' or 'Parallel'"
            found.append(invalid_value("spec.podManagementPolicy", policy, why))
        found += selector_and_template(spec, complete=False, kind="StatefulSet", shown="statefulset")
        found += self._strategy(spec["updateStrategy"])
        retention = spec["persistentVolumeClaimRetentionPolicy"]
        found.extend(
            not_supported(f"spec.persistentVolumeClaimRetentionPolicy.{key}", retention[key], _RETENTION)
            for key in ("whenDeleted", "whenScaled")
            if retention[key] not in _RETENTION
        )
        start = (spec.get("ordinals") or {}).get("start")
        return found + not_negative(start, "spec.ordinals.start")

    def _strategy(self, strategy: JsonObject) -> list[FieldError]:
        kind, rolling = strategy["type"], strategy.get("rollingUpdate")
        if kind == "OnDelete":
            if rolling is None:
                return []
            why = "only allowed for updateStrategy 'RollingUpdate'"
            return [invalid_value("spec.updateStrategy.rollingUpdate", rolling, why)]
        if kind != "RollingUpdate":
            why = "must be 'RollingUpdate' or 'OnDelete'"
            return [invalid_value("spec.updateStrategy", {"Type": kind, "RollingUpdate": rolling}, why)]
        path = "spec.updateStrategy.rollingUpdate"
        found = not_negative((rolling or {}).get("partition"), f"{path}.partition")
        most = (rolling or {}).get("maxUnavailable")
        if most is not None:
            found += int_or_percent(most, f"{path}.maxUnavailable", most=True)
            if _is_zero(most):
                found.append(invalid_value(f"{path}.maxUnavailable", most, "cannot be 0"))
        return found

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        def fixed(spec: JsonObject) -> JsonObject:
            return {key: value for key, value in spec.items() if key not in _STATEFUL_FREE}

        return [] if fixed(old["spec"]) == fixed(new["spec"]) else [forbidden_field("spec", _STATEFUL_RULE)]


class DaemonSetStrategy(_Workload):
    """Counts the changes of its template in an annotation, a relic that clients still read."""

    constants: ClassVar[JsonObject] = {"revisionHistoryLimit": 10}
    names_hosts = False

    def filled(self, spec: JsonObject) -> JsonObject:
        strategy = spec.get("updateStrategy") or {}
        made = strategy if strategy.get("type") else {**strategy, "type": "RollingUpdate"}
        if made["type"] == "RollingUpdate":
            rolling = made.get("rollingUpdate") or {}
            full = pod_defaults.filled(rolling, {"maxUnavailable": 1, "maxSurge": 0})
            if full is not rolling:
                made = {**made, "rollingUpdate": full}
        return spec if made is strategy else put(spec, "updateStrategy", made)

    def prepare_create(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> JsonObject:
        return _counted(super().prepare_create(rt, obj, ctx), 1)

    def prepare_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str, ctx: Context
    ) -> JsonObject:
        made = super().prepare_update(rt, old, new, subresource, ctx)
        count = int((old["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "1"))
        return _counted(made, count + (old["spec"]["template"] != made["spec"]["template"]))

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found = counts(spec, "minReadySeconds", "revisionHistoryLimit")
        found += selector_and_template(spec, kind="DaemonSet", shown="daemonset")
        strategy = spec["updateStrategy"]
        kind, rolling = strategy["type"], strategy.get("rollingUpdate") or {}
        path = "spec.updateStrategy.rollingUpdate"
        if kind not in ("RollingUpdate", "OnDelete"):
            found.append(not_supported("spec.updateStrategy", strategy, ("RollingUpdate", "OnDelete")))
        elif kind == "RollingUpdate":
            found += int_or_percent(rolling["maxUnavailable"], f"{path}.maxUnavailable", most=True)
            found += int_or_percent(rolling["maxSurge"], f"{path}.maxSurge", most=True)
            zero = _is_zero(rolling["maxUnavailable"]), _is_zero(rolling["maxSurge"])
            if all(zero):
                found.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
            elif not any(zero):
                why = "may not be set when maxUnavailable is non-zero"
                found.append(invalid_value(f"{path}.maxSurge", rolling["maxSurge"], why))
        return found


def _counted(obj: JsonObject, count: int) -> JsonObject:
    annotations = obj["metadata"].get("annotations") or {}
    if annotations.get(TEMPLATE_GENERATION) == str(count):
        return obj
    return with_meta(obj, annotations={**annotations, TEMPLATE_GENERATION: str(count)})


class ControllerRevisionStrategy(Strategy):
    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found = not_negative(obj.get("revision"), "revision")
        return found if obj.get("data") is not None else [*found, required("data", "data is mandatory")]

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        return immutable(old.get("data"), new.get("data"), "data")


class PodTemplateStrategy(Strategy):
    """A template that stands for itself."""

    generation = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        return pod_defaults.replaced(obj, "template", pod_defaults.template)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        return pod_rules.template(obj["template"], "template")

    def warnings(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject) -> list[str]:
        template = obj["template"]
        return pod_warnings(template["spec"], template.get("metadata") or {}, "template")
