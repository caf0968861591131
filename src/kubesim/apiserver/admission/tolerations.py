"""DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or cannot be reached."""

from __future__ import annotations

from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.requests import JsonObject

SECONDS = 300
_KEYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class DefaultTolerations:
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        if not attempt.creates("pods"):
            return obj
        tolerations = list(obj["spec"].get("tolerations") or [])
        missing = [key for key in _KEYS if not any(_tolerates(one, key) for one in tolerations)]
        tolerations += [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
            for key in missing
        ]
        return {**obj, "spec": {**obj["spec"], "tolerations": tolerations}} if missing else obj


def _tolerates(toleration: JsonObject, key: str) -> bool:
    return toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")
