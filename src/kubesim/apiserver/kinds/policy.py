"""Kinds that say what is allowed or wanted: disruption budgets, priorities, RBAC.
Small ones, each in a class of a few lines."""

from __future__ import annotations

from kubesim.apiserver.kinds.amounts import container_resources
from kubesim.apiserver.kinds.base import Strategy, immutable, put
from kubesim.apiserver.kinds.placement import label_selector, tolerations
from kubesim.apiserver.kinds.pod_defaults import each, filled, replaced
from kubesim.apiserver.kinds.workloads import int_or_percent
from kubesim.errors import (
    FieldError,
    JsonObject,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import dns_label, labels, path_segment
from kubesim.schema.registry import ResourceType

RBAC = "rbac.authorization.k8s.io"


class BudgetStrategy(Strategy):
    """PodDisruptionBudget."""

    generation = True
    unconditional_update = False

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found: list[FieldError] = []
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            why = "minAvailable and maxUnavailable cannot be both set"
            found.append(invalid_value("spec", spec, why))
        for key in ("minAvailable", "maxUnavailable"):
            if spec.get(key) is not None:
                found += int_or_percent(spec[key], f"spec.{key}", most=True)
        policies = ("AlwaysAllow", "IfHealthyBudget")
        policy = spec.get("unhealthyPodEvictionPolicy")
        if policy is not None and policy not in policies:
            found.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, policies))
        return found + label_selector(spec.get("selector"), "spec.selector")


class PriorityClassStrategy(Strategy):
    generation = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        return filled(obj, {"preemptionPolicy": "PreemptLowerPriority"})

    def changed(self, old: JsonObject, new: JsonObject) -> bool:
        return False

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        name, value = obj["metadata"].get("name", ""), obj["value"]
        found: list[FieldError] = []
        if name.startswith("system-") and name not in ("system-cluster-critical", "system-node-critical"):
            why = "priority class names with 'system-' prefix are reserved for system use only. error: "
            found.append(
                forbidden_field("metadata.name", why + f"{name} is not a known system priority class")
            )
        elif value > 1_000_000_000 and not name.startswith("system-"):
            why = "maximum allowed value of a user defined priority is 1000000000"
            found.append(forbidden_field("value", why))
        policies = ("Never", "PreemptLowerPriority")
        policy = obj.get("preemptionPolicy")
        if policy is not None and policy not in policies:
            found.append(not_supported("preemptionPolicy", policy, policies))
        return found

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        if old["value"] != new["value"]:
            found.append(forbidden_field("value", "may not be changed in an update."))
        if old.get("preemptionPolicy") != new.get("preemptionPolicy"):
            found.append(invalid_value("preemptionPolicy", new.get("preemptionPolicy"), "field is immutable"))
        return found


class RoleStrategy(Strategy):
    """Role and ClusterRole: names only have to fit into a path."""

    name_rule = staticmethod(path_segment)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        for at, rule in enumerate(obj.get("rules") or ()):
            path = f"rules[{at}]"
            if not rule.get("verbs"):
                found.append(required(f"{path}.verbs", "verbs must contain at least one value"))
            if rule.get("nonResourceURLs"):
                if rt.kind == "Role":
                    why = "namespaced rules cannot apply to non-resource URLs"
                    found.append(invalid_value(f"{path}.nonResourceURLs", rule["nonResourceURLs"], why))
                if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                    why = "rules cannot apply to both regular resources and non-resource URLs"
                    found.append(invalid_value(f"{path}.nonResourceURLs", rule["nonResourceURLs"], why))
                continue
            if not rule.get("apiGroups"):
                found.append(
                    required(f"{path}.apiGroups", "resource rules must supply at least one api group")
                )
            if not rule.get("resources"):
                found.append(
                    required(f"{path}.resources", "resource rules must supply at least one resource")
                )
        return found


class BindingStrategy(Strategy):
    """RoleBinding and ClusterRoleBinding: the role cannot change."""

    name_rule = staticmethod(path_segment)

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        def subject(one: JsonObject) -> JsonObject:
            group = RBAC if one.get("kind") in ("User", "Group") else ""
            return {**one, "apiGroup": group} if group and not one.get("apiGroup") else one

        ref = obj["roleRef"]
        if not ref.get("apiGroup"):
            obj = put(obj, "roleRef", {**ref, "apiGroup": RBAC})
        return replaced(obj, "subjects", each(subject))

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        ref = obj["roleRef"]
        if ref["apiGroup"] != RBAC:
            found.append(not_supported("roleRef.apiGroup", ref["apiGroup"], (RBAC,)))
        kinds = ("Role", "ClusterRole") if rt.kind == "RoleBinding" else ("ClusterRole",)
        if ref["kind"] not in kinds:
            found.append(not_supported("roleRef.kind", ref["kind"], kinds))
        if not ref["name"]:
            found.append(required("roleRef.name"))
        else:
            found.extend(invalid_value("roleRef.name", ref["name"], why) for why in path_segment(ref["name"]))
        for at, subject in enumerate(obj.get("subjects") or ()):
            found += _subject(subject, f"subjects[{at}]", namespaced=rt.namespaced)
        return found

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        if old["roleRef"] == new["roleRef"]:
            return []
        return [invalid_value("roleRef", new["roleRef"], "cannot change roleRef")]


def _subject(subject: JsonObject, path: str, *, namespaced: bool) -> list[FieldError]:
    kind, group = subject["kind"], subject.get("apiGroup", "")
    found: list[FieldError] = []
    if not subject["name"]:
        found.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if group:
            found.append(not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            found.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != RBAC:
            found.append(not_supported(f"{path}.apiGroup", group, (RBAC,)))
    else:
        found.append(not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    return found


class RuntimeClassStrategy(Strategy):
    """RuntimeClass: the handler is the name of a configuration on the nodes."""

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        handler = obj.get("handler", "")
        found = [invalid_value("handler", handler, why) for why in dns_label(handler)]
        found += container_resources({"limits": (obj.get("overhead") or {}).get("podFixed")}, "overhead")
        scheduling = obj.get("scheduling") or {}
        found += labels(scheduling.get("nodeSelector"), "scheduling.nodeSelector")
        return found + tolerations(scheduling.get("tolerations") or [], "scheduling.tolerations")

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        return immutable(old.get("handler"), new.get("handler"), "handler")
