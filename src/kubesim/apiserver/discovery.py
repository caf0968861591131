"""The documents by which clients learn what the server serves: /api, /apis, resource lists, aggregated discovery.

All of them are made from the registry, so that what a CRD adds is there with the next request.
"""

from __future__ import annotations

from kubesim.errors import JsonObject
from kubesim.schema.registry import Registry, ResourceType

_CLIENT_CIDR = {"clientCIDR": "0.0.0.0/0"}


def api_versions(server: str = "") -> JsonObject:
    """/api"""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{**_CLIENT_CIDR, "serverAddress": server}],
    }


def _group(registry: Registry, name: str) -> JsonObject:
    versions = [
        {"groupVersion": f"{name}/{version}", "version": version} for version in registry.versions(name)
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def api_groups(registry: Registry) -> JsonObject:
    """/apis"""
    groups = [_group(registry, name) for name in registry.groups()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(registry: Registry, name: str) -> JsonObject | None:
    """/apis/GROUP, None where there is no such group."""
    if not name or not registry.has(name):
        return None
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(registry, name)


def resource_list(registry: Registry, group: str, version: str) -> JsonObject | None:
    """/api/v1 and /apis/GROUP/VERSION, None where it is not served."""
    if not registry.has(group, version):
        return None
    resources: list[JsonObject] = []
    for rt in registry.resources(group, version):
        resources.append(_resource(rt))
        resources.extend(_subresource(rt, name) for name in sorted(rt.subresources))
    return {
        "kind": "APIResourceList",
        **({"apiVersion": "v1"} if group else {}),  # the core group's list says it of no version
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": resources,
    }


def _resource(rt: ResourceType) -> JsonObject:
    made: JsonObject = {
        "name": rt.plural,
        "singularName": rt.singular,
        "namespaced": rt.namespaced,
        "kind": rt.kind,
        "verbs": _verbs(rt),
    }
    if rt.kind_group_version:
        made["group"], made["version"] = rt.kind_group_version
    if rt.short_names:
        made["shortNames"] = list(rt.short_names)
    if rt.categories:
        made["categories"] = list(rt.categories)
    if rt.storage_hash:
        made["storageVersionHash"] = rt.storage_hash
    return made


_CUSTOM_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")


def _verbs(rt: ResourceType) -> list[str]:
    """In the order in which the real server writes them."""
    return [verb for verb in _CUSTOM_VERBS if verb in rt.verbs] if rt.custom else sorted(rt.verbs)


def _subresource(rt: ResourceType, name: str) -> JsonObject:
    sub = rt.subresources[name]
    made: JsonObject = {
        "name": f"{rt.plural}/{name}",
        "singularName": "",
        "namespaced": rt.namespaced,
        "kind": sub.kind,
        "verbs": sorted(sub.verbs),
    }
    if sub.group:
        made["group"] = sub.group
    if sub.version:
        made["version"] = sub.version
    return made


def aggregated(registry: Registry, *, core: bool, version: str = "v2") -> JsonObject:
    """/api or /apis as one APIGroupDiscoveryList."""
    items: list[JsonObject] = []
    for group in [""] if core else registry.groups():
        versions = [
            {
                "version": one,
                "resources": [_discovered(rt) for rt in registry.resources(group, one)],
                "freshness": "Current",
            }
            for one in registry.versions(group)
        ]
        items.append({"metadata": {"name": group} if group else {}, "versions": versions})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _discovered(rt: ResourceType) -> JsonObject:
    group, version = rt.kind_group_version or ((rt.group, rt.version) if rt.custom else ("", ""))
    made: JsonObject = {
        "resource": rt.plural,
        "responseKind": {"group": group, "version": version, "kind": rt.kind},
        "scope": "Namespaced" if rt.namespaced else "Cluster",
        "singularResource": rt.singular,
        "verbs": _verbs(rt),
    }
    if rt.short_names:
        made["shortNames"] = list(rt.short_names)
    if rt.categories:
        made["categories"] = list(rt.categories)
    if rt.subresources:
        made["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {
                    "group": sub.group or (rt.group if rt.custom else ""),
                    "version": sub.version or (rt.version if rt.custom else ""),
                    "kind": sub.kind,
                },
                "verbs": sorted(sub.verbs),
            }
            for _, sub in sorted(rt.subresources.items())
        ]
    return made
