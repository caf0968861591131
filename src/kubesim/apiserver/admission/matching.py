"""Which requests a webhook or a policy is about: rules of operations and resources, and selectors.

Both kinds of hooks say it in the same words. With `matchPolicy: Equivalent` a rule also takes a request that came
through another version of its resource; the hook is then told of the object in the version of the rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.kinds.conversion import storage_type
from kubesim.apiserver.requests import JsonObject
from kubesim.apiserver.selectors import from_object
from kubesim.schema.registry import Registry, ResourceType

_GROUP = "admissionregistration.k8s.io"
_EXEMPT = frozenset(
    (
        *("validatingwebhookconfigurations", "mutatingwebhookconfigurations"),
        *("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
        *("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
    )
)


def exempt(attempt: Attempt) -> bool:
    """What configures hooks is never shown to them: a broken one could not be taken away."""
    return attempt.rt.group == _GROUP and attempt.rt.plural in _EXEMPT


def namespace_of(attempt: Attempt) -> str:
    """The namespace that a request is in; a Namespace is in itself."""
    return attempt.name if attempt.rt.group_resource == "namespaces" else attempt.namespace


def matched(
    rules: Sequence[JsonObject], policy: str, attempt: Attempt, registry: Registry
) -> ResourceType | None:
    """The resource, in the version in which the first rule knows it; None when no rule takes the request."""
    if any(_takes(rule, attempt, attempt.rt) for rule in rules):
        return attempt.rt
    if policy == "Exact":
        return None
    others = [rt for rt in equivalents(attempt.rt, registry) if rt != attempt.rt]
    return next((rt for rule in rules for rt in others if _takes(rule, attempt, rt)), None)


def equivalents(rt: ResourceType, registry: Registry) -> Iterator[ResourceType]:
    """The same objects under all their names."""
    storage = storage_type(rt, registry)
    for group in dict.fromkeys((rt.group, storage.group, "events.k8s.io" if rt.plural == "events" else "")):
        for version in registry.versions(group) if group else ["v1"]:
            found = registry.find(group, version, rt.plural)
            if found is not None and (found.group == rt.group or storage_type(found, registry) == storage):
                yield found


def _takes(rule: JsonObject, attempt: Attempt, rt: ResourceType) -> bool:
    names = rule.get("resourceNames")
    return (
        _one_of(attempt.operation, rule.get("operations"))
        and _one_of(rt.group, rule.get("apiGroups"))
        and _one_of(rt.version, rule.get("apiVersions"))
        and any(_resource(one, rt.plural, attempt.subresource) for one in rule.get("resources") or ())
        and _scope(rule.get("scope") or "*", attempt)
        and (not names or attempt.name in names)
    )


def _one_of(value: str, listed: Sequence[str] | None) -> bool:
    return any(one in ("*", value) for one in listed or ())


def _resource(rule: str, plural: str, subresource: str) -> bool:
    name, _, sub = rule.partition("/")
    return name in ("*", plural) and sub in ("*", subresource)


def _scope(scope: str, attempt: Attempt) -> bool:
    if scope == "*":
        return True
    cluster = attempt.rt.group_resource == "namespaces" or not attempt.namespace
    return cluster if scope == "Cluster" else not cluster


def selected(cluster: Cluster, hook: JsonObject, attempt: Attempt, obj: JsonObject | None) -> bool:
    """Whether the selectors of a hook take the request. Raises StatusError 404 for a namespace that is not there."""
    return _namespace(cluster, hook.get("namespaceSelector"), attempt, obj) and _object(
        hook.get("objectSelector"), attempt, obj
    )


def namespace_object(cluster: Cluster, attempt: Attempt, obj: JsonObject | None) -> JsonObject | None:
    """The namespace that a request is in, as it is or is about to be; None for what is in none."""
    name = namespace_of(attempt)
    if not name:
        return None
    if attempt.rt.group_resource == "namespaces" and not attempt.subresource and obj is not None:
        return obj
    found = cluster.lookup("", "v1", "namespaces", f"/{name}")
    if found is None:
        raise errors.not_found("namespaces", name)
    return found


def _namespace(
    cluster: Cluster, selector: JsonObject | None, attempt: Attempt, obj: JsonObject | None
) -> bool:
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return True
    found = namespace_object(cluster, attempt, obj)
    return found is None or from_object(selector).matches(_labels(found))


def _object(selector: JsonObject | None, attempt: Attempt, obj: JsonObject | None) -> bool:
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return True
    wanted = from_object(selector)
    return any(
        one is not None and "metadata" in one and wanted.matches(_labels(one)) for one in (obj, attempt.old)
    )


def _labels(obj: JsonObject) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}
