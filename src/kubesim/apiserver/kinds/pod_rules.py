"""What a pod spec may look like, on its own and as a pod template, and what an update of a pod may change."""

from __future__ import annotations

from kubesim.apiserver.kinds import placement, pod_security
from kubesim.apiserver.kinds.addresses import ip_errors
from kubesim.apiserver.kinds.amounts import container_resources
from kubesim.apiserver.kinds.containers import (
    PROTOCOLS,
    containers,
    ephemeral_containers,
    init_containers,
)
from kubesim.apiserver.kinds.podtotals import whole_pod
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
    dns_subdomain_with_underscores,
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
    if spec.get("dnsConfig"):
        found += _dns_config(spec["dnsConfig"], f"{path}.dnsConfig")
    return found


_MOST_NAMESERVERS, _MOST_SEARCHES, _LONGEST_SEARCHES = 3, 32, 2048


def _dns_config(config: JsonObject, path: str) -> list[FieldError]:
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    found: list[FieldError] = []
    if len(servers) > _MOST_NAMESERVERS:
        why = f"must not have more than {_MOST_NAMESERVERS} nameservers"
        found.append(invalid_value(f"{path}.nameservers", servers, why))
    for at, server in enumerate(servers):
        found += ip_errors(server, f"{path}.nameservers[{at}]")
    if len(searches) > _MOST_SEARCHES:
        why = f"must not have more than {_MOST_SEARCHES} search paths"
        found.append(invalid_value(f"{path}.searches", searches, why))
    if len(" ".join(searches)) > _LONGEST_SEARCHES:
        why = f"must not have more than {_LONGEST_SEARCHES} characters (including spaces) in the search list"
        found.append(invalid_value(f"{path}.searches", searches, why))
    for at, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            wrong = dns_subdomain_with_underscores(name)
            found.extend(invalid_value(f"{path}.searches[{at}]", name, why) for why in wrong)
    found.extend(
        required(f"{path}.options[{at}]", "must not be empty")
        for at, option in enumerate(config.get("options") or ())
        if not option.get("name")
    )
    return found


def _host_aliases(listed: list[JsonObject], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for at, one in enumerate(listed):
        found += ip_errors(one["ip"], f"{path}[{at}].ip")
        found.extend(
            invalid_value(f"{path}[{at}].hostnames[{number}]", name, why)
            for number, name in enumerate(one.get("hostnames") or ())
            for why in dns_subdomain(name)
        )
    return found


def _names(spec: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for key, rule in (
        ("serviceAccountName", dns_subdomain),
        ("nodeName", dns_subdomain),
        ("priorityClassName", dns_subdomain),
        ("hostname", dns_label),
        ("subdomain", dns_label),
        ("runtimeClassName", dns_subdomain),
    ):
        value = spec.get(key)
        if value:
            found.extend(invalid_value(f"{path}.{key}", value, why) for why in rule(value))
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
                if (
                    spec.get("hostNetwork")
                    and kind == "containers"
                    and host not in (0, port["containerPort"])
                ):
                    why = "must match `containerPort` when `hostNetwork` is true"
                    found.append(invalid_value(f"{here}.hostPort", host, why))
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
    grace = spec.get("terminationGracePeriodSeconds")
    found += containers(listed, by_name, f"{path}.containers", grace=grace)
    if init:
        found += init_containers(init, by_name, f"{path}.initContainers", names, grace)
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
        found += whole_pod(spec, f"{path}.resources")
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
    if "hostAliases" in spec:
        found += _host_aliases(spec["hostAliases"], f"{path}.hostAliases")
    found += container_resources({"limits": spec.get("overhead")}, f"{path}.overhead")
    preemption = spec.get("preemptionPolicy")
    if preemption is not None and preemption not in ("PreemptLowerPriority", "Never"):
        known = ("PreemptLowerPriority", "Never")
        found.append(not_supported(f"{path}.preemptionPolicy", preemption, known))
    found += pod_security.pod_context(spec, path)
    return [*found, *pod_security.operating_system(spec, path)]


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
        return [invalid_value(path, after, "must be less than or equal to previous value")]
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


_OF_THE_SYSTEM = ("PodScheduled", "Ready", "Initialized")


def status_update(old: JsonObject, new: JsonObject) -> list[FieldError]:
    """What a write of the status may not say: odd conditions and addresses, containers that rise from the dead."""
    before, after, spec = old.get("status") or {}, new.get("status") or {}, old["spec"]
    found: list[FieldError] = []
    for at, one in enumerate(after.get("conditions") or ()):
        if one["type"] not in _OF_THE_SYSTEM:
            path = f"metadata.conditions[{at}].Type"  # The real server means the status, and says metadata.
            found.extend(invalid_value(path, one["type"], why) for why in qualified_name(one["type"]))
    sidecars = {
        one["name"] for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"
    }
    for key, policy in (
        ("containerStatuses", spec.get("restartPolicy")),
        ("initContainerStatuses", spec.get("restartPolicy")),
        ("ephemeralContainerStatuses", "Never"),
    ):
        found += _revived(before.get(key) or [], after.get(key) or [], policy, key, sidecars)
    for key in ("podIPs", "hostIPs"):
        for at, one in enumerate(after.get(key) or ()):
            found += ip_errors(one.get("ip", ""), f"status.{key}[{at}]")
    return found


def _revived(
    before: list[JsonObject], after: list[JsonObject], policy: str | None, key: str, free: set[str]
) -> list[FieldError]:
    """A container that is not to be restarted, has ended, and runs again."""
    if policy == "Always":
        return []
    now = {one["name"]: one for one in after}
    found: list[FieldError] = []
    for at, one in enumerate(before):
        ended = (one.get("state") or {}).get("terminated")
        if ended is None or one["name"] in free or one["name"] not in now:
            continue
        if ended.get("exitCode") and policy == "OnFailure":
            continue
        if (now[one["name"]].get("state") or {}).get("terminated") is None:
            why = "may not be transitioned to non-terminated state"
            found.append(forbidden_field(f"status.{key}[{at}].state", why))
    return found
