"""DefaultStorageClass: a claim that does not say which class it wants gets the cluster's default one."""

from __future__ import annotations

from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.requests import JsonObject

_GROUP, _VERSION, _PLURAL = "storage.k8s.io", "v1", "storageclasses"
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_BETA = "volume.beta.kubernetes.io/storage-class"


class DefaultStorageClass:
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        if not attempt.creates("persistentvolumeclaims"):
            return obj
        spec = obj["spec"]
        if spec.get("storageClassName") is not None or _BETA in (obj["metadata"].get("annotations") or {}):
            return obj
        found = _default(cluster)
        return obj if found is None else {**obj, "spec": {**spec, "storageClassName": found}}


def _default(cluster: Cluster) -> str | None:
    """The newest of the default classes, the first by name among equals."""
    marked: list[tuple[str, str]] = []
    for stored in cluster.store.table(f"{_GROUP}/{_PLURAL}").all():
        found = cluster.lookup(_GROUP, _VERSION, _PLURAL, stored.name)
        if found is not None and (found["metadata"].get("annotations") or {}).get(_DEFAULT) == "true":
            marked.append((found["metadata"].get("creationTimestamp", ""), found["metadata"]["name"]))
    newest = max((made for made, _ in marked), default="")
    return min((name for made, name in marked if made == newest), default=None)
