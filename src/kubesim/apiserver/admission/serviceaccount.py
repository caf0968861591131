"""ServiceAccount: every pod runs as one, and gets its token as a volume.

The default account of a namespace is made by a controller a moment after the namespace; a pod that comes in between
waits for it that long, as with the real server, and is then refused.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.requests import JsonObject

PATIENCE = 1.0
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607


class ServiceAccounts:
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        if not attempt.creates("pods") or "kubernetes.io/config.mirror" in (
            obj["metadata"].get("annotations") or {}
        ):
            return obj
        spec: dict[str, Any] = obj["spec"]
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec = {**spec, "serviceAccountName": name, "serviceAccount": name}
        account = await self._account(cluster, attempt, name)
        if _automount(spec, account):
            spec = _with_token(spec, f"kube-api-access-{cluster.environment.suffix()}")
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        return {**obj, "spec": spec}

    async def _account(self, cluster: Cluster, attempt: Attempt, name: str) -> JsonObject:
        key = f"{attempt.namespace}/{name}"
        account = cluster.lookup("", "v1", "serviceaccounts", key)
        if account is None:
            await _appears(cluster, key)
            account = cluster.lookup("", "v1", "serviceaccounts", key)
        if account is None:
            raise errors.forbidden(
                "pods",
                attempt.name,
                f"error looking up service account {key}: serviceaccount {errors.quoted(name)} not found",
            )
        return account


async def _appears(cluster: Cluster, key: str) -> None:
    """Wait a moment for the account."""
    table = cluster.store.table("/serviceaccounts")
    try:
        async with asyncio.timeout(PATIENCE):
            while table.get(key) is None:
                waiter = table.changed()
                try:
                    await waiter
                finally:
                    table.ignore(waiter)
    except TimeoutError:
        return


def _automount(spec: dict[str, Any], account: JsonObject) -> bool:
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = account.get("automountServiceAccountToken")
    return wanted is not False


def _with_token(spec: dict[str, Any], volume: str) -> dict[str, Any]:
    """The token volume, and a mount of it in each container that has nothing at its place."""
    used = False

    def mounted(containers: list[JsonObject]) -> list[JsonObject]:
        nonlocal used
        made = []
        for container in containers:
            mounts = container.get("volumeMounts") or []
            if any(mount.get("mountPath") == TOKEN_PATH for mount in mounts):
                made.append(container)
                continue
            used = True
            mount = {"name": volume, "readOnly": True, "mountPath": TOKEN_PATH}
            made.append({**container, "volumeMounts": [*mounts, mount]})
        return made

    spec = {
        **spec,
        **{
            key: mounted(spec[key])
            for key in ("initContainers", "containers", "ephemeralContainers")
            if spec.get(key)
        },
    }
    if used:
        spec["volumes"] = [*(spec.get("volumes") or []), {"name": volume, "projected": _token_sources()}]
    return spec


def _token_sources() -> JsonObject:
    namespace = {
        "path": "namespace",
        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
    }
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
        "defaultMode": 420,
    }
