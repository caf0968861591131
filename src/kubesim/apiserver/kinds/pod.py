"""Pods: what is filled in, what an update of the pod or of one of its subresources may touch."""

from __future__ import annotations

from kubesim.apiserver.kinds import pod_defaults, pod_rules
from kubesim.apiserver.kinds.amounts import quality_of_service
from kubesim.apiserver.kinds.base import Context, Strategy, drop, put, with_meta
from kubesim.apiserver.kinds.pod_warnings import pod_warnings
from kubesim.errors import FieldError, JsonObject, forbidden_field, invalid_value
from kubesim.schema.meta import dns_label, dns_subdomain, metadata_errors, metadata_update_errors
from kubesim.schema.registry import ResourceType

GATED = "Scheduling is blocked due to non-empty scheduling gates"


class PodStrategy(Strategy):
    """generation counts changes of the spec, by the subresources too."""

    generation = True
    delete_returns_object = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        spec = pod_defaults.pod(obj["spec"])
        status = _addresses(obj.get("status") or {})
        if spec is obj["spec"] and status is obj.get("status"):
            return obj
        return {**obj, "spec": spec, "status": status}

    def prepare_create(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> JsonObject:
        status: JsonObject = {"phase": "Pending", "qosClass": quality_of_service(obj["spec"])}
        if obj["spec"].get("schedulingGates"):
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": ctx.now,
                "reason": "SchedulingGated",
                "message": GATED,
            }
            status["conditions"] = [condition]
        return with_meta(put(obj, "status", status), generation=1)

    def prepare_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str, ctx: Context
    ) -> JsonObject:
        if subresource == "ephemeralcontainers":
            listed = new["spec"].get("ephemeralContainers")
            rest = drop(old["spec"], "ephemeralContainers")
            spec = put(rest, "ephemeralContainers", listed) if listed else rest
            made = {**old, "spec": spec, "metadata": _identity(old, new)}
            return self.count_generation(old, made)
        if subresource == "resize":
            made = {**old, "spec": _resized(old["spec"], new["spec"]), "metadata": _identity(old, new)}
            return self.count_generation(old, made)
        return super().prepare_update(rt, old, new, subresource, ctx)

    def prepare_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> JsonObject:
        made = super().prepare_status(rt, old, new)
        meta = drop(made["metadata"], "ownerReferences")
        if "ownerReferences" in old["metadata"]:
            meta = {**meta, "ownerReferences": old["metadata"]["ownerReferences"]}
        status = dict(made.get("status") or {})
        quality = (old.get("status") or {}).get("qosClass")
        if quality:
            status["qosClass"] = quality
        return {**made, "metadata": meta, "status": status}

    def validate_create(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found = metadata_errors(obj["metadata"], namespaced=True, rule=dns_subdomain)
        spec = obj["spec"]
        found += pod_rules.pod_spec(spec)
        if spec.get("ephemeralContainers"):
            found.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
        if spec.get("schedulingGates") and spec.get("nodeName"):
            why = "cannot be set until all schedulingGates have been cleared"
            found.append(forbidden_field("spec.nodeName", why))
        return found

    def validate_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str
    ) -> list[FieldError]:
        found = metadata_errors(new["metadata"], namespaced=True, rule=dns_subdomain)
        update = metadata_update_errors(old["metadata"], new["metadata"])
        found += update + update
        if subresource == "status":
            return found + self.validate_status(rt, old, new)
        if subresource == "ephemeralcontainers":
            return (
                found + pod_rules.pod_spec(new["spec"]) + pod_rules.ephemeral_update(old["spec"], new["spec"])
            )
        if old["spec"] is new["spec"] or old["spec"] == new["spec"]:
            return found
        found += pod_rules.pod_spec(new["spec"])
        if subresource == "resize":
            return found + _resize_errors(old, new)
        return found + pod_rules.pod_update(old["spec"], new["spec"])

    def warnings(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject) -> list[str]:
        if old is not None:
            return []
        wrong = dns_label(obj["metadata"].get("name", ""))
        why = "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
        found = [f"metadata.name: {why}: [{' '.join(wrong)}]"] if wrong else []
        return found + pod_warnings(obj["spec"], obj["metadata"])

    def validate_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        found = pod_rules.status_update(old, new)
        nominated = (new.get("status") or {}).get("nominatedNodeName")
        if nominated:
            found.extend(
                invalid_value("status.nominatedNodeName", nominated, why) for why in dns_subdomain(nominated)
            )
        return found

    def reset_fields(self, rt: ResourceType, subresource: str) -> tuple[tuple[str, ...], ...]:
        if subresource == "status":
            return (("metadata", "deletionTimestamp"), ("metadata", "ownerReferences"), ("spec",))
        return (("status",),)


def _addresses(status: JsonObject) -> JsonObject:
    """podIP is the first of podIPs; where they differ, the old single field is what counts."""
    one, many = status.get("podIP"), status.get("podIPs")
    if one and (not many or many[0].get("ip") != one):
        return {**status, "podIPs": [{"ip": one}]}
    if many and not one:
        return {**status, "podIP": many[0].get("ip", "")}
    return status


def _identity(old: JsonObject, new: JsonObject) -> JsonObject:
    """The metadata of a write that may only touch a part of the spec."""
    kept = {
        key: new["metadata"][key] for key in ("resourceVersion", "managedFields") if key in new["metadata"]
    }
    return {**old["metadata"], **kept}


def _resized(old: JsonObject, new: JsonObject) -> JsonObject:
    """The old spec with the resources of the new one, container by container."""
    made = dict(old)
    for kind in ("containers", "initContainers"):
        if kind not in old:
            continue
        by_name = {one["name"]: one for one in new.get(kind) or ()}
        listed = []
        for one in old[kind]:
            wanted = by_name.get(one["name"])
            if wanted is not None:
                one = {**one, "resources": wanted["resources"]}
                if "resizePolicy" in wanted:
                    one["resizePolicy"] = wanted["resizePolicy"]
            listed.append(one)
        made[kind] = listed
    if "resources" in new:
        made["resources"] = new["resources"]
    return made


_RESIZABLE = "only cpu and memory resources are mutable"


def _resize_errors(old: JsonObject, new: JsonObject) -> list[FieldError]:
    """A resize changes cpu and memory, and not the quality of service."""
    found: list[FieldError] = []
    before, after = quality_of_service(old["spec"]), quality_of_service(new["spec"])
    if before != after:
        why = "Pod QOS Class may not change as a result of resizing"
        found.append(invalid_value("spec", after, why))
    for kind in ("containers", "initContainers"):
        for one, other in zip(old["spec"].get(kind) or (), new["spec"].get(kind) or (), strict=False):
            for part in ("limits", "requests"):
                was, now = one["resources"].get(part) or {}, other["resources"].get(part) or {}
                fixed = {key: value for key, value in was.items() if key not in ("cpu", "memory")}
                if fixed != {key: value for key, value in now.items() if key not in ("cpu", "memory")}:
                    found.append(forbidden_field("spec", _RESIZABLE))
                removed = [key for key in ("cpu", "memory") if key in was and key not in now]
                found.extend(
                    forbidden_field(f"spec.{kind}[0].resources.{part}", f"resource {part} cannot be removed")
                    for _ in removed
                )
    return found
