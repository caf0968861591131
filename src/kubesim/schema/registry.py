"""Which resources there are: groups, versions, kinds, verbs, short names, subresources.

The built-in ones come from the discovery documents of the real server; CRDs are added and removed while the server
runs, and everything that asks (routing, discovery, field selectors) asks here. The registry says what exists; what
an object of a kind looks like is `types`, what happens to it on its way to the store is `apiserver.kinds`.

    registry = builtin()
    registry.find("apps", "v1", "deployments").group_resource     # "deployments.apps"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kubesim.schema.data import load

if TYPE_CHECKING:
    from kubesim.schema.types import ObjectType


@dataclass(frozen=True, slots=True, kw_only=True)
class Subresource:
    """`status`, `scale`, `log`, ...: the kind that it takes may be of another group."""

    name: str
    kind: str
    verbs: frozenset[str]
    group: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class ResourceType:
    """One resource of one version, as discovery lists it."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    verbs: frozenset[str]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: Mapping[str, Subresource] = field(default_factory=dict)
    list_kind: str = ""
    storage_hash: str = ""
    custom: bool = False
    schema: ObjectType | None = None
    selectable_fields: tuple[str, ...] = ()
    columns: tuple[Mapping[str, Any], ...] = ()
    """The printer columns of a custom resource."""
    kind_group_version: tuple[str, str] | None = None
    """Where the kind belongs to another group than the resource."""
    openapi: Mapping[str, Any] | None = None
    """The structural schema of a custom resource, as OpenAPI publishes it."""
    scale_paths: tuple[str, str, str] | None = None
    """Where a custom resource has the replicas of its spec, those of its status, and its label selector."""
    deprecation: str = ""
    """What every request to this version is warned of."""
    terminating: bool = False
    """The definition of the custom resource is being deleted: nothing new is taken."""
    as_stored: bool = True
    """What is stored is what is served: no other version or older schema of a custom resource has written it."""

    def __hash__(self) -> int:
        return hash((self.group, self.version, self.plural))

    @cached_property
    def api_version(self) -> str:
        """`v1` or `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def error_group(self) -> str:
        """The group that errors name: events of both groups are one thing, and of the core group."""
        return "" if (self.group, self.plural) == ("events.k8s.io", "events") else self.group

    @cached_property
    def group_resource(self) -> str:
        """`pods` or `deployments.apps`, as errors name it."""
        return f"{self.plural}.{self.error_group}" if self.error_group else self.plural

    @cached_property
    def group_kind(self) -> str:
        """`Pod` or `Deployment.apps`, as validation errors name it."""
        return f"{self.kind}.{self.error_group}" if self.error_group else self.kind

    @cached_property
    def list_kind_name(self) -> str:
        return self.list_kind or f"{self.kind}List"


class Registry:
    """The resources that a server serves. Not thread safe: it belongs to the event loop."""

    def __init__(self, types: Iterable[ResourceType] = (), group_order: Iterable[str] = ()) -> None:
        self._types: dict[tuple[str, str], dict[str, ResourceType]] = {}
        self._kinds: dict[tuple[str, str, str], ResourceType] = {}
        self._groups: dict[str, list[str]] = {name: [] for name in group_order}
        self.generation = 0
        for rt in types:
            self.add(rt)

    def add(self, rt: ResourceType) -> None:
        """Serve it; one of the same group, version and plural is replaced."""
        versions = self._groups.setdefault(rt.group, [])
        if rt.version not in versions:
            versions.append(rt.version)
        self._types.setdefault((rt.group, rt.version), {})[rt.plural] = rt
        if rt.kind:
            self._kinds.setdefault((rt.group, rt.version, rt.kind), rt)
            if rt.custom:
                self._kinds[rt.group, rt.version, rt.kind] = rt
        self.generation += 1

    def remove(self, group: str, version: str, plural: str) -> None:
        """Serve it no longer; a version or a group without resources goes with it."""
        resources = self._types.get((group, version), {})
        rt = resources.pop(plural, None)
        if rt is None:
            return
        self._kinds.pop((group, version, rt.kind), None)
        if not resources:
            self._types.pop((group, version), None)
            self._groups[group].remove(version)
            if not self._groups[group]:
                del self._groups[group]
        self.generation += 1

    def find(self, group: str, version: str, plural: str) -> ResourceType | None:
        return self._types.get((group, version), {}).get(plural)

    def by_kind(self, group: str, version: str, kind: str) -> ResourceType | None:
        return self._kinds.get((group, version, kind))

    def groups(self) -> list[str]:
        """All groups in the order of /apis; the core group ("") is not among them."""
        return [group for group, versions in self._groups.items() if group and versions]

    def versions(self, group: str) -> list[str]:
        """The versions of a group, preferred first."""
        return list(self._groups.get(group, ()))

    def set_versions(self, group: str, versions: list[str]) -> None:
        """Order the versions of a group (CRDs: Kubernetes' version priority)."""
        known = self._groups.get(group, [])
        known.sort(key=lambda version: versions.index(version) if version in versions else len(versions))
        self.generation += 1

    def has(self, group: str, version: str = "") -> bool:
        """Whether the group (and the version) is served at all: decides between a 404 Status and a plain 404."""
        return version in self._groups.get(group, ()) if version else bool(self._groups.get(group))

    def resources(self, group: str, version: str) -> list[ResourceType]:
        """The resources of one version, by name."""
        return sorted(self._types.get((group, version), {}).values(), key=lambda rt: rt.plural)

    def all(self) -> list[ResourceType]:
        return [rt for resources in self._types.values() for rt in resources.values()]


def _resource_types(group: str, version: str, listed: list[dict[str, Any]]) -> Iterable[ResourceType]:
    subresources: dict[str, dict[str, Subresource]] = {}
    for entry in listed:
        plural, _, name = entry["name"].partition("/")
        if name:
            subresources.setdefault(plural, {})[name] = Subresource(
                name=name,
                kind=entry["kind"],
                verbs=frozenset(entry["verbs"]),
                group=entry.get("group", ""),
                version=entry.get("version", ""),
            )
    for entry in listed:
        if "/" in entry["name"]:
            continue
        yield ResourceType(
            group=group,
            version=version,
            plural=entry["name"],
            singular=entry["singularName"],
            kind=entry["kind"],
            namespaced=entry["namespaced"],
            verbs=frozenset(entry["verbs"]),
            short_names=tuple(entry.get("shortNames", ())),
            categories=tuple(entry.get("categories", ())),
            subresources=subresources.get(entry["name"], {}),
            storage_hash=entry.get("storageVersionHash", ""),
            kind_group_version=(entry["group"], entry["version"]) if "group" in entry else None,
        )


def builtin() -> Registry:
    """A new registry with everything that Kubernetes 1.36 has built in."""
    data = load("discovery")
    registry = Registry(group_order=["", *(group["name"] for group in data["apis"]["groups"])])
    order = {"": ["v1"]} | {
        group["name"]: [version["version"] for version in group["versions"]]
        for group in data["apis"]["groups"]
    }
    for group, versions in order.items():
        for version in versions:
            listed = data["lists"][f"{group}/{version}" if group else version]
            for rt in _resource_types(group, version, listed):
                registry.add(rt)
    return registry
