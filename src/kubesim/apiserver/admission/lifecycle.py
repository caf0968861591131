"""NamespaceLifecycle: nothing is created in a namespace that is not there, or that is going."""

from __future__ import annotations

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.requests import JsonObject


class NamespaceLifecycle:
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        if attempt.operation != "CREATE" or not attempt.namespace or not attempt.rt.namespaced:
            return obj
        if attempt.rt.group == "authorization.k8s.io":
            return obj
        namespace = cluster.lookup("", "v1", "namespaces", f"/{attempt.namespace}")
        if namespace is None:
            raise errors.not_found("namespaces", attempt.namespace)
        if namespace["metadata"].get("deletionTimestamp"):
            name = attempt.namespace
            refusal = errors.forbidden(
                attempt.rt.group_resource,
                attempt.name,
                f"unable to create new content in namespace {name} because it is being terminated",
            )
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {name} is being terminated",
                "field": "metadata.namespace",
            }
            refusal.details = {**(refusal.details or {}), "causes": [cause]}
            raise refusal
        return obj
