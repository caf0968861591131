"""RuntimeClass: a pod that names a class gets what running under it costs, and goes where the class can run."""

from __future__ import annotations

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.requests import JsonObject

_GROUP, _VERSION, _PLURAL = "node.k8s.io", "v1", "runtimeclasses"


class RuntimeClasses:
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        if not attempt.creates("pods"):
            return obj
        spec, name = obj["spec"], obj["spec"].get("runtimeClassName")
        found: JsonObject = {}
        if name:
            known = cluster.lookup(_GROUP, _VERSION, _PLURAL, f"/{name}")
            if known is None:
                raise _refused(attempt, f'pod rejected: RuntimeClass "{name}" not found')
            found = known
        overhead = (found.get("overhead") or {}).get("podFixed") or {}
        given = spec.get("overhead")
        if given is not None and given != overhead:
            if not overhead:
                why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                raise _refused(attempt, why)
            why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
            raise _refused(attempt, why)
        made = {**spec, "overhead": overhead} if overhead else spec
        made = _placed(attempt, made, found.get("scheduling") or {})
        return obj if made is spec else {**obj, "spec": made}


def _placed(attempt: Attempt, spec: JsonObject, scheduling: JsonObject) -> JsonObject:
    """The pod's own node selector and tolerations with those of its class."""
    selector, own = scheduling.get("nodeSelector") or {}, spec.get("nodeSelector") or {}
    for key, value in selector.items():
        if own.get(key, value) != value:
            why = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
            raise _refused(attempt, f"{why}pod.spec.nodeSelector[{key}] = {own[key]}")
    made = {**spec, "nodeSelector": {**own, **selector}} if selector else spec
    tolerations = list(made.get("tolerations") or ())
    more = [one for one in scheduling.get("tolerations") or () if one not in tolerations]
    return {**made, "tolerations": [*tolerations, *more]} if more else made


def _refused(attempt: Attempt, why: str) -> errors.StatusError:
    return errors.forbidden("pods", attempt.name, why)
