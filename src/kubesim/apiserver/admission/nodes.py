"""TaintNodesByCondition: a node is born not ready, until somebody has seen that it is."""

from __future__ import annotations

from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.requests import JsonObject

NOT_READY = "node.kubernetes.io/not-ready"


class TaintNewNodes:
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        if not attempt.creates("nodes"):
            return obj
        spec = obj.get("spec", {})
        taints = spec.get("taints") or []
        if any(taint.get("key") == NOT_READY for taint in taints):
            return obj
        taint = {"key": NOT_READY, "effect": "NoSchedule"}
        return {**obj, "spec": {**spec, "taints": [*taints, taint]}}
