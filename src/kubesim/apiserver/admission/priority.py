"""Priority: the class that a pod names, or the cluster's default one, becomes a number and a preemption policy."""

from __future__ import annotations

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.requests import JsonObject

_TABLE = "scheduling.k8s.io/priorityclasses"
_GROUP, _VERSION, _PLURAL = "scheduling.k8s.io", "v1", "priorityclasses"
SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class Priority:
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        if not attempt.creates("pods"):
            return obj
        spec = dict(obj["spec"])
        given = spec.get("priority")
        value, policy = 0, "PreemptLowerPriority"
        found = _class(cluster, spec.get("priorityClassName", ""))
        if found is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
            value, policy = found.get("value", 0), found.get("preemptionPolicy") or policy
        elif spec.get("priorityClassName"):
            name = spec["priorityClassName"]
            raise errors.forbidden("pods", attempt.name, f"no PriorityClass with name {name} was found")
        if given is not None and given != value:
            why = f"the integer value of priority ({given}) must not be provided in pod spec; priority admission "
            why += f"controller computed {value} from the given PriorityClass name"
            raise errors.forbidden("pods", attempt.name, why)
        spec["priority"] = value
        spec.setdefault("preemptionPolicy", policy)
        return {**obj, "spec": spec}


def _class(cluster: Cluster, name: str) -> JsonObject | None:
    if name:
        return cluster.lookup(_GROUP, _VERSION, _PLURAL, f"/{name}")
    defaults = []
    for stored in cluster.store.table(_TABLE).all():
        found = cluster.lookup(_GROUP, _VERSION, _PLURAL, stored.name)
        if found is not None and found.get("globalDefault"):
            defaults.append(found)
    return min(defaults, key=lambda one: int(one.get("value", 0)), default=None)
