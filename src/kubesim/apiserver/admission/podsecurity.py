"""PodSecurity: the labels of a namespace say what pods in it may ask for.

`pod-security.kubernetes.io/enforce` refuses pods; `warn` and `audit` tell of pods and of what will make pods. A
namespace with a label that says nothing is refused, and one that becomes stricter warns of the pods that are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.podsecurity import LEVELS, Violation, violations
from kubesim.apiserver.requests import JsonObject
from kubesim.errors import FieldError

PREFIX = "pod-security.kubernetes.io/"
_MODES = ("enforce", "audit", "warn")
_VERSION = re.compile(r"latest|v1\.(0|[1-9]\d*)")
_WATCHED = frozenset({"", "ephemeralcontainers"})
_TEMPLATES = frozenset(
    (
        *("replicationcontrollers", "podtemplates", "replicasets.apps", "deployments.apps"),
        *("daemonsets.apps", "statefulsets.apps", "jobs.batch", "cronjobs.batch"),
    )
)
_MOST_SHOWN = 10


class PodSecurity:
    """A validator of admission."""

    async def validate(self, cluster: Cluster, attempt: Attempt, obj: JsonObject | None) -> None:
        resource = attempt.rt.group_resource
        if obj is None or attempt.of is not None or attempt.operation not in ("CREATE", "UPDATE"):
            return
        if resource == "namespaces" and not attempt.subresource:
            _namespace(cluster, attempt, obj)
        elif resource == "pods" and attempt.subresource in _WATCHED:
            if attempt.operation == "CREATE" or _significant(attempt.old or {}, obj):
                _pod(cluster, attempt, obj)
        elif resource in _TEMPLATES and not attempt.subresource:
            template = _template(obj)
            if template is not None:
                labels = _labels(cluster, attempt.namespace)
                _tell(attempt, labels, template.get("metadata") or {}, template.get("spec") or {})


def _labels(cluster: Cluster, namespace: str) -> dict[str, str]:
    found = cluster.lookup("", "v1", "namespaces", f"/{namespace}") or {}
    return (found.get("metadata") or {}).get("labels") or {}


def _policy(labels: dict[str, str], mode: str) -> tuple[str, str]:
    """The level, and `level:version` as messages have it."""
    level = labels.get(PREFIX + mode, "privileged")
    return level, f"{level}:{labels.get(f'{PREFIX}{mode}-version', 'latest')}"


def _listed(found: list[Violation]) -> str:
    return ", ".join(map(str, found))


def _pod(cluster: Cluster, attempt: Attempt, pod: JsonObject) -> None:
    labels = _labels(cluster, attempt.namespace)
    if not any(key.startswith(PREFIX) for key in labels):
        return
    level, shown = _policy(labels, "enforce")
    attempt.notes.audit[f"{PREFIX}enforce-policy"] = shown
    found = violations(level, pod["metadata"], pod["spec"])
    if found:
        why = f'violates PodSecurity "{shown}": {_listed(found)}'
        _tell(attempt, labels, pod["metadata"], pod["spec"], warn=False)
        raise errors.forbidden("pods", pod["metadata"].get("name") or attempt.name, why)
    _tell(attempt, labels, pod["metadata"], pod["spec"])


def _tell(
    attempt: Attempt, labels: dict[str, str], meta: JsonObject, spec: JsonObject, *, warn: bool = True
) -> None:
    """What is said and not refused; nobody is warned of what was refused."""
    level, shown = _policy(labels, "audit")
    found = violations(level, meta, spec)
    if found:
        text = f'would violate PodSecurity "{shown}": {_listed(found)}'
        attempt.notes.audit[f"{PREFIX}audit-violations"] = text
    level, shown = _policy(labels, "warn")
    found = violations(level, meta, spec) if warn else []
    if found:
        attempt.notes.warnings.append(f'would violate PodSecurity "{shown}": {_listed(found)}')


def _template(obj: JsonObject) -> JsonObject | None:
    spec = obj.get("spec") or {}
    if "jobTemplate" in spec:
        spec = (spec["jobTemplate"] or {}).get("spec") or {}
    found: JsonObject | None = spec.get("template") or obj.get("template")
    return found


def _significant(old: JsonObject, new: JsonObject) -> bool:
    """Whether an update changes what checks look at: everything of the spec but images."""

    def bare(pod: JsonObject) -> JsonObject:
        spec = dict(pod.get("spec") or {})
        for key in ("containers", "initContainers"):
            spec[key] = [{**one, "image": ""} for one in spec.get(key) or ()]
        for key in ("activeDeadlineSeconds", "tolerations"):
            spec.pop(key, None)
        return spec

    return bare(old) != bare(new)


# Namespaces


def _namespace(cluster: Cluster, attempt: Attempt, namespace: JsonObject) -> None:
    labels = namespace["metadata"].get("labels") or {}
    before = ((attempt.old or {}).get("metadata") or {}).get("labels") or {}
    wrong = list(_label_errors(labels))
    if wrong:
        unchanged = all(labels.get(key) == before.get(key) for key in labels if key.startswith(PREFIX))
        if attempt.operation == "CREATE" or not unchanged:
            raise errors.invalid("Namespace", namespace["metadata"].get("name", ""), wrong)
        return
    level, shown = _policy(labels, "enforce")
    if attempt.operation == "UPDATE" and LEVELS.index(level) > LEVELS.index(_known(before)):
        attempt.notes.warnings += list(_existing(cluster, attempt.name, level, shown))


def _known(labels: dict[str, str]) -> str:
    level, _ = _policy(labels, "enforce")
    return level if level in LEVELS else "restricted"


def _label_errors(labels: dict[str, str]) -> Iterator[FieldError]:
    for mode in _MODES:
        for key in (f"{PREFIX}{mode}", f"{PREFIX}{mode}-version"):
            value = labels.get(key)
            if value is None:
                continue
            where = f"metadata.labels[{key}]"
            if key.endswith("-version") and not _VERSION.fullmatch(value):
                yield errors.invalid_value(where, value, 'must be "latest" or "v1.x"')
            elif not key.endswith("-version") and value not in LEVELS:
                yield errors.invalid_value(where, value, f"must be one of {', '.join(LEVELS)}")


def _existing(cluster: Cluster, namespace: str, level: str, shown: str) -> Iterator[str]:
    """Warnings of pods that are there and could not be made any more, together by what they violate."""
    by: dict[str, list[str]] = {}
    for stored in cluster.store.table("/pods").all(namespace):
        pod = cluster.lookup("", "v1", "pods", stored.name)
        found = violations(level, pod["metadata"], pod["spec"]) if pod is not None else []
        if found and pod is not None:
            by.setdefault(", ".join(one.reason for one in found), []).append(pod["metadata"]["name"])
    if not by:
        return
    yield f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{shown}"'
    for reasons, names in list(by.items())[:_MOST_SHOWN]:
        more = len(names) - 1
        also = f" (and {more} other pod{'s' if more > 1 else ''})" if more else ""
        yield f"{min(names)}{also}: {reasons}"
