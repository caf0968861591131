"""What a pod spec may look like, on its own and as a pod template, and what an update of a pod may change."""

from __future__ import annotations

from kubesim.apiserver.kinds import placement
from kubesim.apiserver.kinds.amounts import container_resources
from kubesim.apiserver.kinds.containers import (
    PROTOCOLS,
    containers,
    ephemeral_containers,
    init_containers,
)
from kubesim.apiserver.kinds.volumes import volumes
from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import (
    annotation_errors,
    dns_label,
    dns_subdomain,
    labels,
    qualified_name,
)

RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_SECONDS = "must be between 1 and 2147483647, inclusive"


def _choice(spec: JsonObject, key: str, supported: tuple[str, ...], path: str) -> list[FieldError]:
    value = spec.get(key, "")
    if not value:
        return [required(f"{path}.{key}")]
    return [] if value in supported else [not_supported(f"{path}.{key}", value, supported)]


def _dns(spec: JsonObject, path: str) -> list[FieldError]:
    found = _choice(spec, "dnsPolicy", _DNS_POLICIES, path)
    if spec.get("dnsPolicy") == "None":
        config = spec.get("dnsConfig")
        if config is None:
            why = "must provide `dnsConfig` when `dnsPolicy` is None"
            found.append(required(f"{path}.dnsConfig", why))
        elif not config.get("nameservers"):
            why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            found.append(required(f"{path}.dnsConfig.nameservers", why))
    return found


def _names(spec: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for key, rule in (
        ("serviceAccountName", dns_subdomain),
        ("nodeName", dns_subdomain),
        ("schedulerName", dns_subdomain),
        ("priorityClassName", dns_subdomain),
        ("hostname", dns_label),
        ("subdomain", dns_label),
        ("runtimeClassName", dns_subdomain),
    ):
        value = spec.get(key)
        if value:
            found.extend(invalid_value(f"{path}.{key}", value, why) for why in rule(value))
    for at, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            found.append(required(f"{path}.imagePullSecrets[{at}].name"))
    for at, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate["conditionType"]
        found.extend(
            invalid_value(f"{path}.readinessGates[{at}].conditionType", kind, why)
            for why in qualified_name(kind)
        )
    return found


def _host_ports(spec: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    taken: set[tuple[str, str, int]] = set()
    for kind in ("initContainers", "containers"):
        for at, one in enumerate(spec.get(kind) or ()):
            for number, port in enumerate(one.get("ports") or ()):
                here = f"{path}.{kind}[{at}].ports[{number}]"
                host = port.get("hostPort", 0)
                if spec.get("hostNetwork") and host != port["containerPort"]:
                    why = "must match `hostPort` when `hostNetwork` is true"
                    found.append(invalid_value(f"{here}.containerPort", port["containerPort"], why))
                if not host or port.get("protocol") not in PROTOCOLS or kind == "initContainers":
                    continue
                place = (port["protocol"], port.get("hostIP", ""), host)
                if place in taken:
                    found.append(duplicate(f"{here}.hostPort", "/".join(str(part) for part in place)))
                taken.add(place)
    return found


def _gates(spec: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    seen: set[str] = set()
    for at, gate in enumerate(spec.get("schedulingGates") or ()):
        here = f"{path}.schedulingGates[{at}]"
        found.extend(invalid_value(here, gate["name"], why) for why in qualified_name(gate["name"]))
        if gate["name"] in seen:
            found.append(duplicate(here, gate["name"]))
        seen.add(gate["name"])
    return found


def _all_containers(spec: JsonObject, path: str) -> list[FieldError]:
    found, by_name = volumes(spec.get("volumes") or [], f"{path}.volumes")
    listed, init = spec.get("containers") or [], spec.get("initContainers") or []
    if not listed:
        found.append(required(f"{path}.containers"))
    names = {one["name"] for one in listed}
    found += containers(listed, by_name, f"{path}.containers")
    if init:
        found += init_containers(init, by_name, f"{path}.initContainers", names)
    debug = spec.get("ephemeralContainers")
    if debug:
        taken = names | {one["name"] for one in init}
        found += ephemeral_containers(debug, by_name, f"{path}.ephemeralContainers", taken)
    return found


def pod_spec(spec: JsonObject, path: str = "spec") -> list[FieldError]:
    """The spec of a pod or of a template."""
    found = _all_containers(spec, path)
    found += _choice(spec, "restartPolicy", RESTART_POLICIES, path)
    found += _dns(spec, path) + _names(spec, path) + _host_ports(spec, path) + _gates(spec, path)
    if spec.get("resources"):
        found += container_resources(spec["resources"], f"{path}.resources")
    if "nodeSelector" in spec:
        found += labels(spec["nodeSelector"], f"{path}.nodeSelector")
    if spec.get("affinity"):
        found += placement.affinity(spec["affinity"], f"{path}.affinity")
    if "tolerations" in spec:
        found += placement.tolerations(spec["tolerations"], f"{path}.tolerations")
    if "topologySpreadConstraints" in spec:
        constraints = spec["topologySpreadConstraints"]
        found += placement.topology_spread(constraints, f"{path}.topologySpreadConstraints")
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 2**31:
        found.append(invalid_value(f"{path}.activeDeadlineSeconds", deadline, _SECONDS))
    operating_system = (spec.get("os") or {}).get("name")
    if operating_system and operating_system not in ("linux", "windows"):
        found.append(not_supported(f"{path}.os.name", operating_system, ("linux", "windows")))
    return found


def template(obj: JsonObject, path: str, *, whole: bool = True) -> list[FieldError]:
    """A pod template of a workload; its spec only when that is the `whole` one."""
    meta = obj.get("metadata") or {}
    found = labels(meta.get("labels"), f"{path}.labels")
    found += annotation_errors(meta.get("annotations"), f"{path}.annotations")
    if not whole:
        return found
    found += pod_spec(obj["spec"], f"{path}.spec")
    if obj["spec"].get("ephemeralContainers"):
        why = "ephemeral containers not allowed in pod template"
        found.append(forbidden_field(f"{path}.spec.ephemeralContainers", why))
    return found


UPDATE_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _without_images(listed: list[JsonObject]) -> list[JsonObject]:
    return [{key: value for key, value in one.items() if key != "image"} for one in listed]


def _frozen(spec: JsonObject, *, gated: bool) -> JsonObject:
    """The part of a pod spec that an update cannot change."""
    free = {"activeDeadlineSeconds", "tolerations", "schedulingGates"}
    if gated:
        free |= {"nodeSelector", "affinity"}
    kept = {key: value for key, value in spec.items() if key not in free}
    for kind in ("containers", "initContainers"):
        if kind in kept:
            kept[kind] = _without_images(kept[kind])
    return kept


def _gate_changes(old: JsonObject, new: JsonObject) -> list[FieldError]:
    before = [gate["name"] for gate in old.get("schedulingGates") or ()]
    return [
        forbidden_field(
            f"spec.schedulingGates[{at}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate['name']}'",
        )
        for at, gate in enumerate(new.get("schedulingGates") or ())
        if gate["name"] not in before
    ]


def _deadline_change(old: JsonObject, new: JsonObject) -> list[FieldError]:
    before, after = old.get("activeDeadlineSeconds"), new.get("activeDeadlineSeconds")
    if before is None or before == after:
        return []
    path = "spec.activeDeadlineSeconds"
    if after is None:
        why = "must not update from a positive integer to nil value"
        return [invalid_value(path, after, why)]
    if after > before:
        return [invalid_value(path, after, f"must be less than or equal to previous value `{before}`")]
    return []


def _toleration_changes(old: JsonObject, new: JsonObject) -> list[FieldError]:
    before = old.get("tolerations") or []
    after = new.get("tolerations") or []

    def essence(toleration: JsonObject) -> JsonObject:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    if all(any(essence(one) == essence(other) for other in after) for one in before):
        return []
    return [
        forbidden_field(
            "spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"
        )
    ]


def pod_update(old: JsonObject, new: JsonObject) -> list[FieldError]:
    """What an update does to the spec of a pod, apart from what is wrong with the spec itself."""
    found: list[FieldError] = []
    for kind in ("containers", "initContainers"):
        if len(old.get(kind) or ()) != len(new.get(kind) or ()):
            return [forbidden_field(f"spec.{kind}", "pod updates may not add or remove containers")]
    found += _deadline_change(old, new) + _toleration_changes(old, new) + _gate_changes(old, new)
    gated = bool(old.get("schedulingGates"))
    if _frozen(old, gated=gated) != _frozen(new, gated=gated):
        found.append(forbidden_field("spec", UPDATE_RULE))
    return found


def ephemeral_update(old: JsonObject, new: JsonObject) -> list[FieldError]:
    """Debug containers can be added, and neither changed nor removed."""
    found: list[FieldError] = []
    after = {one["name"]: one for one in new.get("ephemeralContainers") or ()}
    for one in old.get("ephemeralContainers") or ():
        name = one["name"]
        if name not in after:
            why = f'existing ephemeral containers "{name}" may not be removed\n'
            found.append(forbidden_field("spec.ephemeralContainers", why))
        elif after[name] != one:
            why = f'existing ephemeral containers "{name}" may not be changed\n'
            found.append(forbidden_field("spec.ephemeralContainers", why))
    return found
