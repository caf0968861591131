"""The parameters of a policy: the objects that a binding names, of the kind that the policy wants."""

from __future__ import annotations

from collections.abc import Iterator

from kubesim.apiserver.admission.base import Cluster
from kubesim.apiserver.requests import JsonObject
from kubesim.apiserver.selectors import from_object
from kubesim.schema.registry import ResourceType


class NoParams(Exception):
    """The parameters cannot be found, and the policy cannot be evaluated without."""

    def __init__(self, why: str, *, of_binding: bool = True) -> None:
        self.of_binding = of_binding
        super().__init__(f"failed to configure {'binding' if of_binding else 'policy'}: {why}")


def params_of(
    cluster: Cluster, policy: JsonObject, binding: JsonObject, namespace: str
) -> Iterator[JsonObject | None]:
    """One evaluation for each; None where there are no parameters to be had. Raises NoParams."""
    kind, reference = policy.get("paramKind"), binding.get("paramRef")
    if kind is None or reference is None:
        yield None
        return
    rt = _resource(cluster, kind)
    found = list(_found(cluster, rt, reference, _home(rt, reference, namespace)))
    if not found and reference.get("parameterNotFoundAction") == "Deny":
        raise NoParams("no params found for policy binding with `Deny` parameterNotFoundAction")
    yield from found


def _resource(cluster: Cluster, kind: JsonObject) -> ResourceType:
    group, _, version = kind["apiVersion"].rpartition("/")
    rt = cluster.registry.by_kind(group, version, kind["kind"])
    if rt is None:
        named = f"{kind['apiVersion']}, Kind={kind['kind']}"
        why = f"failed to find resource referenced by paramKind: '{named}'"
        raise NoParams(why, of_binding=False)
    return rt


def _home(rt: ResourceType, reference: JsonObject, namespace: str) -> str:
    """The namespace in which parameters are looked for."""
    given = reference.get("namespace") or ""
    if not rt.namespaced:
        if given:
            raise NoParams("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        return ""
    if not (given or namespace):
        raise NoParams(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
        )
    return given or namespace


def _found(cluster: Cluster, rt: ResourceType, reference: JsonObject, namespace: str) -> Iterator[JsonObject]:
    if reference.get("name"):
        one = cluster.lookup(rt.group, rt.version, rt.plural, f"{namespace}/{reference['name']}")
        if one is not None:
            yield one
        return
    selector = from_object(reference.get("selector") or {})
    for key in sorted(
        stored.name for stored in cluster.store.table(f"{rt.group}/{rt.plural}").all(namespace)
    ):
        one = cluster.lookup(rt.group, rt.version, rt.plural, key)
        if one is not None and selector.matches(one["metadata"].get("labels") or {}):
            yield one
