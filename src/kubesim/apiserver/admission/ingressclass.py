"""DefaultIngressClass: an ingress that does not say which class it wants gets the cluster's default one."""

from __future__ import annotations

from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.kinds.networking import CLASS_ANNOTATION
from kubesim.apiserver.requests import JsonObject

_GROUP, _VERSION, _PLURAL = "networking.k8s.io", "v1", "ingressclasses"
_DEFAULT = "ingressclass.kubernetes.io/is-default-class"


class DefaultIngressClass:
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        if not attempt.creates(f"ingresses.{_GROUP}"):
            return obj
        annotations = obj["metadata"].get("annotations") or {}
        if obj["spec"].get("ingressClassName") is not None or CLASS_ANNOTATION in annotations:
            return obj
        found = _default(cluster)
        return obj if found is None else {**obj, "spec": {**obj["spec"], "ingressClassName": found}}


def _default(cluster: Cluster) -> str | None:
    """The newest of the default classes, the first by name among equals."""
    marked: list[tuple[str, str]] = []
    for stored in cluster.store.table(f"{_GROUP}/{_PLURAL}").all():
        found = cluster.lookup(_GROUP, _VERSION, _PLURAL, stored.name)
        if found is not None and (found["metadata"].get("annotations") or {}).get(_DEFAULT) == "true":
            marked.append((found["metadata"].get("creationTimestamp", ""), found["metadata"]["name"]))
    newest = max((made for made, _ in marked), default="")
    return min((name for made, name in marked if made == newest), default=None)
