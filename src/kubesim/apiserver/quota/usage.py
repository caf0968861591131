"""How much of what a quota limits one object uses, and which objects a quota is about. Pure.

Pods, Services and claims are measured; everything else only counts, as `count/RESOURCE.GROUP`. A few core resources
may be named without `count/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from kubesim.apiserver.kinds.amounts import is_extended, quality_of_service
from kubesim.apiserver.kinds.podtotals import Amounts, parsed, plus, pod_total
from kubesim.errors import JsonObject
from kubesim.schema.quantity import NANO, Quantity, parse

PODS, SERVICES, CLAIMS = "pods", "services", "persistentvolumeclaims"
PLAIN = frozenset({CLAIMS, SERVICES, "configmaps", "replicationcontrollers", "resourcequotas", "secrets"})
"""Resources whose own name in a quota counts them; `pods` counts those that have not ended."""
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_MUST_BE_NAMED = frozenset(
    {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}
)
_STORAGE_CLASS = ".storageclass.storage.k8s.io/"
ZERO = Quantity(0)


def one_of(count: int = 1) -> Quantity:
    return Quantity(count * NANO)


def counted_by(group_resource: str, name: str) -> bool:
    """Whether the name of a limit is about a resource (`pods`, `jobs.batch`)."""
    if name == f"count/{group_resource}":
        return True
    match group_resource:
        case "pods":
            return name == PODS or _is_compute(name)
        case "services":
            return name in (SERVICES, "services.nodeports", "services.loadbalancers")
        case "persistentvolumeclaims":
            return name in (CLAIMS, "requests.storage") or _STORAGE_CLASS in name
    return group_resource in PLAIN and name == group_resource


def resource_of(name: str) -> str | None:
    """The resource that a limit is about, or None for a name that nobody knows."""
    if name.startswith("count/"):
        return name.removeprefix("count/")
    for known in (PODS, SERVICES, CLAIMS):
        if counted_by(known, name):
            return known
    return name if name in PLAIN else None


def _is_compute(name: str) -> bool:
    bare = name.removeprefix("requests.").removeprefix("limits.")
    if bare in _COMPUTE or bare.startswith("hugepages-"):
        return True
    return name.startswith("requests.") and is_extended(bare)


# One object


def usage(group_resource: str, obj: JsonObject, *, now: datetime | None = None) -> Amounts:
    """What one object uses. With `now`, pods that have ended use nothing but their count."""
    used: Amounts = {f"count/{group_resource}": one_of()}
    match group_resource:
        case "pods":
            if now is None or not _ended(obj, now):
                used |= _pod(obj["spec"])
        case "services":
            used |= _service(obj.get("spec") or {})
        case "persistentvolumeclaims":
            used |= _claim(obj)
        case other if other in PLAIN:
            used[other] = one_of()
    return used


def _ended(pod: JsonObject, now: datetime) -> bool:
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return True
    meta = pod["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("deletionGracePeriodSeconds") is None:
        return False
    grace = timedelta(seconds=meta["deletionGracePeriodSeconds"])
    return now > datetime.fromisoformat(meta["deletionTimestamp"]) + grace


def _computed(requests: Amounts, limits: Amounts) -> Amounts:
    used: Amounts = {}
    for name, amount in requests.items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            used[name] = used[f"requests.{name}"] = amount
        elif is_extended(name):
            used[f"requests.{name}"] = amount
    used |= {f"limits.{name}": amount for name, amount in limits.items() if name in _COMPUTE}
    return used


def _pod(spec: JsonObject) -> Amounts:
    return {PODS: one_of(), **_computed(pod_total(spec, "requests"), pod_total(spec, "limits"))}


def _service(spec: JsonObject) -> Amounts:
    used = {SERVICES: one_of()}
    ports = len(spec.get("ports") or ())
    if spec.get("type") == "NodePort":
        used["services.nodeports"] = one_of(ports)
    elif spec.get("type") == "LoadBalancer":
        if spec.get("allocateLoadBalancerNodePorts") is False:
            ports = sum(1 for port in spec.get("ports") or () if port.get("nodePort"))
        used |= {"services.nodeports": one_of(ports), "services.loadbalancers": one_of()}
    return used


def _claim(claim: JsonObject) -> Amounts:
    spec = claim.get("spec") or {}
    annotations = claim["metadata"].get("annotations") or {}
    class_ = annotations.get("volume.beta.kubernetes.io/storage-class") or spec.get("storageClassName")
    used = {CLAIMS: one_of()}
    size = (spec.get("resources") or {}).get("requests", {}).get("storage")
    if size:
        used["requests.storage"] = parse(size)
    if class_:
        used |= {f"{class_}{_STORAGE_CLASS}{name}": amount for name, amount in used.items()}
    return used


# Quotas and objects


def limits_of(group_resource: str, hard: Iterable[str]) -> list[str]:
    """Those limits of a quota that are about a resource, sorted."""
    return sorted(name for name in hard if counted_by(group_resource, name))


def in_scope(spec: JsonObject, group_resource: str, obj: JsonObject) -> bool:
    """Whether the quota's scopes take the object. What has no scopes is in none."""
    wanted = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    wanted += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if not wanted:
        return True
    if group_resource == "pods":
        return all(_pod_in(one, obj) for one in wanted)
    if group_resource == "persistentvolumeclaims":
        return all(_claim_in(one, obj) for one in wanted)
    return False


def _pod_in(one: Mapping[str, object], pod: JsonObject) -> bool:
    spec, scope = pod["spec"], one["scopeName"]
    match scope:
        case "Terminating" | "NotTerminating":
            return (spec.get("activeDeadlineSeconds") is not None) == (scope == "Terminating")
        case "BestEffort" | "NotBestEffort":
            return (quality_of_service(spec) == "BestEffort") == (scope == "BestEffort")
        case "PriorityClass":
            return _selected(one, spec.get("priorityClassName"))
        case "CrossNamespacePodAffinity":
            return _crosses(spec.get("affinity") or {})
    return False


def _claim_in(one: Mapping[str, object], claim: JsonObject) -> bool:
    if one["scopeName"] != "VolumeAttributesClass":
        return False
    return _selected(one, (claim.get("spec") or {}).get("volumeAttributesClassName"))


def _selected(one: Mapping[str, object], value: str | None) -> bool:
    values = one.get("values")
    given = list(values) if isinstance(values, list) else []
    match one["operator"]:
        case "In":
            return bool(value) and value in given
        case "NotIn":
            return value not in given
        case "Exists":
            return bool(value)
    return not value


def _crosses(affinity: JsonObject) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [weighted.get("podAffinityTerm") or {} for weighted in preferred]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


def unnamed(pod: JsonObject, limits: Iterable[str]) -> str:
    """What the pod has to say about its containers because a quota limits it, in the real server's words; "" for
    nothing."""
    required = _MUST_BE_NAMED & set(limits)
    spec = pod["spec"]
    if not required or spec.get("resources"):
        return ""
    lacking: dict[str, list[str]] = {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container.get("resources") or {}
        named = _computed(parsed(resources.get("requests")), parsed(resources.get("limits")))
        for name in required - named.keys():
            lacking.setdefault(name, []).append(container["name"])
    if not lacking:
        return ""
    return "must specify " + "; ".join(
        f"{name} for: {','.join(sorted(set(containers)))}" for name, containers in sorted(lacking.items())
    )


def total(group_resource: str, objects: Iterable[JsonObject], spec: JsonObject, now: datetime) -> Amounts:
    """What all objects of a resource use that a quota is about."""
    used: Amounts = {}
    for obj in objects:
        if in_scope(spec, group_resource, obj):
            used = plus(used, usage(group_resource, obj, now=now))
    return used


def shown(amounts: Amounts) -> dict[str, str]:
    return {name: str(amount) for name, amount in amounts.items()}
