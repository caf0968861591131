"""What a cluster has before anybody has asked for anything: namespaces, priority classes, the `kubernetes`
Service, the default roles.

Everything here is found again after a restart and then left alone. The uid of `kube-system` is the identity
of the cluster: clients recognise it by that.
"""

from __future__ import annotations

from kubesim.apiserver.admission.priority import SYSTEM_CLASSES
from kubesim.apiserver.core import Core
from kubesim.apiserver.defaulting import default
from kubesim.apiserver.objects import decode, encode
from kubesim.apiserver.rbac import bootstrap as rbac
from kubesim.apiserver.rbac.authorizer import GROUP as RBAC
from kubesim.apiserver.requests import JsonObject
from kubesim.schema.decode import canonical_object
from kubesim.schema.registry import ResourceType
from kubesim.store import KeyExists

NAMESPACES = ("kube-system", "default", "kube-public", "kube-node-lease")
PORT = 6443
_PRIORITY_TEXT = {
    "system-cluster-critical": "Used for system critical pods that must run in the cluster, but can be moved to "
    "another node if necessary.",
    "system-node-critical": "Used for system critical pods that must not be moved from their current node.",
}


async def start(core: Core) -> None:
    services = _type(core, "", "v1", "services")
    for stored in core.store.table("/services").all():
        core.addresses.adopt(decode(stored.data, services))
    for name in NAMESPACES:
        await _ensure(
            core,
            _type(core, "", "v1", "namespaces"),
            {
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            },
        )
    for name, value in SYSTEM_CLASSES.items():
        await _ensure(
            core,
            _type(core, "scheduling.k8s.io", "v1", "priorityclasses"),
            {
                "metadata": {"name": name, "generation": 1},
                "value": value,
                "description": _PRIORITY_TEXT[name],
            },
        )
    created = await _ensure(core, services, _kubernetes_service(core.addresses.first))
    if created is not None:
        core.addresses.adopt(created)
    await _access(core)


async def _access(core: Core) -> None:
    """The default roles and bindings."""

    def look(resource: str, key: str) -> JsonObject | None:
        return core.lookup(RBAC, "v1", resource, key)

    async def write(resource: str, obj: JsonObject, there: bool) -> None:
        if there:
            meta = obj["metadata"]
            await core.store.update(
                f"{RBAC}/{resource}",
                f"{meta.get('namespace', '')}/{meta['name']}",
                int(meta["resourceVersion"]),
                lambda revision: encode(obj, revision),
            )
        else:
            await _ensure(core, _type(core, RBAC, "v1", resource), obj)

    await rbac.reconcile(look, write)


async def _ensure(core: Core, rt: ResourceType, obj: JsonObject) -> JsonObject | None:
    """Create the object unless there is one; returns what was created."""
    meta = {
        **obj["metadata"],
        "uid": core.environment.uid(),
        "creationTimestamp": core.environment.timestamp(),
    }
    made = default(rt, canonical_object(rt, {**obj, "metadata": meta}))
    key = f"{meta.get('namespace', '')}/{meta['name']}"
    try:
        await core.store.create(f"{rt.group}/{rt.plural}", key, lambda revision: encode(made, revision))
    except KeyExists:
        return None
    return made


def _type(core: Core, group: str, version: str, plural: str) -> ResourceType:
    rt = core.registry.find(group, version, plural)
    if rt is None:
        raise LookupError(f"the registry has no {plural} in {group}/{version}")
    return rt


def _kubernetes_service(address: str) -> JsonObject:
    return {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": PORT}],
        },
        "status": {"loadBalancer": {}},
    }
