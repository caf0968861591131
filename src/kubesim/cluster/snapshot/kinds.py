"""Which resources a snapshot of objects has, and in which order they come back.

What others rely on comes first: definitions of custom resources, namespaces, nodes, accounts and configuration, then
workloads from the outermost owner inwards; the order of the kinds that KWOK saves is KWOK's, so that its snapshots and
ours can be exchanged. What a cluster makes by itself, or what speaks of a moment that has passed, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kubesim.cluster.errors import InvalidOption
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.requests import Request
from kubewire.resources import Resource

JsonObject = dict[str, Any]

_ORDER = (
    "customresourcedefinitions.apiextensions.k8s.io",
    "namespaces",
    "nodes",
    "serviceaccounts",
    "configmaps",
    "secrets",
    "limitranges",
    "runtimeclasses.node.k8s.io",
    "priorityclasses.scheduling.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "daemonsets.apps",
    "deployments.apps",
    "replicasets.apps",
    "statefulsets.apps",
    "cronjobs.batch",
    "jobs.batch",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "services",
    "endpoints",
)
_LEFT_OUT = frozenset(
    {
        "events",
        "events.events.k8s.io",
        "leases.coordination.k8s.io",
        "endpointslices.discovery.k8s.io",
        "certificatesigningrequests.certificates.k8s.io",
        "apiservices.apiregistration.k8s.io",
        "componentstatuses",
    }
)
_LATE = (
    "resourcequotas",
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "poddisruptionbudgets",
)
"""They could refuse what comes after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A resource that a snapshot can have."""

    resource: Resource
    names: frozenset[str]
    """What a user may call it."""
    has_status: bool

    @property
    def rank(self) -> tuple[int, str]:
        """Lower comes back earlier."""
        name = str(self.resource)
        if name in _ORDER:
            return _ORDER.index(name), name
        return len(_ORDER) + (self.resource.plural in _LATE), name


async def discover(client: Client) -> list[Kind]:
    """The kinds of a cluster that can be listed and created, in order."""
    groups = (await _get(client, "/apis"))["groups"]
    paths = [("", "v1", "/api/v1")]
    for group in groups:
        preferred = group["preferredVersion"]["version"]
        paths.append((group["name"], preferred, f"/apis/{group['name']}/{preferred}"))
    kinds = []
    for group, version, path in paths:
        try:
            listed = (await _get(client, path))["resources"]
        except NotFound:
            continue  # the definition of a custom resource went away meanwhile
        kinds += _kinds(group, version, listed)
    return sorted(kinds, key=lambda kind: kind.rank)


def _kinds(group: str, version: str, listed: Sequence[JsonObject]) -> list[Kind]:
    statuses = {
        entry["name"].partition("/")[0]
        for entry in listed
        if entry["name"].endswith("/status") and "update" in entry["verbs"]
    }
    found = []
    for entry in listed:
        if "/" in entry["name"] or not {"list", "create"} <= set(entry["verbs"]):
            continue
        resource = Resource(group, version, entry["name"], entry["kind"], namespaced=entry["namespaced"])
        if str(resource) in _LEFT_OUT:
            continue
        names = {entry["name"], entry.get("singularName", ""), entry["kind"].lower(), str(resource)}
        names |= set(entry.get("shortNames") or ())
        found.append(
            Kind(resource=resource, names=frozenset(names - {""}), has_status=entry["name"] in statuses)
        )
    return found


def chosen(kinds: Sequence[Kind], wanted: Sequence[str]) -> list[Kind]:
    """Those that the user named (all, if none); InvalidOption for a name that is nobody's."""
    if not wanted:
        return list(kinds)
    unknown = [name for name in wanted if not any(name.lower() in kind.names for kind in kinds)]
    if unknown:
        raise InvalidOption(
            f"There is no kind {', '.join(map(repr, unknown))} that a snapshot could have.",
            remedy="See what there is: kubectl api-resources --verbs=list,create",
        )
    return [kind for kind in kinds if any(name.lower() in kind.names for name in wanted)]


def own_of_cluster(obj: JsonObject) -> bool:
    """What each cluster makes by itself, with its own addresses and certificates."""
    metadata, kind = obj["metadata"], obj["kind"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    if kind == "ConfigMap" and name == "kube-root-ca.crt":
        return True
    if kind in ("Service", "Endpoints") and (namespace, name) == ("default", "kubernetes"):
        return True
    if kind == "PriorityClass" and name in ("system-cluster-critical", "system-node-critical"):
        return True
    return (metadata.get("labels") or {}).get("kubernetes.io/bootstrapping") == "rbac-defaults"


async def _get(client: Client, path: str) -> JsonObject:
    return (await client.raw(Request(method="GET", path=path), client.deadlines.read)).json()
