"""Claims, volumes and storage classes."""

from __future__ import annotations

from kubesim.apiserver.kinds.base import Context, Strategy, immutable, put, with_meta
from kubesim.apiserver.kinds.claims import claim_errors, mode_errors
from kubesim.apiserver.kinds.placement import label_key, node_selector
from kubesim.apiserver.kinds.pod_defaults import claim_spec, filled, replaced
from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import dns_subdomain, qualified_name
from kubesim.schema.quantity import parse
from kubesim.schema.registry import ResourceType

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
_CLAIM_RULE = (
    "spec is immutable after creation except resources.requests "
    "and volumeAttributesClassName for bound claims"
)
_NOT_SOURCES = (
    "capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "storageClassName", "mountOptions",
    "volumeMode", "nodeAffinity", "volumeAttributesClassName",
)  # fmt: skip


def _protected(obj: JsonObject, finalizer: str) -> JsonObject:
    """The finalizer that keeps storage which is in use."""
    finalizers = obj["metadata"].get("finalizers") or []
    return obj if finalizer in finalizers else with_meta(obj, finalizers=[*finalizers, finalizer])


class ClaimStrategy(Strategy):
    delete_returns_object = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        return replaced(obj, "spec", claim_spec)

    def prepare_create(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> JsonObject:
        made = super().prepare_create(rt, obj, ctx)
        return _protected(put(made, "status", {"phase": "Pending"}), CLAIM_FINALIZER)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        return claim_errors(obj["spec"], "spec")

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        before, after = dict(old["spec"]), dict(new["spec"])
        bound = (old.get("status") or {}).get("phase") == "Bound"
        if not before.get("volumeName"):
            before.pop("volumeName", None)
            after.pop("volumeName", None)
        if "storageClassName" not in before:
            after.pop("storageClassName", None)
        for spec in (before, after):
            spec.pop("volumeAttributesClassName", None)
            if bound:
                limits = (spec.get("resources") or {}).get("limits")
                spec["resources"] = {"limits": limits} if limits else {}
        found = [] if before == after else [forbidden_field("spec", _CLAIM_RULE)]
        was, now = _storage(old), _storage(new)
        if bound and parse(now).nanos < parse(was).nanos:
            why = "field can not be less than previous value"
            capacity = ((new.get("status") or {}).get("capacity") or {}).get("storage")
            if capacity is None or parse(now).nanos < parse(capacity).nanos:
                why = "field can not be less than status.capacity"
            found.append(forbidden_field("spec.resources.requests.storage", why))
        return found


def _storage(claim: JsonObject) -> str:
    return str(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))


class VolumeStrategy(Strategy):
    delete_returns_object = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        return replaced(
            obj,
            "spec",
            lambda spec: filled(
                spec, {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}
            ),
        )

    def prepare_create(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> JsonObject:
        made = super().prepare_create(rt, obj, ctx)
        status = {"phase": "Pending", "lastPhaseTransitionTime": ctx.now}
        return _protected(put(made, "status", status), VOLUME_FINALIZER)

    def prepare_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str, ctx: Context
    ) -> JsonObject:
        made = super().prepare_update(rt, old, new, subresource, ctx)
        before, after = old.get("status") or {}, made.get("status") or {}
        key = "lastPhaseTransitionTime"
        if before.get("phase") == after.get("phase") or after.get(key) not in (None, before.get(key)):
            return made
        return put(made, "status", {**after, key: ctx.now})

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found = mode_errors(spec, "spec")
        capacity = spec.get("capacity") or {}
        if not capacity:
            found.append(required("spec.capacity"))
        elif set(capacity) != {"storage"}:
            found.append(not_supported("spec.capacity", capacity, ("storage",)))
        for name, text in capacity.items():
            if parse(text).nanos <= 0:
                found.append(invalid_value(f"spec.capacity[{name}]", text, "must be greater than zero"))
        policies = ("Delete", "Recycle", "Retain")
        if spec["persistentVolumeReclaimPolicy"] not in policies:
            policy = spec["persistentVolumeReclaimPolicy"]
            found.append(not_supported("spec.persistentVolumeReclaimPolicy", policy, policies))
        sources = [key for key in spec if key not in _NOT_SOURCES]
        if not sources:
            found.append(required("spec", "must specify a volume type"))
        found.extend(
            forbidden_field(f"spec.{key}", "may not specify more than 1 volume type") for key in sources[1:]
        )
        mode, name = spec.get("volumeMode"), spec.get("storageClassName")
        if mode not in (None, "Block", "Filesystem"):
            found.append(not_supported("spec.volumeMode", mode, ("Block", "Filesystem")))
        if name:
            found.extend(invalid_value("spec.storageClassName", name, why) for why in dns_subdomain(name))
        affinity = spec.get("nodeAffinity")
        if affinity is not None and affinity.get("required") is None:
            why = "must specify required node constraints"
            found.append(required("spec.nodeAffinity.required", why))
        elif affinity is not None:
            found += node_selector(affinity["required"], "spec.nodeAffinity.required")
        if "hostPath" in sources and ".." in spec["hostPath"].get("path", "").split("/"):
            path = spec["hostPath"]["path"]
            found.append(invalid_value("spec.hostPath.path", path, "must not contain '..'"))
        if "local" in sources and not spec.get("nodeAffinity"):
            found.append(required("metadata.annotations", "Local volume requires node affinity"))
        return found

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        def source(spec: JsonObject) -> JsonObject:
            return {key: value for key, value in spec.items() if key not in _NOT_SOURCES}

        found: list[FieldError] = []
        if source(old["spec"]) != source(new["spec"]):
            found.append(
                forbidden_field(
                    "spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"
                )
            )
        return found + immutable(
            old["spec"].get("volumeMode"), new["spec"].get("volumeMode"), "spec.volumeMode"
        )


class StorageClassStrategy(Strategy):
    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        return filled(obj, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        provisioner = obj["provisioner"]
        if not provisioner:
            found.append(required("provisioner"))
        else:
            wrong = qualified_name(provisioner.lower())
            found.extend(invalid_value("provisioner", provisioner, why) for why in wrong)
        for at, term in enumerate(obj.get("allowedTopologies") or ()):
            found += _topology(term, f"allowedTopologies[{at}]")
        if obj["reclaimPolicy"] not in ("Delete", "Retain"):
            found.append(not_supported("reclaimPolicy", obj["reclaimPolicy"], ("Delete", "Retain")))
        modes = ("Immediate", "WaitForFirstConsumer")
        if obj["volumeBindingMode"] not in modes:
            found.append(not_supported("volumeBindingMode", obj["volumeBindingMode"], modes))
        return found

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        why = "updates to {} are forbidden."
        found = [
            forbidden_field(key, why.format(key))
            for key in ("parameters", "provisioner")
            if old.get(key) != new.get(key)
        ]
        if old["reclaimPolicy"] != new["reclaimPolicy"]:
            found.append(forbidden_field("reclaimPolicy", why.format("reclaimPolicy")))
        return found + immutable(old["volumeBindingMode"], new["volumeBindingMode"], "volumeBindingMode")


def _topology(term: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    keys: set[str] = set()
    for at, one in enumerate(term.get("matchLabelExpressions") or ()):
        here, values = f"{path}.matchLabelExpressions[{at}]", one.get("values") or []
        if not values:
            found.append(required(f"{here}.values"))
        found.extend(
            duplicate(f"{here}.values[{number}]", value)
            for number, value in enumerate(values)
            if value in values[:number]
        )
        found += label_key(one["key"], f"{here}.key")
        if one["key"] in keys:
            found.append(duplicate(f"{here}.key", one["key"]))
        keys.add(one["key"])
    return found


class CSIDriverStrategy(Strategy):
    generation = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        constants = {
            "attachRequired": True,
            "podInfoOnMount": False,
            "storageCapacity": False,
            "fsGroupPolicy": "ReadWriteOnceWithFSType",
            "volumeLifecycleModes": ["Persistent"],
            "requiresRepublish": False,
            "seLinuxMount": False,
        }
        return replaced(obj, "spec", lambda spec: filled(spec, constants))
